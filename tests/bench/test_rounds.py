"""Rounds of a point: what makes one sound, throttled or steady, and what row they come to."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from predictor.bench.rounds import RoundResult
from predictor.bench.summarise import summarise, timed_status


def result(seconds: float, **values: float) -> RoundResult:
    return RoundResult(
        seconds=seconds, seconds_low=0.9 * seconds, seconds_high=1.1 * seconds, samples=20, **values
    )


def test_a_row_is_the_median_of_rounds_between_the_lowest_and_the_highest() -> None:
    summary = summarise([result(3.0, watts=100.0), result(1.0, watts=300.0), result(2.0)])
    assert (summary["seconds"], summary["seconds_low"], summary["seconds_high"]) == (2.0, 1.0, 3.0)
    assert (summary["rounds"], summary["samples"]) == (3, 60)
    assert summary["watts"] == 200.0
    assert summary["energy_joules"] == 400.0
    assert summary["sm_clock_hz"] is None


def test_a_lone_round_keeps_its_own_interval() -> None:
    summary = summarise([result(2.0)])
    assert (summary["seconds_low"], summary["seconds_high"]) == pytest.approx((1.8, 2.2))


@pytest.mark.parametrize(
    ("reasons", "status"),
    [
        (0x0, "ok"),
        (0x4, "ok"),
        (0x1, "ok"),
        (0x8, "throttled"),
        (0x20, "throttled"),
        (0x40, "throttled"),
        (0x80, "throttled"),
        (0x84, "throttled"),
    ],
)
def test_only_a_slowdown_by_hardware_or_heat_counts_as_throttled(reasons: int, status: str) -> None:
    assert timed_status([result(1.0), result(1.0, event_reasons=reasons)]) == status


def test_a_sustained_round_begins_with_its_tail() -> None:
    measured = SimpleNamespace(
        median_seconds=2e-3,
        low_seconds=1e-3,
        high_seconds=3e-3,
        mad_seconds=0.0,
        p10_seconds=1e-3,
        p90_seconds=3e-3,
        lag1_autocorrelation=0.0,
        drift=0.0,
        samples_seconds=[1e-3, 2e-3, 3e-3],
        launches=3,
        timer="event",
        stop_reason="steady",
        wall_begin_seconds=10.0,
        tail_begin_seconds=12.0,
        wall_end_seconds=13.0,
    )
    assert RoundResult.from_native(measured, sustained=True).begin_seconds == 12.0
    assert RoundResult.from_native(measured, sustained=False).begin_seconds == 10.0


@pytest.mark.parametrize("low", [0.0, -1e-6, float("nan"), float("inf")])
def test_a_round_whose_time_is_none_is_not_sound(low: float) -> None:
    assert result(1e-3).is_sound
    assert not replace(result(1e-3), seconds_low=low).is_sound
