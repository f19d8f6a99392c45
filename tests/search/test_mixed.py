"""Pipelines of several GPUs: one kind is the plain estimate, layers balance, brute force agrees."""

from __future__ import annotations

import json

import pytest

from predictor import Case, estimate
from predictor.cli import run as command
from predictor.errors import CaseError, UnknownName
from predictor.search.mixed import balanced, mixed_estimate

H100, A100 = "h100-sxm5-80gb", "a100-sxm4-80gb"


def case(stages: int = 2, layers: list[int] | None = None, **plan: object) -> Case:
    return Case.from_dict(
        {
            "model": {"preset": "llama3.2-1b", "num_layers": 8, "vocab_size": 8192},
            "training": {"seq_length": 4096, "global_batch_size": 16},
            "plan": {
                "tensor_parallel": 2,
                "pipeline_parallel": stages,
                **({"layers_per_stage": layers} if layers else {}),
                **plan,
            },
            "cluster": {
                "gpu": H100,
                "num_gpus": 2 * stages,
                "gpus_per_node": 2,
                "inter_node_bytes_per_second_per_gpu": 25e9,
                "inter_node_latency_seconds": 5e-6,
            },
        }
    )


def test_stages_of_one_gpu_are_the_plain_estimate() -> None:
    asked = case(layers=[5, 3])
    plain, mixed = estimate(asked), mixed_estimate(asked, [H100, H100])
    assert mixed.iteration_seconds == pytest.approx(plain.iteration_seconds, rel=1e-9)
    assert mixed.interval_seconds == pytest.approx(plain.interval_seconds, rel=1e-9)
    assert mixed.usd_per_iteration == pytest.approx(plain.usd_per_iteration)
    assert mixed.joules_per_iteration == pytest.approx(plain.joules_per_iteration)
    assert max(mixed.memory_reserved_bytes) == plain.memory_reserved_bytes_per_gpu


def test_a_mix_lies_between_its_gpus() -> None:
    fast, slow = (mixed_estimate(case(), [sku, sku]).iteration_seconds for sku in (H100, A100))
    mixed = mixed_estimate(case(), [H100, A100]).iteration_seconds
    assert fast < mixed <= slow * 1.001


def test_layers_move_to_the_faster_gpu_and_brute_force_agrees() -> None:
    found = balanced(case(), [H100, A100])
    first, second = found.case.plan.layers_per_stage
    assert first > second
    splits = [mixed_estimate(case(layers=[count, 8 - count]), [H100, A100]) for count in range(9)]
    fastest = min(split.iteration_seconds for split in splits if split.fits)
    assert found.iteration_seconds == pytest.approx(fastest, rel=1e-9)
    even = mixed_estimate(case(), [H100, A100]).iteration_seconds
    assert found.iteration_seconds < 0.95 * even


def test_what_cannot_be_mixed_is_refused() -> None:
    with pytest.raises(CaseError, match="1 named, pipeline_parallel is 2"):
        mixed_estimate(case(), [H100])
    with pytest.raises(UnknownName, match="did you mean"):
        mixed_estimate(case(), [H100, "a100"])
    with pytest.raises(CaseError, match="mixed stages run 1f1b, gpipe"):
        mixed_estimate(case(virtual_pipeline=2), [H100, A100])


def test_the_command_prints_each_stage(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["place", "llama3.2-1b", "--gpu", H100, "--num-gpus", "4", "--tensor-parallel", "2"]
    flags += ["--pipeline-parallel", "2", "--stage-gpus", f"{H100},{A100}"]
    assert command([*flags, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert sum(told["layers_per_stage"]) == 16
    assert command(flags) == 0
    text = capsys.readouterr().out
    assert f"layers_per_stage = {told['layers_per_stage']}" in text
    assert command([*flags[:-1], H100]) == 2
