"""Real steps: what the machine lacks is one clear error, and a record holds what was run."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from predictor.bench.steps import STEPS, chosen_steps, measure_steps, running
from predictor.bench.steps.running import Machine, command_of, machine, record_of, run_command
from predictor.case import Case
from predictor.cli import run
from predictor.errors import BenchError
from predictor.iteration import estimate

if TYPE_CHECKING:
    from collections.abc import Sequence

ANSWER = {
    "iteration_seconds": 0.1,
    "min_max_seconds": [0.09, 0.11],
    "statistic": "median of 10 iterations, each synchronised",
    "peak_memory_bytes": 5_000_000_000,
    "framework": "transformers 5, torch 2",
}
TWO = Machine("h100-sxm5-80gb", 2, megatron=True)


def answers(command: Sequence[str], seconds: float) -> tuple[int, str]:
    del seconds
    asked = json.loads(Path(command[-2]).read_text(encoding="utf-8"))
    if asked["name"] == "gpt2":
        return 1, "Traceback\ntorch.OutOfMemoryError: CUDA out of memory\nbye\n"
    Path(command[-1]).write_text(json.dumps(ANSWER), encoding="utf-8")
    return 0, ""


def test_every_step_is_measured_and_a_failed_one_says_why() -> None:
    found = list(measure_steps(look=lambda _: TWO, run=answers))
    assert [each.step.name for each in found] == list(STEPS)
    failed = [each for each in found if each.record is None]
    assert [each.step.name for each in failed] == ["gpt2"]
    assert "CUDA out of memory" in failed[0].failure


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_record_is_a_case_that_can_be_estimated(step: Any) -> None:
    gpus = 2 if step.sharded else 1
    record = record_of(step, TWO, gpus, ANSWER)
    answer = estimate(Case.from_dict(record))
    assert answer.fits
    assert answer.case.cluster.num_gpus == gpus
    assert answer.case.implementation == step.implementation
    assert answer.case.model.vocab_size == step.model["vocab_size"]


def test_one_gpu_shards_nothing() -> None:
    assert not any(step.distributed for step in chosen_steps((), 1, megatron=False))
    assert len(chosen_steps((), 2, megatron=True)) == len(STEPS)
    with pytest.raises(BenchError, match="needs two GPUs"):
        chosen_steps(("llama-fsdp2",), 1, megatron=True)
    with pytest.raises(BenchError, match="did you mean 'llama'"):
        chosen_steps(("lama",), 1, megatron=True)
    with pytest.raises(BenchError, match="pip install megatron-core"):
        chosen_steps(("llama-megatron",), 1, megatron=False)


def test_several_gpus_are_started_by_torchrun(tmp_path: Path) -> None:
    alone = command_of(1, tmp_path / "a", tmp_path / "b", distributed=False)
    both = command_of(2, tmp_path / "a", tmp_path / "b", distributed=True)
    assert alone[:3] == [sys.executable, "-m", "predictor.bench.steps.child"]
    assert "--nproc-per-node=2" in both
    assert both[-3:] == alone[-3:]


def test_a_step_that_hangs_is_ended(tmp_path: Path) -> None:
    del tmp_path
    code, words = run_command([sys.executable, "-c", "import time; time.sleep(60)"], 0.3)
    assert code == 124
    assert "longer than" in words


def test_a_machine_without_pytorch_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec

    def absent(name: str, *more: Any) -> Any:
        return None if name in {"torch", "transformers"} else found(name, *more)

    monkeypatch.setattr(running.importlib.util, "find_spec", absent)
    with pytest.raises(BenchError, match="pip install torch transformers"):
        machine(None)
    assert run(["validate", "--measure"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_machine_without_a_gpu_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running.importlib.util, "find_spec", lambda *_: object())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(BenchError, match="needs an NVIDIA GPU"):
        machine(None)


def test_a_gpu_without_a_datasheet_is_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(running.importlib.util, "find_spec", lambda *_: object())
    monkeypatch.setattr(running, "_gpu_names", lambda: ["NVIDIA Frobnicator 9000"])
    with pytest.raises(BenchError, match="--gpu frobnicator-9000: has no datasheet"):
        machine(None)
    assert machine("h100-sxm5-80gb").gpus == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["validate"],
        ["validate", "runs.jsonl", "--measure"],
        ["validate", "runs.jsonl", "--steps", "llama"],
    ],
)
def test_arguments_that_do_not_go_together(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    assert "--measure" in capsys.readouterr().err


def test_the_command_measures_compares_and_keeps_the_records(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(running, "run_command", answers)
    monkeypatch.setattr(
        measure_steps, "__kwdefaults__", {"sku": None, "look": lambda _: TWO, "run": answers}
    )
    out = tmp_path / "steps.jsonl"
    assert run(["validate", "--measure", "-o", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["summary"]["predicted"] == len(STEPS) - 1
    assert all(each["memory_error"] is not None for each in report["records"])
    assert run(["validate", str(out)]) == 0
    assert "worst first" in capsys.readouterr().out


def test_a_step_survives_the_way_to_its_process() -> None:
    for step in STEPS.values():
        assert json.loads(json.dumps(asdict(step))) == asdict(step)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, step in STEPS.items() if not step.sharded])
def test_a_real_step_is_near_its_estimate(name: str) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers" if "megatron" not in name else "megatron.core")
    (found,) = measure_steps((name,))
    assert found.record is not None, found.failure
    answer = estimate(Case.from_dict(found.record))
    measured = found.record["measured"]
    assert answer.iteration_seconds == pytest.approx(measured["iteration_seconds"], rel=0.25)
    assert answer.memory_bytes_per_gpu == pytest.approx(measured["peak_memory_bytes"], rel=0.1)


@pytest.mark.multigpu
@pytest.mark.slow
def test_a_real_sharded_step_is_near_its_estimate() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    (found,) = measure_steps(("llama-fsdp2",))
    assert found.record is not None, found.failure
    answer = estimate(Case.from_dict(found.record))
    measured = found.record["measured"]
    assert answer.iteration_seconds == pytest.approx(measured["iteration_seconds"], rel=0.35)
    assert answer.memory_bytes_per_gpu == pytest.approx(measured["peak_memory_bytes"], rel=0.15)
