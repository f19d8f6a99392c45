"""Durations, the budget of a run, and the chunks that it is spent in."""

import time

import pytest

from predictor.bench.budget import Budget, BudgetEnded, parse_duration, process_started
from predictor.bench.chunks import CHUNK_MEMORY_BYTES, CHUNK_POINTS, chunks
from predictor.bench.sweep import default_points
from predictor.errors import BenchError


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("1.5m", 90)]
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1m", "soon", "10 min", "5m1h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(BenchError, match="must be a duration above zero"):
        parse_duration(text)


def test_a_budget_counts_from_the_process_start_and_keeps_a_reserve() -> None:
    assert process_started() <= time.monotonic()
    budget = Budget(100, started=time.monotonic() - 50)
    assert budget.remaining() == pytest.approx(48, abs=0.5)
    budget.check(30)
    with pytest.raises(BudgetEnded):
        budget.check(60)


def test_what_is_held_for_the_end_is_not_spent_before() -> None:
    budget = Budget(100, started=time.monotonic() - 50)
    budget.hold(30)
    assert budget.remaining() == pytest.approx(18, abs=0.5)
    budget.hold(0)
    assert budget.remaining() == pytest.approx(48, abs=0.5)


def test_chunks_are_bounded_in_points_and_memory() -> None:
    l2_bytes = 50e6
    split = list(chunks(default_points(), l2_bytes))
    assert [p for chunk in split for p in chunk] == default_points()
    for chunk in split:
        held = sum(p.memory_bytes(l2_bytes) for p in chunk)
        assert len(chunk) <= CHUNK_POINTS
        assert len({p.tier for p in chunk}) == 1
        assert held <= CHUNK_MEMORY_BYTES or len(chunk) == 1
