"""Defaults: what is filled, what is told, and what a public model's name fills."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.case import (
    Case,
    load_model,
    model_names,
    resolve,
    tensor_parallel_candidates,
)
from predictor.case.defaults import DEFAULTS
from predictor.errors import CaseError

H100 = {"gpu": "h100-sxm5-80gb"}
SHORT = {"seq_length": 1024}


def on_gpus(count: int, model: dict[str, Any], **sections: Any) -> Case:
    return Case.from_dict({"model": model, "cluster": {**H100, "num_gpus": count}, **sections})


def test_three_words_are_a_whole_case() -> None:
    resolved = resolve(on_gpus(8, {"preset": "llama3-8b"}))
    case = resolved.case
    assert case.implementation == "megatron-core-te"
    assert (case.training.seq_length, case.training.micro_batch_size) == (8192, 1)
    assert (case.plan.data_parallel, case.training.global_batch_size) == (8, 64)
    assert (case.plan.sharding, case.cluster.gpus_per_node) == ("optimizer", 8)
    assert "training.seq_length = 8192" in resolved.defaults_taken
    assert "training.micro_batch_size = 1" in resolved.defaults_taken


def test_what_is_given_is_kept_and_not_told() -> None:
    case = on_gpus(8, {"preset": "llama3-8b"}, training={"seq_length": 1024})
    resolved = resolve(case)
    assert resolved.case.training.seq_length == 1024
    assert not any("seq_length" in line for line in resolved.defaults_taken)


def test_a_resolved_case_resolves_to_itself() -> None:
    once = resolve(on_gpus(16, {"preset": "mixtral-8x7b"})).case
    assert resolve(once).case == once


def test_one_gpu_shards_nothing_and_a_single_format_stack_keeps_no_master_weights() -> None:
    case = on_gpus(1, {"preset": "gpt2"}, implementation="hf-eager")
    training = resolve(case).case.training
    assert resolve(case).case.plan.sharding == "none"
    assert (training.master_weights, training.gradient_dtype) == ("none", "bf16")
    assert training.optimizer == "adamw-fused-bf16-states"


def test_the_name_of_a_public_model_fills_what_a_record_left_out() -> None:
    record = {
        "name": "Qwen3-8B",
        "num_layers": 4,
        "hidden_size": 4096,
        "ffn_hidden_size": 12288,
        "num_attention_heads": 32,
        "num_query_groups": 8,
        "gated_mlp": True,
    }
    resolved = resolve(on_gpus(1, record, training={"seq_length": 2048}))
    model = resolved.case.model
    assert (model.num_layers, model.vocab_size, model.qk_norm) == (4, 151_936, True)
    assert "model.vocab_size = 151936, as qwen3-8b has it" in resolved.defaults_taken


def test_a_name_fills_nothing_where_the_shape_differs() -> None:
    record = {
        "name": "Qwen3-8B",
        "num_layers": 4,
        "hidden_size": 1024,
        "num_attention_heads": 32,
        "gated_mlp": True,
    }
    model = resolve(on_gpus(1, record, training={"seq_length": 2048})).case.model
    assert (model.vocab_size, model.qk_norm) == (128_256, False)


def test_a_job_across_nodes_takes_the_network_of_the_usual_machine() -> None:
    cluster = resolve(on_gpus(16, {"preset": "llama3-8b"})).case.cluster
    assert cluster.network == "dgx-h100-ndr"
    assert cluster.inter_node_bytes_per_second_per_gpu == 50e9
    inside = resolve(on_gpus(8, {"preset": "llama3-8b"})).case.cluster
    assert inside.network is None


def test_a_given_rate_wins_over_a_network() -> None:
    cluster = {**H100, "num_gpus": 16, "inter_node_bytes_per_second_per_gpu": 1e9}
    case = Case.from_dict({"model": {"preset": "llama3-8b"}, "cluster": cluster})
    filled = resolve(case).case.cluster
    assert (filled.network, filled.inter_node_bytes_per_second_per_gpu) == (None, 1e9)


def test_tensor_parallel_candidates_obey_the_rules() -> None:
    assert tensor_parallel_candidates(on_gpus(8, {"preset": "llama3-8b"})) == (1, 2, 4, 8)
    assert tensor_parallel_candidates(on_gpus(2, {"preset": "llama3-8b"})) == (1, 2)
    assert tensor_parallel_candidates(on_gpus(8, {"preset": "gpt2-xl"})) == (1,)
    given = on_gpus(8, {"preset": "llama3-8b"}, plan={"tensor_parallel": 4})
    assert tensor_parallel_candidates(given) == (4,)


def test_each_default_is_of_a_field_and_none_has_two() -> None:
    keys = [default.key for default in DEFAULTS]
    assert len(keys) == len(set(keys))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Return a legal case of a preset, with drawn degrees and batch."""
    tensor = draw(st.sampled_from([1, 2, 4]))
    pipeline = draw(st.sampled_from([1, 2]))
    replicas = draw(st.integers(1, 64))
    micro, batches = draw(st.integers(1, 4)), draw(st.integers(1, 8))
    names = ("llama3-8b", "gpt3-13b", "mixtral-8x7b", "deepseek-v3", "qwen3-32b")
    return Case.from_dict(
        {
            "model": {"preset": draw(st.sampled_from(names))},
            "training": {
                "seq_length": draw(st.sampled_from([1024, 4096, 65536])),
                "micro_batch_size": micro,
                "global_batch_size": micro * batches * replicas,
                "precision": draw(st.sampled_from(["bf16", "fp8"])),
                "recompute": draw(st.sampled_from(["none", "selective", "full"])),
            },
            "plan": {"tensor_parallel": tensor, "pipeline_parallel": pipeline},
            "cluster": {**H100, "num_gpus": tensor * pipeline * replicas},
        }
    )


