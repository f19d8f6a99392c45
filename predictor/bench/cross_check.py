"""A second opinion on the timers: 2 % of the points, their kernel times as the profiler sees them.

CUPTI slows every later launch of its process, so a worker of its own looks, after all timed samples
were taken. Kernel time leaves the gaps between kernels out, which the timers hold: the ratio of the
two lies at or a little below one. Without CUPTI that is said, and nothing else is lost.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Final

from predictor.bench.budget import Budget, BudgetEnded
from predictor.bench.journal import Record
from predictor.bench.points import Point
from predictor.bench.process import RequestFailed, Worker
from predictor.bench.recorder import Recorder
from predictor.errors import BenchError
from predictor.tables import Row

SHARE: Final = 0.02
TIMEOUT_SECONDS: Final = 40.0
HELD_SHARE: Final = 0.05
MOST_HELD_SECONDS: Final = 15.0

# Kernels longer than the timer says are an error of one of the two. Shorter ones may leave gaps: a
# launch's, in a graph or a queue, is about a microsecond.
_LONGER: Final = 1.05
_SHORTER: Final = 0.90
_GAP_SECONDS: Final = 3e-6

_QUICK_TO_PREPARE: Final = 0.3
"""Wall seconds: generated kernels are compiled anew by each worker and are left out."""


def held_seconds(budget_seconds: float) -> float:
    """What a run keeps of its budget for the check."""
    return min(MOST_HELD_SECONDS, HELD_SHARE * budget_seconds)


def chosen(rows: Sequence[Row], *, seed: int) -> list[Point]:
    """2 % of the points, at least one: drawn by a hash, so the same ones whatever their order."""
    points = {
        _draw(row, seed): Point(operator=row.operator, cache=row.cache)
        for row in rows
        if row.status == "ok" and row.regime == "burst"
    }
    ranked = [
        points[key]
        for key in sorted(points)
        if points[key].operator.working_set_bytes and _is_one_gpus(points[key])
    ]
    kept = ranked[: math.ceil(SHARE * len(ranked))]
    return sorted(kept, key=lambda point: point.prepare_seconds)


def cross_check(
    recorder: Recorder,
    spawn: Callable[[], Worker],
    budget: Budget,
    *,
    seed: int,
    say: Callable[[str], None],
) -> None:
    """Trace the chosen points in a worker of their own; findings go to the journal."""
    rows = {(row.operator, row.cache): row for row in recorder.rows if row.regime == "burst"}
    points = chosen(recorder.rows, seed=seed)
    if not points:
        return
    try:
        worker = spawn()
    except BudgetEnded:
        recorder.keep_cross_check(None, finding="not done: no time was left")
        return
    except BenchError as error:
        recorder.keep_cross_check(None, finding=f"not done: {error}")
        return
    try:
        for key, point in enumerate(points):
            budget.check()
            row = rows[point.operator, point.cache]
            try:
                recorder.keep_cross_check(row, **_traced(worker, key, point))
            except RequestFailed as failure:
                everywhere = failure.lost or "LibraryMissing" in str(failure)
                recorder.keep_cross_check(None if everywhere else row, finding=str(failure))
                if everywhere:
                    say(f"cross-check of the timers: {failure}")
                    break
    except BudgetEnded:
        pass
    finally:
        worker.close()


def summary(records: Sequence[Record]) -> dict[str, Any]:
    """What runs.toml says of a run's check: the ratios of kernel time to timer, and findings."""
    checks = [record for record in records if record["record"] == "cross_check"]
    ratios = [r["kernel_seconds"] / r["seconds"] for r in checks if "kernel_seconds" in r]
    found: dict[str, Any] = {"points": len(ratios)}
    if ratios:
        found |= {
            "ratio": median(ratios),
            "ratio_low": min(ratios),
            "ratio_high": max(ratios),
        }
    return found | {"findings": [line for record in checks for line in _findings(record)]}


def _is_one_gpus(point: Point) -> bool:
    ranks = getattr(point.operator, "ranks", 1)
    return bool(ranks == 1) and point.prepare_seconds <= _QUICK_TO_PREPARE


def _draw(row: Row, seed: int) -> str:
    return hashlib.sha256(f"{seed} {row.operator} {row.cache}".encode()).hexdigest()


def _traced(worker: Worker, key: int, point: Point) -> dict[str, Any]:
    worker.ask("prepare", key, point, timeout_seconds=TIMEOUT_SECONDS)
    seconds, activities = worker.ask("trace", key, timeout_seconds=TIMEOUT_SECONDS)
    worker.ask("release", [key], timeout_seconds=TIMEOUT_SECONDS)
    return {"kernel_seconds": seconds, "activities": activities}


def _findings(record: Record) -> list[str]:
    """Words about a check: why there is none, or that profiler and timer disagree."""
    name = f"{record['point']}, {record['cache']}: " if "point" in record else ""
    if "finding" in record:
        return [name + str(record["finding"])]
    timed, traced = record["seconds"], record["kernel_seconds"]
    shortest = _SHORTER * timed - _GAP_SECONDS * record["activities"]
    if shortest <= traced <= _LONGER * timed:
        return []
    return [f"{name}kernels take {traced:.3g} s, the timer says {timed:.3g} s"]
