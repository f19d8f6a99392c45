"""Copies from a kilobyte to a gigabyte: each direction, from page-locked memory and not."""

from typing import Final

from predictor.bench.points import Point
from predictor.bench.sweep.tiers import ANCHOR, BETWEEN, CORE, WIDE
from predictor.operators import Memcpy
from predictor.operators.memcpy import Direction

_KIB: Final = 1 << 10
_MIB: Final = 1 << 20
_ONE_DEVICE: Final[tuple[Direction, ...]] = ("h2d", "d2h", "d2d")
_CORE: Final = (16 * _MIB, 256 * _MIB)
_WIDE: Final = (_KIB, 32 * _KIB, 256 * _KIB, _MIB, 4 * _MIB, 64 * _MIB, 1 << 30)
_PAGEABLE: Final = (32 * _KIB, _MIB, 16 * _MIB, 256 * _MIB)
_BETWEEN: Final = (4 * _KIB, 12 * _KIB, 96 * _KIB, 512 * _KIB, 2 * _MIB, 8 * _MIB, 32 * _MIB)
_DENSE: Final = tuple(
    size * _KIB for size in (2, 8, 16, 20, 24, 48, 64, 128, 160, 192, 320, 384, 768, 1280, 1536)
) + tuple(size * _MIB for size in (3, 5, 6, 10, 12, 20, 24, 48, 96, 128, 160, 192, 384, 512, 768))
"""From page-locked memory, where a size tells of the next; pageable ones vary with the host."""

_PAGEABLE_BETWEEN: Final = (
    *(_KIB, 4 * _KIB, 16 * _KIB, 64 * _KIB, 96 * _KIB, 128 * _KIB, 256 * _KIB, 512 * _KIB),
    *(2 * _MIB, 4 * _MIB, 8 * _MIB, 32 * _MIB, 64 * _MIB, 128 * _MIB),
)
"""Pageable copies are staged in pieces, and small ones in another way: dense where that changes."""


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
    between = [_point(way, size, tier=BETWEEN) for size in _BETWEEN for way in _ONE_DEVICE]
    between += [_point(way, size, tier=BETWEEN) for size in _DENSE for way in _ONE_DEVICE]
    between += [
        _point(way, size, tier=BETWEEN, pinned=False)
        for size in _PAGEABLE_BETWEEN
        for way in _ONE_DEVICE[:2]
    ]
    return [*anchors, *core, *wide, *pageable, *peer, *between]


def _point(direction: Direction, size: int, *, tier: int, pinned: bool = True) -> Point:
    return Point(
        operator=Memcpy(direction=direction, bytes=size, pinned=pinned),
        tier=tier,
        anchor=tier == ANCHOR,
    )
