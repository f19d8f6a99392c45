"""Two per cent of the points, seen by the profiler after all timed samples were taken."""

from collections.abc import Callable
from typing import Any

import pytest

from predictor.bench.cross_check import chosen, held_seconds
from predictor.bench.journal import read_records
from predictor.bench.main import Outcome
from predictor.bench.points import Point
from predictor.bench.process import WorkerProcess
from predictor.operators import KERNELS, Gemm, Host, MemoryBound, Operator
from predictor.tables import Row, read_folder

Measure = Callable[..., Outcome]
MakePoint = Callable[..., Point]


def row(operator: Operator, **values: Any) -> Row:
    return Row(operator=operator, seconds=1.0, run="r", **values)


ROWS = [row(Gemm(m=m, n=8, k=8)) for m in range(1, 101)]


def check_of(outcome: Outcome) -> dict[str, Any]:
    """What runs.toml says."""
    return dict(read_folder(outcome.folder).runs[outcome.run]["cross_check"])


def test_two_per_cent_are_drawn_and_the_order_does_not_matter() -> None:
    points = chosen(ROWS, seed=0)
    assert len(points) == 2
    assert chosen(ROWS[::-1], seed=0) == points
    assert chosen(ROWS, seed=1) != points
    assert len(chosen(ROWS[:1], seed=0)) == 1


def test_only_good_bursts_of_quickly_built_kernels_are_drawn() -> None:
    rows = [
        row(Gemm(m=8, n=8, k=8), status="throttled"),
        row(Gemm(m=8, n=8, k=8), regime="sustained"),
        row(Host(stack="torch")),
        row(MemoryBound(kernel=next(iter(KERNELS["inductor"])), rows=8, cols=8, impl="inductor")),
    ]
    assert chosen(rows, seed=0) == []


def test_the_profiler_agrees_with_the_timers(measure: Measure, point: MakePoint) -> None:
    outcome = measure(*(point(m) for m in range(64, 124)))
    check = check_of(outcome)
    assert check["points"] == 2
    assert check["ratio"] == pytest.approx(1.0, abs=0.02)
    assert check["findings"] == []
    records = read_records(outcome.folder / "journal.jsonl")
    kinds = [r["record"] for r in records]
    assert kinds.index("cross_check") > max(i for i, k in enumerate(kinds) if k == "point")


@pytest.mark.parametrize("ratio", ["1.1", "0.05"])
def test_a_disagreement_is_a_finding(
    measure: Measure, point: MakePoint, monkeypatch: pytest.MonkeyPatch, ratio: str
) -> None:
    monkeypatch.setenv("DOUBLE_TRACE_RATIO", ratio)
    check = check_of(measure(point(4096)))
    assert check["ratio_high"] == pytest.approx(float(ratio), rel=0.02)
    assert "the timer says" in check["findings"][0]


def test_an_empty_trace_is_an_error_that_is_told(measure: Measure, point: MakePoint) -> None:
    blind = point(70010)
    outcome = measure(blind)
    assert [r.status for r in outcome.rows] == ["ok"]
    check = check_of(outcome)
    assert check["points"] == 0
    assert "empty trace" in check["findings"][0]
    assert str(blind.operator) in check["findings"][0]


def test_without_cupti_that_is_said_and_the_run_is_whole(
    measure: Measure, point: MakePoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOUBLE_NO_CUPTI", "1")
    outcome = measure(*(point(m) for m in range(64, 174)))
    check = check_of(outcome)
    assert check["points"] == 0
    assert check["findings"] == ["LibraryMissing: cupti (libcupti.so.13) was not found"]
    assert outcome.exit_code == 0


def test_a_worker_that_dies_under_the_profiler_costs_the_check_alone(
    measure: Measure, point: MakePoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = WorkerProcess.ask

    def killed_by_a_trace(worker: WorkerProcess, request: str, *given: Any, **named: Any) -> Any:
        if request == "trace":
            worker.interrupt()
        return ask(worker, request, *given, **named)

    monkeypatch.setattr(WorkerProcess, "ask", killed_by_a_trace)
    outcome = measure(point(64))
    assert (outcome.exit_code, len(outcome.rows)) == (0, 1)
    assert "the worker died with code -9" in check_of(outcome)["findings"][0]


def test_a_run_keeps_a_share_of_its_budget_for_the_check() -> None:
    assert held_seconds(120.0) == pytest.approx(6.0)
    assert held_seconds(540.0) == 15.0
