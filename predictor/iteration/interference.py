"""Kernels that run beside a collective slow each other: the one place that says by how much.

A collective that another stream computes beside shares SMs, memory and power with it. Seconds of
launches come in as measured alone and leave as they are in company. Slowdowns are factors of a pair
(compute family, collective), measured (:mod:`predictor.costs.interference`).

Kernels of ``C`` seconds with factor ``f`` beside a collective of ``d`` seconds with factor ``g``,
each slowed while both run:

    if g·d ≤ f·C:   d' = g·d,   C' = C + g·d·(1 - 1/f)
    else:           C' = f·C,   d' = d + f·C·(1 - 1/g)
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from predictor.costs.interference import Slowdowns, load_slowdowns
from predictor.costs.prediction import Floats, Ints
from predictor.iteration.launches import Launch, Segment, Wait
from predictor.operators import SendRecv

LIKE: Final = {
    "grouped_gemm": "gemm",
    "optimizer": "memory_bound",
    "broadcast": "all_gather",
}
"""What was not measured beside anything slows and is slowed as what it resembles."""


def interfered(
    segments: Sequence[Segment],
    first: Ints,
    seconds: Floats,
    slowdown: Slowdowns | None = None,
) -> Floats:
    """Seconds of every launch beside what runs at the same time.

    A collective meets the compute launches of its segment between itself and the wait for its
    stream; one that is not waited for before the segment ends meets the beginning of a repetition.
    Collectives that another segment leaves behind it (a bucket of gradients) meet the segments in
    whose company it is.

    Args:
        segments: Whose launches the rows are.
        first: Row of each segment's first launch.
        seconds: Of each launch, alone.
        slowdown: Factors by compute family and collective; None: as measured.
    """
    factors = load_slowdowns() if slowdown is None else slowdown
    places = {segment: place for place, segment in enumerate(segments)}
    result = seconds.copy()
    for place, segment in enumerate(segments):
        launches = segment.launches
        if all(launch.stream == "compute" for launch in launches) and not segment.company:
            continue
        start = int(first[place])
        for row, partners in _meetings(segment):
            if not partners:
                continue
            rows = [start + partner for partner in partners]
            pairs = _pairs(factors, launches[row], [launches[partner] for partner in partners])
            met = _met(seconds[rows], float(seconds[start + row]), pairs)
            result[rows] *= met[0]
            result[start + row] *= met[1]
        busy = [at for at, launch in enumerate(launches) if launch.stream == "compute"]
        rows = [start + at for at in busy]
        for other, share in segment.company:
            begin = int(first[places[other]])
            for at, launch in _under_way(other):
                pairs = _pairs(factors, launch, [launches[one] for one in busy])
                met = _met(seconds[rows], share * float(seconds[begin + at]), pairs)
                result[rows] *= met[0]
                result[begin + at] *= met[1] ** share
    return result


def _under_way(segment: Segment) -> Iterator[tuple[int, Launch]]:
    """Collectives that a segment leaves behind it, with their places: none that it waits for."""
    waited = {
        step.stream: place for place, step in enumerate(segment.steps) if isinstance(step, Wait)
    }
    launch = -1
    for place, step in enumerate(segment.steps):
        if isinstance(step, Launch):
            launch += 1
            if place > waited.get(step.stream, -1):
                yield launch, step


Pair = tuple[float, float]


def _pairs(factors: Slowdowns, collective: Launch, partners: Sequence[Launch]) -> Sequence[Pair]:
    """Factors of each partner and of the collective beside it.

    Tensor ranks exchange rows round a ring with copy engines (Transformer Engine 2.8,
    ``module/base.py``: one SM, ``use_ce``), which takes nothing from products.
    """
    kind = LIKE.get(collective.operator.name, collective.operator.name)
    if collective.stream == "tensor" and kind == SendRecv.name:
        return [(1.0, 1.0)] * len(partners)
    return [factors.get((LIKE.get(p.family, p.family), kind), (1.0, 1.0)) for p in partners]


def _met(compute: Floats, alone: float, pairs: Sequence[Pair]) -> Pair:
    """By how much compute launches and a collective of ``alone`` seconds beside them grow."""
    whole = float(compute.sum())
    if whole <= 0 or alone <= 0:
        return 1.0, 1.0
    mine, its = np.asarray(pairs).T @ compute / whole
    if its * alone <= mine * whole:
        return 1.0 + its * alone * (1.0 - 1.0 / mine) / whole, float(its)
    return float(mine), 1.0 + mine * whole * (1.0 - 1.0 / its) / alone


def _meetings(segment: Segment) -> Iterator[tuple[int, list[int]]]:
    """Places of a segment's collectives, each with those of the compute launches beside it."""
    under_way: dict[str, list[tuple[int, list[int]]]] = {}
    for again in (False, True):
        place = -1
        for step in segment.steps:
            if isinstance(step, Wait):
                yield from under_way.pop(step.stream, [])
            elif isinstance(step, Launch):
                place += 1
                if step.stream == "compute":
                    for own, partners in (pair for pairs in under_way.values() for pair in pairs):
                        if not again or place < own:
                            partners.append(place)
                elif not again:
                    under_way.setdefault(step.stream, []).append((place, []))
    for pairs in under_way.values():
        yield from pairs
