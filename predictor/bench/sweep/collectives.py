"""Collectives: all sizes on all GPUs, powers of two on fewer, groups side by side, single pairs."""

from collections.abc import Iterator
from typing import Any, Final

from predictor.bench.points import Point
from predictor.bench.sweep.tiers import ANCHOR, CORE, WIDE
from predictor.operators import (
    AllGather,
    AllReduce,
    AllToAll,
    Broadcast,
    Collective,
    ReduceScatter,
    SendRecv,
)

NAMES: Final = tuple(
    kind.name for kind in (AllReduce, AllGather, ReduceScatter, AllToAll, Broadcast, SendRecv)
)
_KIB: Final = 1 << 10
_MIB: Final = 1 << 20
_POWERS: Final = tuple(1 << k for k in range(10, 33))
_BETWEEN: Final = tuple(3 << k for k in range(10, 31))
# Where the library switches between protocols and algorithms.
_DENSE: Final = tuple(
    eighths * size // 8
    for size in _POWERS
    if 8 * _KIB <= size < _MIB or _MIB <= size < 32 * _MIB
    for eighths in (10, 14)
)
_ANCHORS: Final = (64 * _KIB, 16 * _MIB, 1 << 30)
_FEW: Final = tuple(1 << k for k in range(12, 31, 2))
_PAIR_SIZES: Final = (_MIB, 256 * _MIB)


def points(name: str, *, gpus: int, gpus_per_node: int, nvls: bool) -> list[Point]:
    """All points of one collective, the most important first.

    Args:
        name: Of the collective.
        gpus: Ranks of the run.
        gpus_per_node: Of them on one host.
        nvls: NVLink SHARP may be used.
    """
    if gpus < 2:  # noqa: PLR2004 - a collective of one rank moves nothing
        return []
    layouts = list(_layouts(gpus, gpus_per_node))
    widest = layouts[0]
    found: list[Point] = []
    for layout in layouts:
        first = layout == widest
        place = {"ranks": layout[0], "ranks_per_node": layout[1], "groups": layout[2], "nvls": nvls}
        for number, variant in enumerate(_variants(name, layout[0])):
            alone = first and number == 0
            for size in _sizes(name, usual=number == 0, first=first, grouped=layout[2] > 1):
                tier = _tier(name, size) if alone else WIDE
                found.append(_point(name, tier, bytes=size, **place, **variant))
    if name == "send_recv" and gpus > 2:  # noqa: PLR2004 - a lone pair is measured above
        found += _pairs(gpus, gpus_per_node, nvls=nvls)
    return sorted(found, key=lambda point: point.tier)


def _layouts(gpus: int, gpus_per_node: int) -> Iterator[tuple[int, int, int]]:
    """Ranks, ranks a node and groups: everyone, then fewer on a node, then groups side by side."""
    nodes = gpus // gpus_per_node
    yield gpus, min(gpus, gpus_per_node), 1
    inside = [1 << k for k in range(1, gpus_per_node.bit_length()) if 1 << k < gpus]
    for ranks in reversed(inside):
        yield ranks, ranks, 1
    if nodes > 1 and gpus_per_node > 1:
        yield nodes, 1, 1
        yield nodes, 1, gpus_per_node
    for ranks in reversed(inside):
        if 2 * ranks <= gpus_per_node:
            yield ranks, ranks, gpus_per_node // ranks


def _variants(name: str, ranks: int) -> list[dict[str, Any]]:
    """How a collective may be called, the usual way first."""
    if name in {"all_reduce", "broadcast"}:
        return [{"in_place": True}, {"in_place": False}]
    if name in {"all_gather", "reduce_scatter"}:
        return [{"in_place": False}, {"in_place": True}]
    if name == "all_to_all":
        return [{"pattern": "even"}, {"pattern": "uneven"}]
    pair = [{"pattern": "one_way"}, {"pattern": "both_ways"}]
    return pair if ranks == 2 else [{"pattern": "ring"}]  # noqa: PLR2004


def _sizes(name: str, *, usual: bool, first: bool, grouped: bool) -> list[int]:
    if grouped or not usual:
        return list(_FEW)
    if not first:
        return list(_POWERS)
    dense = () if name in {"broadcast", "send_recv"} else _DENSE
    return sorted({*_POWERS, *_BETWEEN, *dense})


def _tier(name: str, size: int) -> int:
    if size in _ANCHORS and name not in {"broadcast", "send_recv"}:
        return ANCHOR
    return WIDE if size in _DENSE else CORE


def _pairs(gpus: int, gpus_per_node: int, *, nvls: bool) -> Iterator[Point]:
    for size in _PAIR_SIZES:
        for source in range(gpus):
            for destination in range(gpus):
                together = source // gpus_per_node == destination // gpus_per_node
                if source != destination and (source, destination) != (0, 1):
                    yield _point(
                        "send_recv",
                        WIDE,
                        bytes=size,
                        ranks=2,
                        ranks_per_node=2 if together else 1,
                        nvls=nvls,
                        pattern="one_way",
                        source=source,
                        destination=destination,
                    )


_KINDS: Final[dict[str, type[Collective]]] = {
    kind.name: kind for kind in (AllReduce, AllGather, ReduceScatter, AllToAll, Broadcast, SendRecv)
}


def _point(name: str, tier: int, **fields: Any) -> Point:  # noqa: ANN401
    return Point(operator=_KINDS[name](**fields), tier=tier, anchor=tier == ANCHOR)
