"""What a release's recipes chose, where a case does not say."""

from __future__ import annotations

from typing import Any

import pytest

from predictor.case import Case

FUSED = ("fused", "deepep", True, "iteration")
NOTHING = (None, None, None, None)


def plan_of(record: dict[str, Any], **plan: Any) -> Any:
    return Case.from_dict({**record, "plan": plan}).plan


@pytest.mark.parametrize(
    ("framework", "model", "told"),
    [
        ("NeMo (NeMo24.03.01)", "Llama2-7B", "flash"),
        ("NeMo 24.07 / Megatron-Core", "Llama3-8B", "flash"),
        ("NeMo 1.x (24.09-24.12)", "Grok1-proxy-4L", "flash"),
        ("NeMo 1.x (24.09-24.12)", "GPT3-175B", "flash"),
        ("NeMo 1.x (24.09-24.12)", "Nemotron4-340B", "flash"),
        ("NeMo 1.x (24.09-24.12)", "Nemotron4-15B", None),
        ("NeMo 1.x (24.09-24.12)", "Llama3-8B", None),
        ("NeMo 2.x", "Grok1-314B", None),
        (None, None, None),
    ],
)
def test_a_release_of_nemo_tells_whose_attention_ran(
    framework: str | None, model: str | None, told: str | None
) -> None:
    record: dict[str, Any] = {
        "model": {"preset": "llama3-8b", "name": model},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 8},
        "framework": framework,
    }
    assert plan_of(record).attention_backend == told
    assert plan_of(record, attention_backend="cudnn").attention_backend == "cudnn"


@pytest.mark.parametrize(
    ("notes", "gpu", "precision", "told"),
    [
        ("container 26.06 NeMo Container", "gb300", "mxfp8", FUSED),
        ("container 26.08 NeMo Container", "gb200", "mxfp8", FUSED),
        ("container 26.06 NeMo Container", "b300-sxm", "mxfp8", FUSED),
        ("container 26.06 NeMo Container", "b200-sxm", "mxfp8", NOTHING),
        ("container 26.06 NeMo Container", "gb300", "bf16", NOTHING),
        ("container 26.04.01 NeMo Container", "gb300", "mxfp8", NOTHING),
        ("container 25.09 NeMo Container", "b200-sxm", "fp8", (None, None, None, "iteration")),
        ("container 25.09 NeMo Container", "h100-sxm5-80gb", "fp8", NOTHING),
    ],
)
def test_a_release_of_megatron_bridge_tells_how_experts_run(
    notes: str, gpu: str, precision: str, told: tuple[object, ...]
) -> None:
    record = {
        "model": {"preset": "qwen3-30b-a3b", "name": "Qwen3-30B-A3B"},
        "training": {"precision": precision},
        "cluster": {"gpu": gpu, "num_gpus": 8},
        "notes": notes,
    }
    plan = plan_of(record)
    assert (plan.moe_experts, plan.moe_dispatcher, plan.moe_overlap, plan.cuda_graph) == told


def test_a_regression_that_a_record_names_takes_the_fused_kernel_away() -> None:
    record = {
        "model": {"preset": "gpt-oss-120b", "name": "GPT-OSS-120B"},
        "training": {"precision": "mxfp8"},
        "cluster": {"gpu": "gb300", "num_gpus": 64},
        "notes": "container 26.06.01 NeMo Container; known regression (cudnn-frontend #256)",
    }
    plan = plan_of(record)
    assert (plan.moe_experts, plan.cuda_graph) == ("grouped", "iteration")


QKV = ("linear_qkv",)


@pytest.mark.parametrize(
    ("framework", "notes", "model", "told"),
    [
        ("NeMo 24.07 / Megatron-Core", "task=LoRA; original revision", "Llama2-7B", (32, QKV)),
        ("NeMo 1.x (24.09-24.12)", "LoRA fine-tuning, packed 4096", "Llama3-8B", (8, QKV)),
        ("NeMo 2.x", "LoRA fine-tuning", "Llama3.1-405B", (16, QKV)),
        ("Megatron-Bridge / Megatron-Core", "TASK=LoRA Performance", "Llama3-70B", (16, QKV)),
        ("NeMo AutoModel (PyTorch FSDP2)", "task=LoRA fine-tune", "Llama3-8B", (16, None)),
        ("NeMo 1.x (24.09-24.12)", "SFT fine-tuning; PEFT/SFT", "Llama3-8B", (None, None)),
        ("Paxml", "fine-tuning (SFT rows 1-2, LoRA rows 3-4)", "Llama2-7B", (None, None)),
        (None, "task=LoRA", "Llama3-8B", (None, None)),
    ],
)
def test_a_record_that_says_lora_has_the_adapters_of_its_releases_recipe(
    framework: str | None, notes: str, model: str, told: tuple[object, ...]
) -> None:
    record: dict[str, Any] = {
        "model": {"preset": "llama3-8b", "name": model},
        "training": {"seq_length": 4096, "adapter_modules": None},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 8},
        "framework": framework,
        "notes": notes,
    }
    training = Case.from_dict(record).training
    assert (training.adapter_rank, training.adapter_modules) == told
    own = Case.from_dict(record | {"training": {"adapter_rank": 4}}).training
    assert (own.adapter_rank, own.adapter_modules) == (4, None)


@pytest.mark.parametrize(
    ("source", "notes", "given", "chunks"),
    [
        ("MLCommons MLPerf Training v3.1 result logs", "interleaving in conf yaml", 1, 12),
        ("MLCommons MLPerf Training v3.1 result logs", "interleaving in conf yaml", 6, 6),
        ("MLCommons MLPerf Training v3.1 result logs", None, 1, 1),
        ("MLCommons MLPerf Training v4.0 result logs", "interleaving in conf yaml", 1, 1),
    ],
)
def test_a_submission_tells_its_chunks_where_the_record_could_not(
    source: str, notes: str | None, given: int, chunks: int
) -> None:
    record = {
        "model": {"preset": "gpt3-175b", "name": "GPT3-175B"},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 768},
        "source": source,
        "notes": notes,
    }
    plan = plan_of(record, pipeline_parallel=8, tensor_parallel=4, virtual_pipeline=given)
    assert plan.virtual_pipeline == chunks
