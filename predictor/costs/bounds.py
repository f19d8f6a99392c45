"""Physical bounds and regressors of kernels that move bytes (eq. 7 and 8).

A cost function is fitted to *measured seconds over a physical bound*, so its coefficients are
dimensionless and the same regressors carry over from one GPU to another. Functions here turn
operators into that bound, named regressors that add up to the ratio, and the coordinates in which
residuals are correlated; fitting and prediction both call them. Matrix products, which are not a
sum of regressors, are in :mod:`predictor.costs.tiles`, attention in
:mod:`predictor.costs.attention`.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from predictor.costs.design import (
    LAUNCH_SECONDS,
    Chip,
    LinearDesign,
    column,
    labels,
)
from predictor.costs.prediction import Floats
from predictor.operators import Operator

STREAM_PRIOR = {
    "launch": (1.2, 0.7),
    "bytes": (1.2, 0.5),
    "resident": (-0.3, 0.4),
    "kept": (-0.1, 0.4),
    "row": (0.0, 1.0),
    "narrow": (0.0, 0.3),
    "overlap": (-0.2, 0.2),
}
"""Expected coefficient and its standard deviation: a kernel starts in a few microseconds and
reaches most of the bandwidth. With few points a kernel, what they do not say is taken from here."""

WARM_LIKE_COLD = {"launch": 0.2, "bytes": 0.1, "row": 0.5, "overlap": 0.1}
"""What L2 does not change: how far coefficients of warm kernels lie from those of cold ones."""

SMALL_BYTES = float(1 << 20)
"""Launches of less take the time of a launch: their sizes lie close together."""


def stream_columns(
    moved: Floats, row_bytes: Floats, width: Floats, chip: Chip, cache: str
) -> tuple[Floats, dict[str, Floats]]:
    """Bound and regressors of a kernel that only moves bytes (eq. 7).

    ``resident`` is the share of a warm working set that survives in L2 from one launch to the
    next: all of it up to half of L2's size, none beyond the whole. ``kept`` is the same where all
    of it survives up to three quarters; a GPU lies anywhere between. ``row`` is one row on one SM,
    which a kernel that gives each row to a block cannot beat; ``narrow`` is what reductions lose on
    rows shorter than 2,048. ``overlap`` is work that runs while a launch begins and ends: nothing
    where either is short, half of both where alike.
    """
    stream = moved / chip.bytes_per_second
    bound = LAUNCH_SECONDS + stream
    most, left = float(cache == "warm"), 1.0 - moved / chip.l2_bytes
    columns = {
        "launch": LAUNCH_SECONDS / bound,
        "bytes": stream / bound,
        "resident": np.clip(2.0 * left, 0.0, most) * stream / bound,
        "kept": np.clip(4.0 * left, 0.0, most) * stream / bound,
        "row": row_bytes * chip.sm_count / chip.bytes_per_second / bound,
        "narrow": np.maximum(2048.0 / np.maximum(width, 64.0) - 1.0, 0.0) * stream / bound,
        "overlap": LAUNCH_SECONDS * stream / bound / bound,
    }
    return bound, columns


def _level_seconds(moved: Floats, chip: Chip, cache: str) -> Floats:
    """Seconds of the memory level that holds the data: HBM when cold, L2 when warm."""
    warm = cache == "warm"
    return moved / (chip.l2_bytes_per_second if warm else chip.bytes_per_second)


def _stream(
    bound: Floats,
    floor: Floats,
    coordinates: Floats,
    group: NDArray[np.int64],
    columns: dict[str, Floats],
) -> LinearDesign:
    """A design of one stratum."""
    return LinearDesign(
        bound=bound,
        floor=floor,
        coordinates=coordinates,
        group=group,
        stratum=np.zeros_like(group),
        columns=columns,
    )


def stream_design(rows: Sequence[Operator], chip: Chip, cache: str = "cold") -> LinearDesign:
    """Memory-bound kernels: launch plus bytes over bandwidth, with what stays in L2 (eq. 7)."""
    extent, width = column(rows, "rows"), column(rows, "cols")
    moved = column(rows, "bytes")
    row_bytes = moved / extent
    bound, columns = stream_columns(moved, row_bytes, width, chip, cache)
    coordinates = np.stack([np.log2(moved + SMALL_BYTES), 0.5 * np.log2(width)], axis=1)
    group = labels(rows, "impl", "kernel")
    return _stream(bound, _level_seconds(moved, chip, cache), coordinates, group, columns)


def optimizer_design(rows: Sequence[Operator], chip: Chip, cache: str = "cold") -> LinearDesign:
    """The optimizer step: its states once through memory (eq. 8)."""
    moved = column(rows, "bytes")
    bound, columns = stream_columns(moved, 0.0 * moved, 0.0 * moved + 2048.0, chip, cache)
    lists = (column(rows, "tensors") > 1).astype(np.int64)  # other kernels than one flat buffer's
    group = labels(rows, "impl", "kernel", "dtype") + lists
    coordinates = np.log2(moved + SMALL_BYTES)[:, None]
    return _stream(bound, _level_seconds(moved, chip, cache), coordinates, group, columns)