@given(cases())
def test_a_dumped_case_reads_back_the_same(case: Case) -> None:
    assert Case.from_dict(case.to_dict()) == case
    resolved = resolve(case).case
    assert Case.from_dict(resolved.to_dict()) == resolved


@given(cases())
def test_a_resolved_case_leaves_no_default_open(case: Case) -> None:
    resolved = resolve(case).case
    optional = {
        "adapter_modules",
        "fp8_recipe",
        "moe_overlap",
        "moe_permute_fusion",
        "recompute_modules",
        "network",
        "inter_node_bytes_per_second_per_gpu",
        "inter_node_latency_seconds",
    }
    for default in DEFAULTS:
        *path, name = default.key.split(".")
        value: Any = resolved
        for part in (*path, name):
            value = getattr(value, part) if value is not None else None
        if "moe" not in path and name not in optional | {"max_position_embeddings"}:
            assert value is not None, default.key


@pytest.mark.parametrize(
    ("model", "gpu", "chunks", "expected"),
    [
        ("deepseek-v3", "h100-sxm5-80gb", 4, ("deepep", True)),
        ("deepseek-v3", "h100-sxm5-80gb", 1, ("deepep", None)),
        ("deepseek-v3", "gb200", 4, ("alltoall", None)),
        ("qwen3-235b-a22b", "h100-sxm5-80gb", 4, ("alltoall", True)),
        ("qwen3-30b-a3b", "h100-sxm5-80gb", 1, ("deepep", None)),
        ("qwen3-30b-a3b", "gb200", 1, ("alltoall", None)),
        ("mixtral-8x22b", "h100-sxm5-80gb", 1, ("alltoall", None)),
        ("mixtral-8x22b", "h100-sxm5-80gb", 2, ("alltoall", None)),
    ],
)
def test_how_experts_are_reached_follows_from_nodes_and_groups(
    model: str, gpu: str, chunks: int, expected: tuple[str, bool | None]
) -> None:
    plan = {"tensor_parallel": 1, "pipeline_parallel": 2, "virtual_pipeline": chunks}
    experts = 8 if model == "mixtral-8x22b" else 32
    case = Case.from_dict(
        {
            "model": {"preset": model},
            "training": {"seq_length": 4096, "global_batch_size": 1024},
            "plan": {**plan, "expert_parallel": experts, "expert_tensor_parallel": 1},
            "cluster": {"gpu": gpu, "num_gpus": 256},
        }
    )
    found = resolve(case).case.plan
    assert (found.moe_dispatcher, found.moe_overlap) == expected


@pytest.mark.parametrize(
    ("model", "gpu", "training", "expected"),
    [
        ("gpt-oss-120b", "h100-sxm5-80gb", {}, ("layernorm", "moe_act")),
        ("gpt-oss-120b", "gb200", {}, ("layernorm", "moe_act")),
        ("gpt-oss-120b", "gb300", {}, None),  # 298 GB
        ("gpt-oss-120b", "gb200", {"precision": "mxfp8"}, None),
        ("gpt-oss-120b", "h100-sxm5-80gb", {"recompute": "none"}, None),
        ("gpt-oss-120b", "h100-sxm5-80gb", {"recompute": "selective"}, None),
        ("qwen3-30b-a3b", "h100-sxm5-80gb", {}, None),  # no biases
    ],
)
def test_biased_experts_replay_norms_and_activations_where_memory_is_short(
    model: str, gpu: str, training: dict[str, Any], expected: tuple[str, ...] | None
) -> None:
    case = Case.from_dict(
        {
            "model": {"preset": model},
            "training": {"seq_length": 4096, "global_batch_size": 1024, **training},
            "plan": {"tensor_parallel": 1, "expert_parallel": 8},
            "cluster": {"gpu": gpu, "num_gpus": 64},
        }
    )
    found = resolve(case).case.training
    assert found.recompute_modules == expected
    assert found.recompute == ("selective" if expected else training.get("recompute", "none"))


