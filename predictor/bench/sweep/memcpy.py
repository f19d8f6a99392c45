"""Copies from a kilobyte to a gigabyte: each direction, from page-locked memory and not."""

from typing import Final

from predictor.bench.points import Point
from predictor.bench.sweep.tiers import ANCHOR, CORE, WIDE
from predictor.operators import Memcpy
from predictor.operators.memcpy import Direction

_KIB: Final = 1 << 10
_MIB: Final = 1 << 20
_CORE: Final = (16 * _MIB, 256 * _MIB)
_WIDE: Final = (_KIB, 32 * _KIB, 256 * _KIB, _MIB, 4 * _MIB, 64 * _MIB, 1 << 30)
_PAGEABLE: Final = (32 * _KIB, _MIB, 16 * _MIB, 256 * _MIB)


def points() -> list[Point]:
    """All copies; those between devices last, as one device alone cannot make them."""
    anchors = [_point("h2d", 64 * _MIB, tier=ANCHOR), _point("d2h", 64 * _MIB, tier=ANCHOR)]
    core = [
        _point(direction, size, tier=CORE) for size in _CORE for direction in ("h2d", "d2h", "d2d")
    ]
    wide = [
        _point(direction, size, tier=WIDE) for size in _WIDE for direction in ("h2d", "d2h", "d2d")
    ]
    pageable = [
        _point(direction, size, tier=WIDE, pinned=False)
        for size in _PAGEABLE
        for direction in ("h2d", "d2h")
    ]
    peer = [_point("peer", size, tier=WIDE) for size in sorted(_CORE + _WIDE)]
    return [*anchors, *core, *wide, *pageable, *peer]


def _point(direction: Direction, size: int, *, tier: int, pinned: bool = True) -> Point:
    return Point(
        operator=Memcpy(direction=direction, bytes=size, pinned=pinned),
        tier=tier,
        anchor=tier == ANCHOR,
    )
