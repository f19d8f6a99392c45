"""Which points to measure, in which order, and how many of them fit a budget.

In come the names of operators and a budget in seconds, out goes a :class:`Plan`: points by tier,
operators interleaved within a tier, so that a run that is cut short still holds something of
everything.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Final

from predictor.bench.points import Point
from predictor.bench.sweep import (
    attention,
    collectives,
    gemm,
    grouped_gemm,
    host,
    interference,
    memcpy,
    memory_bound,
    optimizer,
)
from predictor.bench.sweep.tiers import ANCHOR, BETWEEN, CORE, FINGERPRINT, NAMES, WIDE
from predictor.bench.sweep.uncertainty import most_telling
from predictor.errors import UnknownName, nearest
from predictor.operators import OPERATORS, Interference, Operator

FINGERPRINT_SHARES: Final = {
    "gemm": 0.075,
    "grouped_gemm": 0.03,
    "attention": 0.72,
    "memory_bound": 0.0,  # its sweep says which
}
LEAST_FINGERPRINT_SHARE: Final = 0.1
"""Of an operator's core and wide points, as many as two minutes hold: a fit to them errs some
1.5 times as much as a fit to all (benchmarks/short_budget.py)."""

LAST_OF_FINGERPRINT: Final = {"memory_bound": 1.25}
"""How far an operator's points reach where those of others end: a fifth of streaming kernels', the
sizes that tell a fit least, waits until all others are measured."""

EVEN_SHARES: Final = {"gemm": 0.5, "attention": 0.5}
"""Of a fingerprint, what is taken evenly out of the whole sweep: sizes between the extremes that
the most telling points are, whose options differ more than their sizes do."""

STARTUP_SECONDS: Final = 9.0
"""Wall seconds before the first round: imports, the device, its arena, first plans (an H100)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """GPUs of a run, one rank each.

    Attributes:
        gpus: How many.
        gpus_per_node: Of them on one host.
        nvls: NVLink SHARP may be used.
    """

    gpus: int
    gpus_per_node: int
    nvls: bool = False


MANY_GPUS: Final = frozenset({*collectives.NAMES, "interference"})
"""Operators that need two GPUs or more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Points in the order of measuring.

    Attributes:
        points: What is expected to fit the budget.
        spare: What follows if time is left over.
        expected_seconds: Rough wall seconds of ``points``, with the start.
    """

    points: tuple[Point, ...]
    spare: tuple[Point, ...]
    expected_seconds: float

    @property
    def all_points(self) -> tuple[Point, ...]:
        """Everything, in order."""
        return self.points + self.spare


def default_points(
    operators: Iterable[str] = (), *, seed: int = 0, ranks: Ranks | None = None
) -> list[Point]:
    """The points of a SKU's fingerprint, ordered by tier.

    Args:
        operators: Names to keep; none keeps all.
        seed: Seed of the space-filling designs.
        ranks: GPUs that work together; None leaves out what needs more than one.

    Raises:
        UnknownName: An operator does not exist.
    """
    wanted = set(operators) or set(OPERATORS)
    for name in wanted - set(OPERATORS):
        raise UnknownName(f"no operator is called {name!r}{nearest(name, OPERATORS)}")
    sweeps = {
        "gemm": gemm.points(seed),
        "grouped_gemm": grouped_gemm.points(),
        "attention": attention.points(),
        "memory_bound": memory_bound.points(),
        "optimizer": optimizer.points(),
        "memcpy": memcpy.points(),
        "host": host.points(),
    }
    if ranks is not None:
        place = asdict(ranks)
        sweeps |= {name: collectives.points(name, **place) for name in collectives.NAMES}
        sweeps["interference"] = interference.points(**place)
    return ordered({name: points for name, points in sweeps.items() if name in wanted})


def ordered(sweeps: Mapping[str, list[Point]]) -> list[Point]:
    """The points of several operators by tier, the most telling of each in the fingerprint.

    Those of interference keep their order: the rows of a pair tell something only together.
    """
    return _ordered(
        [
            points if name == Interference.name else _by_telling(points, name)
            for name, points in sweeps.items()
        ]
    )


def points_for(operators: Iterable[Operator]) -> list[Point]:
    """Points that measure exactly these operators, cold and, where bytes decide, warm."""
    points = []
    for operator in dict.fromkeys(operators):
        points.append(Point(operator=operator, tier=ANCHOR))
        if operator.name == "memory_bound":
            points.append(Point(operator=operator, tier=ANCHOR, cache="warm"))
    return points


def plan(points: Iterable[Point], *, budget_seconds: float) -> Plan:
    """Cut points where their expected cost passes the budget."""
    kept: list[Point] = []
    spare: list[Point] = []
    expected = STARTUP_SECONDS
    for point in points:
        if not spare and expected + point.cost_seconds <= budget_seconds:
            kept.append(point)
            expected += point.cost_seconds
        else:
            spare.append(point)
    return Plan(points=tuple(kept), spare=tuple(spare), expected_seconds=expected)


def summary(points: Iterable[Point]) -> dict[str, dict[str, int]]:
    """Number of points by tier and operator."""
    counts: dict[str, dict[str, int]] = {}
    for point in points:
        tier = counts.setdefault(NAMES[point.tier], {})
        tier[point.operator.name] = tier.get(point.operator.name, 0) + 1
    return counts


def _by_telling(points: list[Point], operator: str) -> list[Point]:
    """Move the most telling points to the fingerprint, and put the wide ones in that order.

    Of some operators a part of the fingerprint is spread evenly over the rest of the sweep.
    """
    anchors = [point for point in points if point.tier == ANCHOR]
    known = {point.identity for point in anchors}
    field = [p for p in points if p.tier in {CORE, WIDE} and p.identity not in known]
    field = list({point.identity: point for point in reversed(field)}.values())[::-1]
    share = FINGERPRINT_SHARES.get(operator, LEAST_FINGERPRINT_SHARE)
    telling = most_telling(field, anchors)
    count = round(share * len(telling))
    even = round(EVEN_SHARES.get(operator, 0.0) * count)
    farthest = telling[: count - even]
    known |= {point.identity for point in farthest}
    left = [p for p in points if p.tier in {CORE, WIDE, BETWEEN} and p.identity not in known]
    between = [left[(2 * i + 1) * len(left) // (2 * even)] for i in range(even)] if left else []
    first = [replace(p, tier=FINGERPRINT) for p in (*farthest, *between)]
    rest = [point for point in points if point.tier not in {ANCHOR, WIDE}]
    return [*anchors, *first, *rest, *(p for p in telling[len(farthest) :] if p.tier == WIDE)]


def _ordered(groups: list[list[Point]]) -> list[Point]:
    """Merge groups by tier, each spread evenly over its tier; a repeated point keeps its first."""
    ranked = []
    for group in groups:
        for tier in NAMES:
            members = [point for point in group if point.tier == tier]
            reach = _reach(members[0]) if members else 1.0
            ranked += [(tier, reach * (i + 0.5) / len(members), p) for i, p in enumerate(members)]
    ranked.sort(key=lambda entry: entry[:2])
    unique: dict[object, Point] = {}
    for _, _, point in ranked:
        unique.setdefault(point.identity, point)
    return list(unique.values())


def _reach(point: Point) -> float:
    last = LAST_OF_FINGERPRINT if point.tier == FINGERPRINT else {}
    return last.get(point.operator.name, 1.0)


__all__ = [
    "MANY_GPUS",
    "Plan",
    "Ranks",
    "default_points",
    "ordered",
    "plan",
    "points_for",
    "summary",
]
