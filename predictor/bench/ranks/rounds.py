"""How often ranks launch, and what a round of all of them says.

Counts are the same on every rank and follow from the slowest rank's probe. A sample of a round is
the slowest rank's; the round is their median with its order-statistic interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil, floor, sqrt
from statistics import median
from typing import Any, Final

from predictor.bench.process import RequestFailed
from predictor.bench.rounds import RoundResult
from predictor.operators.interference import Side

GRAPH_LIMIT_SECONDS: Final = 50e-6
"""Below this, a sample is a replay of a captured graph (measurement standard, point 3)."""
_REPLAY_SECONDS: Final = 1.2e-3
_LONG_REPLAY_SECONDS: Final = 5e-3
_INTERVAL_SECONDS: Final = 0.5e-3
_MOST_REPLAYED: Final = 256
_MOST_GATED: Final = 16
_FEWEST_SAMPLES: Final = 5
_MOST_SAMPLES: Final = 40
_WINDOW_SECONDS: Final = 20e-3
_WINDOW_INTERVALS: Final = 24
_LONGEST_WINDOW_SECONDS: Final = 2.5
_FEWEST_INTERVALS: Final = 6
_MOST_CALLS: Final = 20
_MOST_KERNELS: Final = 500
_HOST_SECONDS: Final = 10e-6
"""Of a kernel that the host launches faster than the device runs it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lockstep:
    """What every rank does in a round.

    Attributes:
        graph: Replay a captured graph; otherwise launch one by one behind a gate.
        seconds: Expected, of one launch.
        enqueues_per_sample: Launches between two events.
        samples: Samples of the round.
    """

    graph: bool
    seconds: float
    enqueues_per_sample: int
    samples: int

    @classmethod
    def plan(cls, seconds: float, *, buffer_sets: int, round_seconds: float) -> "Lockstep":
        """Counts for launches of ``seconds``; a cold replay walks all buffer sets if it can."""
        seconds = max(seconds, 1e-7)
        graph = seconds < GRAPH_LIMIT_SECONDS
        if graph:
            least, most = ceil(_REPLAY_SECONDS / seconds), ceil(_LONG_REPLAY_SECONDS / seconds)
            enqueues = min(max(buffer_sets, least), most, _MOST_REPLAYED)
        else:
            enqueues = min(ceil(_INTERVAL_SECONDS / seconds), _MOST_GATED)
        fitting = floor(round_seconds / (seconds * enqueues))
        samples = min(max(fitting, _FEWEST_SAMPLES), _MOST_SAMPLES)
        return cls(graph=graph, seconds=seconds, enqueues_per_sample=enqueues, samples=samples)

    def arguments(self, timeout_seconds: float) -> dict[str, Any]:
        """Of ``Device.sample_lockstep``."""
        return {
            "graph": self.graph,
            "seconds": self.seconds,
            "enqueues_per_sample": self.enqueues_per_sample,
            "samples": self.samples,
            "timeout_seconds": timeout_seconds,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What every rank does in a round of two sides.

    Attributes:
        compute_calls: Between two events of the compute stream; 0 leaves it idle.
        collective_calls: Between two events of the communication stream; 0 leaves it idle.
        intervals: Of each stream.
    """

    compute_calls: int
    collective_calls: int
    intervals: int = _WINDOW_INTERVALS

    @classmethod
    def plan(cls, compute_seconds: float, collective_seconds: float) -> "Beside":
        """Counts that keep both streams busy for about the same time.

        Kernels may be many, so that a collective much longer than they are ends beside them; short
        collectives may not, as each may come to wait for a kernel.
        """
        interval = max(_WINDOW_SECONDS / _WINDOW_INTERVALS, compute_seconds, collective_seconds)
        most = _MOST_KERNELS if compute_seconds >= _HOST_SECONDS else _MOST_CALLS
        fitting = int(_LONGEST_WINDOW_SECONDS / interval)
        return cls(
            compute_calls=min(max(round(interval / compute_seconds), 1), most),
            collective_calls=min(max(round(interval / collective_seconds), 1), _MOST_CALLS),
            intervals=min(max(fitting, _FEWEST_INTERVALS), _WINDOW_INTERVALS),
        )

    def calls(self, side: Side) -> int:
        """Launches between two events of a side's stream."""
        return self.compute_calls if side == "compute" else self.collective_calls

    def finer(self, side: Side) -> "Beside":
        """Shorter intervals of a side that the other one slows so much that none fits the window.

        A collective starts where a kernel of the compute stream leaves it room: of few
        microseconds alone, it may take as long as that kernel.

        Raises:
            RequestFailed: They are as short as they can be.
        """
        calls = self.calls(side)
        if calls <= 1:
            raise RequestFailed("crash", "the two sides never ran at the same time", lost=False)
        if side == "compute":
            return replace(self, compute_calls=calls // 2)
        return replace(self, collective_calls=calls // 2)

    def arguments(self, timeout_seconds: float, *, only: str = "") -> dict[str, Any]:
        """Of ``Device.sample_beside``; ``only`` names the side that is to run alone."""
        return {
            "compute_calls": 0 if only == "collective" else self.compute_calls,
            "collective_calls": 0 if only == "compute" else self.collective_calls,
            "intervals": self.intervals,
            "timeout_seconds": timeout_seconds,
        }


def slowest(samples: Sequence[Sequence[float]]) -> list[float]:
    """Of samples by rank, each iteration's slowest rank; those that a rank left out are dropped.

    A rank leaves an interval out, by a negative number, where the other side was not running.
    """
    return [max(each) for each in zip(*samples, strict=True) if min(each) >= 0]


def round_of(
    samples: Sequence[float],
    *,
    window: tuple[float, float],
    timer: str,
    launches: int,
    stop_reason: str = "count",
    path: str = "",
) -> RoundResult:
    """Summary of the slowest ranks' samples."""
    ordered = sorted(samples)
    middle = median(ordered)
    low, high = _median_interval(ordered)
    return RoundResult(
        seconds=middle,
        seconds_low=low,
        seconds_high=high,
        mad_seconds=median(abs(each - middle) for each in ordered),
        p10_seconds=ordered[len(ordered) // 10],
        p90_seconds=ordered[-1 - len(ordered) // 10],
        drift=_drift(samples),
        lag1_autocorrelation=_lag1(samples),
        samples=len(ordered),
        launches=launches,
        timer=timer,
        stop_reason=stop_reason,
        path=path,
        begin_seconds=window[0],
        end_seconds=window[1],
    )


def _median_interval(ordered: Sequence[float]) -> tuple[float, float]:
    """95 % order-statistic interval of the median (normal approximation of the binomial)."""
    count = len(ordered)
    half = 1.96 * sqrt(count) / 2
    low = max(floor(count / 2 - half), 0)
    high = min(ceil(count / 2 + half), count - 1)
    return ordered[low], ordered[high]


def _drift(samples: Sequence[float]) -> float:
    third = max(len(samples) // 3, 1)
    first = median(samples[:third])
    return median(samples[-third:]) / first - 1.0 if first > 0 else 0.0


def _lag1(samples: Sequence[float]) -> float:
    mean = sum(samples) / len(samples)
    deviations = [each - mean for each in samples]
    variance = sum(each * each for each in deviations)
    if variance == 0:
        return 0.0
    return sum(a * b for a, b in pairwise(deviations)) / variance