@pytest.mark.parametrize(
    ("gpu", "graphs"),
    [
        ("h100-sxm5-80gb", "none"),
        ("b200-sxm", "none"),
        ("b300-sxm", "attention"),
        ("gb200", "attention"),
        ("gb300", "attention"),
    ],
)
def test_experts_are_graphed_on_blackwell_but_b200(gpu: str, graphs: str) -> None:
    case = Case.from_dict(
        {
            "model": {"preset": "qwen3-30b-a3b"},
            "training": {"seq_length": 4096, "global_batch_size": 1024},
            "plan": {"tensor_parallel": 1, "expert_parallel": 8},
            "cluster": {"gpu": gpu, "num_gpus": 8},
        }
    )
    assert resolve(case).case.plan.cuda_graph == graphs


@pytest.mark.parametrize(("model", "degree"), [("deepseek-v3", 1), ("qwen3-235b-a22b", 2)])
def test_experts_of_routing_limited_to_groups_are_whole(model: str, degree: int) -> None:
    case = Case.from_dict(
        {
            "model": {"preset": model},
            "training": {"seq_length": 4096, "global_batch_size": 1024},
            "plan": {"tensor_parallel": 2, "expert_parallel": 32},
            "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 256},
        }
    )
    assert resolve(case).case.plan.expert_tensor_parallel == degree


def test_experts_that_ranks_share_are_reached_by_all_to_all_across_nodes() -> None:
    case = Case.from_dict(
        {
            "model": {"preset": "qwen3-30b-a3b"},
            "training": {"seq_length": 4096, "global_batch_size": 1024},
            "plan": {"tensor_parallel": 2, "expert_parallel": 8, "expert_tensor_parallel": 2},
            "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 16},
        }
    )
    assert resolve(case).case.plan.moe_dispatcher == "alltoall"


@pytest.mark.parametrize(
    ("groups", "complaint"),
    [
        ({"groups_per_token": 2}, "may not exceed routing_groups"),
        ({"routing_groups": 3, "groups_per_token": 1}, "must divide num_experts"),
        ({"routing_groups": 8, "groups_per_token": 1}, "the experts of a token's groups"),
    ],
)
def test_groups_of_experts_must_fit(groups: dict[str, int], complaint: str) -> None:
    moe = {"num_experts": 16, "top_k": 4, "expert_ffn_hidden_size": 64, **groups}
    with pytest.raises(CaseError, match=complaint):
        on_gpus(1, {"preset": "qwen3-30b-a3b", "moe": moe})


def test_every_preset_resolves_on_one_gpu() -> None:
    for name in model_names():
        assert resolve(on_gpus(1, {"preset": name})).case.model.name == name


def test_a_proxy_with_few_layers_keeps_a_share_of_the_dense_ones() -> None:
    model = load_model("deepseek-v3")
    asked = {
        "model": {
            "name": "DeepSeek-V3-proxy-4L",
            "num_layers": 4,
            "hidden_size": model.hidden_size,
            "num_attention_heads": model.num_attention_heads,
            "gated_mlp": True,
            "moe": {"num_experts": 256, "top_k": 8, "expert_ffn_hidden_size": 2048},
        },
        "training": {"seq_length": 4096},
        "cluster": {"gpu": "b200-sxm", "num_gpus": 8},
    }
    assert resolve(Case.from_dict(asked)).case.model.moe.first_dense_layers == 1
    asked["model"] |= {"num_layers": 61}
    assert resolve(Case.from_dict(asked)).case.model.moe.first_dense_layers == 3


@pytest.mark.parametrize(
    ("model", "heads"),
    [
        ({"hidden_size": 14336}, 112),
        ({"hidden_size": 14400}, 225),
        ({"hidden_size": 4096, "head_dim": 256}, 16),
    ],
)
def test_heads_are_of_128_where_they_are_left_open(model: dict[str, int], heads: int) -> None:
    resolved = resolve(on_gpus(1, model | {"num_layers": 2}, training=SHORT))
    assert resolved.case.model.num_attention_heads == heads
    assert f"model.num_attention_heads = {heads}" in resolved.defaults_taken


def test_heads_of_no_usual_size_are_asked_for() -> None:
    with pytest.raises(CaseError, match=r"num_attention_heads is needed .* hidden_size \(1000\)"):
        resolve(on_gpus(1, {"num_layers": 2, "hidden_size": 1000}, training=SHORT))


@pytest.mark.parametrize(("stages", "batch", "micro"), [(1, 256, 1), (8, 256, 4), (8, 8, 1)])
def test_torchtitans_pipelines_split_a_batch_into_as_many_parts_as_stages(stages, batch, micro):
    case = Case.from_dict(
        {
            "model": {"preset": "llama3-70b"},
            "training": {"global_batch_size": batch},
            "plan": {"tensor_parallel": 8, "pipeline_parallel": stages},
            "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 64 * stages},
            "implementation": "torchtitan",
        }
    )
    assert resolve(case).case.training.micro_batch_size == micro
