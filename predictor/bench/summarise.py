"""Rounds of a point to a row of its table: C++ measures, this summarises.

``seconds`` is the median over the rounds' medians and the bounds are the lowest and the highest
round, because offsets between rounds exceed the scatter within one. A lone round (the sustained
regime) keeps its own order-statistic interval.
"""

from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

from predictor.bench.journal import Record
from predictor.bench.rounds import RoundResult
from predictor.bench.telemetry import THROTTLE_REASONS
from predictor.operators import OPERATORS
from predictor.tables import Row, Status


def summarise(rounds: Sequence[RoundResult]) -> dict[str, Any]:
    """Measured columns of a row from at least one round."""
    medians = [each.seconds for each in rounds]
    seconds = median(medians)
    low, high = min(medians), max(medians)
    if len(rounds) == 1:
        low, high = min(rounds[0].seconds_low, seconds), max(rounds[0].seconds_high, seconds)
    watts = _mean([each.watts for each in rounds])
    return {
        "seconds": seconds,
        "seconds_low": low,
        "seconds_high": high,
        "rounds": len(rounds),
        "samples": sum(each.samples for each in rounds),
        "sm_clock_hz": _mean([each.sm_clock_hz for each in rounds]),
        "watts": watts,
        "energy_joules": watts * seconds if watts else None,
    }


def timed_status(rounds: Sequence[RoundResult]) -> Status:
    """``throttled`` if the hardware slowed itself down in any round."""
    throttled = any(each.event_reasons & THROTTLE_REASONS for each in rounds)
    return "throttled" if throttled else "ok"


def row_of(record: Record) -> Row:
    """The row of a journal's point record."""
    rounds = [RoundResult(**each) for each in record["rounds"]]
    timed = record["status"] in {"ok", "throttled"} and rounds
    return Row(
        operator=OPERATORS[record["operator"]](**record["fields"]),
        regime=record["regime"],
        cache=record["cache"],
        status=record["status"],
        run=record["run"],
        **(summarise(rounds) if timed else {}),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
