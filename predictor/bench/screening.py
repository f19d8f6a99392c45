"""Rules that a believable table keeps: what breaks one is measured again, then flagged.

* physics: no launch is faster than its flops at the peak rate or, from a cold cache, its bytes at
  the memory's;
* spread: the rounds of a point agree;
* neighbours: within one alignment class, a shape that is larger in every extent is not much faster.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from predictor.operators import Interference, Operator, column_fields
from predictor.tables import TIMED_STATUSES, Row

EXTENTS: Final[dict[str, tuple[str, ...]]] = {
    "gemm": ("m", "n", "k"),
    "grouped_gemm": ("tokens", "n", "k"),
    "attention": ("batch", "num_heads", "num_query_groups", "seq_length"),
    "memory_bound": ("rows", "cols"),
    "optimizer": ("elements",),
    "memcpy": ("bytes",),
    "host": (),
    "all_reduce": ("bytes",),
    "all_gather": ("bytes",),
    "reduce_scatter": ("bytes",),
    "all_to_all": ("bytes",),
    "broadcast": ("bytes",),
    "send_recv": ("bytes",),
    "interference": (),
}
SPREAD_LIMIT: Final = 1.10
NEIGHBOUR_LIMIT: Final = 1.20
# Boost clocks may lie a tenth above the clock that a datasheet's peak assumes.
_PEAK_MARGIN: Final = 1.10
_BANDWIDTH_MARGIN: Final = 1.02
_WIDEST_ALIGNMENT: Final = 8
# Below this, launch overhead decides and a larger shape may well be as fast.
_SHORT_SECONDS: Final = 2e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the GPU cannot exceed; None where it is not known.

    Attributes:
        flops_per_second: Dense peak by number format; a format that is not there is not judged.
        bytes_per_second: Of device memory.
        l2_bytes: Last-level cache, which serves repeated reads.
    """

    flops_per_second: Mapping[str, float] = field(default_factory=dict)
    bytes_per_second: float | None = None
    l2_bytes: float = 0.0


def faults(row: Row, limits: Limits) -> list[str]:
    """Rules that a timed row breaks by itself, in words."""
    if row.seconds is None or row.seconds_low is None or row.seconds_high is None:
        return []
    found = []
    peak = limits.flops_per_second.get(getattr(row.operator, "dtype", ""))
    if peak:
        bound = row.operator.flops / (peak * _PEAK_MARGIN)
        if row.seconds < bound:
            found.append(f"faster than physics: {row.seconds:.3g} s, flops take {bound:.3g} s")
    beyond_cache = row.operator.working_set_bytes > 4 * limits.l2_bytes
    streams = not isinstance(row.operator, Interference)  # its bytes are the collective's
    if limits.bytes_per_second and streams and row.cache == "cold" and beyond_cache:
        bound = row.operator.bytes / (limits.bytes_per_second * _BANDWIDTH_MARGIN)
        if row.seconds < bound:
            found.append(f"faster than physics: {row.seconds:.3g} s, bytes take {bound:.3g} s")
    if row.rounds > 1 and row.seconds_high > SPREAD_LIMIT * row.seconds_low:
        spread = row.seconds_high / row.seconds_low - 1
        found.append(f"rounds differ by {spread:.0%}")
    return found


def neighbour_faults(rows: Iterable[Row], among: Iterable[Row]) -> list[tuple[Row, str]]:
    """Those of ``rows`` that take clearly longer than a row that is larger in every extent."""
    groups: dict[object, list[tuple[tuple[int, ...], float]]] = defaultdict(list)
    for row in among:
        if _comparable(row):
            groups[_class_of(row)].append((_extents(row.operator), row.seconds or 0.0))
    found = []
    for row in filter(_comparable, rows):
        extents, seconds = _extents(row.operator), row.seconds or 0.0
        limit = (seconds - _SHORT_SECONDS) / NEIGHBOUR_LIMIT
        for larger, faster in groups[_class_of(row)]:
            if faster < limit and all(a >= b for a, b in zip(larger, extents, strict=True)):
                found.append((row, f"takes {seconds:.3g} s, the larger {larger} {faster:.3g} s"))
                break
    return found


def flags(rows: Sequence[Row], limits: Limits) -> list[str]:
    """One line for each rule that a row breaks, for runs.toml."""
    lines = [f"{row.operator}, {row.cache}: {text}" for row in rows for text in faults(row, limits)]
    return lines + [
        f"{row.operator}, {row.cache}: {text}" for row, text in neighbour_faults(rows, rows)
    ]


def _comparable(row: Row) -> bool:
    return row.status in TIMED_STATUSES and bool(EXTENTS[row.operator.name])


def _extents(operator: Operator) -> tuple[int, ...]:
    return tuple(getattr(operator, name) for name in EXTENTS[operator.name])


def _class_of(row: Row) -> object:
    """Everything but the extents, with how each extent is aligned."""
    names = EXTENTS[row.operator.name]
    rest = tuple(
        getattr(row.operator, each.name)
        for each in column_fields(row.operator)
        if each.name not in names
    )
    alignment = tuple(min(e & -e, _WIDEST_ALIGNMENT) for e in _extents(row.operator))
    return row.operator.name, rest, alignment, row.regime, row.cache, row.run
