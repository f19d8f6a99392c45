"""Bounds and regressors of what moves between devices: collectives and copies (eq. 13, 14).

    t = a₀·t₀ + a₁·n/B + a₂·√(t₀·n/B)

of each measured kind of call: its start, its bytes on the link, and the sizes between, where the
library changes protocol. Bytes ``n`` are those that a rank must send. Collectives over groups that
nobody measured are the business of :mod:`predictor.costs.fabric`.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from predictor.costs.design import (
    LAUNCH_SECONDS,
    UNRELATED,
    Chip,
    LinearDesign,
    column,
    flags,
    labels,
    words,
)
from predictor.costs.prediction import Floats, Ints
from predictor.operators import Operator

MESSAGE_PRIOR = {"launch": (4.0, 4.0), "bytes": (1.3, 0.5), "between": (0.5, 1.0)}
"""A collective starts in some ten microseconds and reaches most of the link."""

COPY_PRIOR = {
    "launch": (1.0, 0.5),
    "bytes": (1.2, 0.5),
    "staged": (3.0, 2.0),
    "uncached": (3.0, 3.0),
}
"""One core fills the driver's pinned buffer at a third to a fifth of the link's rate, and slower
once the host's caches hold no more."""

HOST_CACHE_BYTES = 16.0 * (1 << 20)
"""Beyond it, one core reads the host's memory."""

_KEY = ("ranks", "ranks_per_node", "nvls", "groups", "pattern")


def collective_design(rows: Sequence[Operator], chip: Chip, cache: str = "cold") -> LinearDesign:
    """Collectives of one kind inside a scale-up domain; each group of ranks is a curve of its own.

    Elements of another type change what is added, not what is sent, and where the result goes does
    neither, so types share a curve, and so do calls in place and not.
    """
    del cache  # links do not care
    link = column(rows, "bus_bytes") / (chip.link_bytes_per_second or chip.bytes_per_second)
    bound = LAUNCH_SECONDS + link
    columns = {
        "launch": LAUNCH_SECONDS / bound,
        "bytes": link / bound,
        "between": np.sqrt(LAUNCH_SECONDS * link) / bound,
    }
    known = tuple(key for key in _KEY if hasattr(rows[0], key))
    return _design(bound, column(rows, "bytes"), labels(rows, *known), columns)


def memcpy_design(rows: Sequence[Operator], chip: Chip, cache: str = "cold") -> LinearDesign:
    """Copies by the driver: launch plus bytes over the rate of what they cross.

    Pageable memory is staged: the host copies it through a pinned buffer of the driver.
    """
    del cache  # copies are measured cold
    direction, size = words(rows, "direction"), column(rows, "bytes")
    rate = np.full(len(size), chip.host_bytes_per_second or chip.bytes_per_second)
    rate = np.where(direction == "d2d", 0.5 * chip.bytes_per_second, rate)
    rate = np.where(direction == "peer", chip.link_bytes_per_second or rate, rate)
    bound = LAUNCH_SECONDS + size / rate
    pageable = 1.0 - flags(rows, "pinned")
    columns = {
        "launch": LAUNCH_SECONDS / bound,
        "bytes": size / rate / bound,
        "staged": pageable * size / rate / bound,
        "uncached": pageable * np.maximum(size - HOST_CACHE_BYTES, 0.0) / rate / bound,
    }
    staged = pageable > 0
    kinds = [direction == "d2d", direction == "peer", staged & (direction == "h2d"), staged]
    link = np.select(kinds, [1, 2, 3, 4], 0)
    design = _design(bound, size, link, columns)
    apart = UNRELATED * (direction == "d2h")
    coordinates = np.column_stack([design.coordinates, apart])
    return replace(design, coordinates=coordinates, stratum=staged.astype(np.int64))


def _design(bound: Floats, size: Floats, group: Ints, columns: dict[str, Floats]) -> LinearDesign:
    return LinearDesign(
        bound=bound,
        floor=np.zeros_like(bound),
        coordinates=np.log2(size + 1.0)[:, None],
        group=group,
        stratum=np.zeros_like(group),
        columns=columns,
    )
