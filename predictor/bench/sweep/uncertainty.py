"""Points in the order in which they tell a fit most.

The half-width of a fitted surface grows with the distance to the closest measured shape
(docs/cost_model.md, eq. 9), so the point that lies farthest from all that is measured is the one
the fit is least certain of. Shapes of real steps weigh more than those that fill the box, and cold
data more than warm.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from predictor.bench.points import Point
from predictor.bench.sweep.tiers import CORE

_REAL_SHAPE_WEIGHT: Final = 1.5
_WARM_WEIGHT: Final = 0.35
_OTHER_KIND: Final = 8.0
"""Distance of two kinds (a pass, a mask, a data type) of one operator, in doublings of work."""
_SEPARATE_FIT: Final = 100.0
"""The same where one says nothing about the other."""
_SEPARATE: Final = frozenset({"kernel", "impl", "cache"})


def most_telling(points: Sequence[Point], measured: Sequence[Point]) -> list[Point]:
    """Points of one operator, each the farthest from those before it and from ``measured``.

    The distance is Euclidean over the binary logarithms of flops and bytes, with a step for each
    field that names a kind (farthest-first traversal, Gonzalez 1985). With sizes in place of flops
    and bytes, an H100's attention needs half as many points again for the same held-out error.
    """
    if not points:
        return []
    work, kinds, separate = _coordinates([*points, *measured])
    weight = np.array([_weight(point) for point in points])
    count = len(points)

    def distance(index: int) -> NDArray[np.float64]:
        squares = np.sum((work[:count] - work[index]) ** 2, axis=1)
        squares += _OTHER_KIND**2 * np.sum(kinds[:count] != kinds[index], axis=1)
        squares += _SEPARATE_FIT**2 * np.any(separate[:count] != separate[index], axis=1)
        return np.asarray(np.sqrt(squares))

    nearest = np.full(count, np.inf)
    for index in range(count, len(work)):
        nearest = np.minimum(nearest, distance(index))
    if not measured:
        nearest = np.full(count, 2 * _SEPARATE_FIT)
    order = []
    for _ in range(count):
        index = int(np.argmax(nearest * weight))
        order.append(points[index])
        nearest = np.minimum(nearest, distance(index))
        nearest[index] = -1.0
    return order


def _weight(point: Point) -> float:
    real = _REAL_SHAPE_WEIGHT if point.tier == CORE else 1.0
    return real * (_WARM_WEIGHT if point.cache == "warm" else 1.0)


def _coordinates(
    points: Sequence[Point],
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Logarithms of work; numbers of kinds; numbers of what is fitted apart: a row a point."""
    work = np.log2([[max(p.operator.flops, 1.0), max(p.operator.bytes, 1.0)] for p in points])
    values = [point.fields | {"cache": point.cache} for point in points]
    names = [name for name, value in values[0].items() if isinstance(value, str | bool)]
    return (
        work,
        _numbered(values, [name for name in names if name not in _SEPARATE]),
        _numbered(values, [name for name in names if name in _SEPARATE]),
    )


def _numbered(values: Sequence[Mapping[str, Any]], names: Sequence[str]) -> NDArray[np.int64]:
    """A number for each distinct value of a field: a row a point, a column a field."""
    seen: dict[tuple[str, object], int] = {}
    rows = [[seen.setdefault((name, each[name]), len(seen)) for name in names] for each in values]
    return np.array(rows, dtype=np.int64).reshape(len(values), len(names))
