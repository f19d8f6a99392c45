"""Pipelines of several GPUs: one kind is the plain estimate, layers balance, brute force agrees."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from predictor import Case, estimate, search
from predictor.cli import run as command
from predictor.errors import CaseError, NotPredictable
from predictor.iteration.layout import Queue
from predictor.search import mixed as module
from predictor.search.mixed import balanced, mixed_estimate

H100, A100 = "h100-sxm5-80gb", "a100-sxm4-80gb"


def case(skus: list[str], layers: list[int] | None = None, **plan: object) -> Case:
    stages = len(skus)
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
                "gpu": skus[0],
                "stage_gpus": skus,
                "num_gpus": 2 * stages,
                "gpus_per_node": 2,
                "inter_node_bytes_per_second_per_gpu": 25e9,
                "inter_node_latency_seconds": 5e-6,
            },
        }
    )


def test_stages_of_one_gpu_are_the_plain_estimate() -> None:
    asked = case([H100, H100], [5, 3])
    plain, mixed = estimate(asked), mixed_estimate(asked)
    assert mixed.iteration_seconds == pytest.approx(plain.iteration_seconds, rel=1e-9)
    assert mixed.interval_seconds == pytest.approx(plain.interval_seconds, rel=1e-9)
    assert mixed.usd_per_iteration == pytest.approx(plain.usd_per_iteration)
    assert mixed.joules_per_iteration == pytest.approx(plain.joules_per_iteration)
    assert max(mixed.memory_reserved_bytes) == plain.memory_reserved_bytes_per_gpu


def test_a_mix_lies_between_its_gpus() -> None:
    fast, slow = (mixed_estimate(case([sku, sku])).iteration_seconds for sku in (H100, A100))
    mixed = mixed_estimate(case([H100, A100])).iteration_seconds
    assert fast < mixed <= slow * 1.001


def test_layers_move_to_the_faster_gpu_and_brute_force_agrees() -> None:
    def busy(layers: list[int] | None = None) -> Case:
        """Four sequences at once, so that no host keeps its GPU waiting."""
        return case([H100, A100], layers).replace(training={"micro_batch_size": 4})

    found = balanced(busy())
    first, second = found.case.plan.layers_per_stage
    assert first > second
    splits = [mixed_estimate(busy([count, 8 - count])) for count in range(9)]
    fastest = min(split.iteration_seconds for split in splits if split.fits)
    assert found.iteration_seconds == pytest.approx(fastest, rel=1e-9)
    even = mixed_estimate(busy()).iteration_seconds
    assert found.iteration_seconds < 0.95 * even


def test_what_cannot_be_mixed_is_refused() -> None:
    with pytest.raises(CaseError, match=r"one for each of pipeline_parallel \(1\) stages"):
        case([H100, A100], pipeline_parallel=1)
    with pytest.raises(CaseError, match=r"must begin with cluster\.gpu"):
        case([H100, A100]).replace(cluster={"gpu": A100})
    with pytest.raises(CaseError, match="did you mean"):
        case([H100, "a100"])
    with pytest.raises(CaseError, match="mixed stages run 1f1b, gpipe"):
        mixed_estimate(case([H100, A100], virtual_pipeline=2))
    with pytest.raises(CaseError, match=r"cluster\.stage_gpus: needed"):
        mixed_estimate(case([H100, A100]).replace(cluster={"stage_gpus": None}))
    with pytest.raises(NotPredictable, match="predictor place"):
        estimate(case([H100, A100]))
    with pytest.raises(CaseError, match="predictor place"):
        search(case([H100, A100]), gpu=H100, num_gpus=4, global_batch_size=16)


def test_a_gpu_twice_as_fast_gets_twice_the_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two stages and no head to speak of: 12 layers balance where 8 half-time ones meet 4."""
    load, run_of = module.load_costs, module.run_of

    def half_as_fast(asked: Case, costs: object, *, strict: bool = False) -> object:
        run = run_of(asked, costs, strict=strict)
        if asked.cluster.gpu == A100:
            sheet = run.slowest_sheet
            host = (2 * sheet.queue.host_seconds, 2 * sheet.queue.queue_seconds)
            slow = Queue(sheet.layout, *host)
            run.slowest_sheet = replace(sheet, seconds=2 * sheet.seconds, queue=slow)
        return run

    monkeypatch.setattr(module, "load_costs", lambda _: load(H100))
    monkeypatch.setattr(module, "run_of", half_as_fast)
    asked = case([H100, A100])
    asked = asked.replace(
        model={"num_layers": 12, "vocab_size": 64}, training={"global_batch_size": 64}
    )
    assert balanced(asked).case.plan.layers_per_stage == (8, 4)


def test_the_command_prints_each_stage(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["place", "llama3.2-1b", "--gpu", H100, "--num-gpus", "4", "--tensor-parallel", "2"]
    flags += ["--pipeline-parallel", "2", "--stage-gpus", f"{H100},{A100}"]
    assert command([*flags, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert sum(told["layers_per_stage"]) == 16
    assert command(["estimate", *flags[1:], "--json"]) == 0
    even = json.loads(capsys.readouterr().out)
    assert even["layers_per_stage"] == [8, 8]
    assert told["iteration_seconds"] < even["iteration_seconds"]
    assert command(flags) == 0
    text = capsys.readouterr().out
    assert f"layers_per_stage = {told['layers_per_stage']}" in text
    assert command([*flags[:-1], H100]) == 2
