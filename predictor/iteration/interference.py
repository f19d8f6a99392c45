"""Kernels that run beside a collective slow each other: the one place that says by how much.

A collective that another stream computes beside shares SMs, memory and power with it. Seconds of
launches come in as measured alone and leave as they are in company. Slowdowns are factors of a pair
(compute family, collective kind); until pairs are measured every factor is one.

Kernels of ``C`` seconds with factor ``f`` beside a collective of ``d`` seconds with factor ``g``,
each slowed while both run:

    if g·d ≤ f·C:   d' = g·d,   C' = C + g·d·(1 - 1/f)
    else:           C' = f·C,   d' = d + f·C·(1 - 1/g)
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from predictor.costs.prediction import Floats, Ints
from predictor.iteration.launches import Segment, Sync, Wait

SLOWDOWN: Final[Mapping[tuple[str, str], tuple[float, float]]] = {}
"""(compute family, collective kind): factors of the compute kernel and of the collective."""


def interfered(
    segments: Sequence[Segment],
    first: Ints,
    seconds: Floats,
    slowdown: Mapping[tuple[str, str], tuple[float, float]] = SLOWDOWN,
) -> Floats:
    """Seconds of every launch beside what runs at the same time.

    A collective meets the compute launches of its segment between itself and the wait for its
    stream.

    Args:
        segments: Whose launches the rows are.
        first: Row of each segment's first launch.
        seconds: Of each launch, alone.
        slowdown: Factors by compute family and collective kind.
    """
    if not slowdown:
        return seconds
    result = seconds.copy()
    for place, segment in enumerate(segments):
        start = int(first[place])
        for collective, partners in _meetings(segment):
            kind = segment.launches[collective].operator.name
            rows = [start + partner for partner in partners]
            pairs = [slowdown.get((segment.launches[p].family, kind), (1.0, 1.0)) for p in partners]
            compute, alone = seconds[rows], float(seconds[start + collective])
            whole = float(compute.sum())
            if whole <= 0:
                continue
            mine, its = np.asarray(pairs).T @ compute / whole
            if its * alone <= mine * whole:
                stretched = whole + its * alone * (1 - 1 / mine)
                result[start + collective] = its * alone
            else:
                stretched = mine * whole
                result[start + collective] = alone + mine * whole * (1 - 1 / its)
            result[rows] *= stretched / whole
    return result


def _meetings(segment: Segment) -> Iterator[tuple[int, list[int]]]:
    """Places of a segment's collectives, each with those of the compute launches beside it."""
    under_way: dict[str, list[tuple[int, list[int]]]] = {}
    place = -1
    for step in segment.steps:
        if isinstance(step, Wait):
            yield from under_way.pop(step.stream, [])
            continue
        if isinstance(step, Sync):
            continue
        place += 1
        if step.stream == "compute":
            for _, partners in (pair for pairs in under_way.values() for pair in pairs):
                partners.append(place)
        else:
            under_way.setdefault(step.stream, []).append((place, []))
    for pairs in under_way.values():
        yield from pairs
