"""Physical bounds and regressors of attention and of kernels that move bytes (eq. 6-8).

A cost function is fitted to *measured seconds over a physical bound*, so its coefficients are
dimensionless and the same regressors carry over from one GPU to another. Functions here turn
operators into that bound, named regressors that add up to the ratio, and the coordinates in which
residuals are correlated; fitting and prediction both call them. Matrix products, which are not a
sum of regressors, are in :mod:`predictor.costs.tiles`.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from predictor.costs.design import (
    LAUNCH_SECONDS,
    Chip,
    LinearDesign,
    column,
    flags,
    labels,
    peaks,
    words,
)
from predictor.costs.prediction import Floats
from predictor.operators import Operator

STREAM_PRIOR = {
    "launch": (1.2, 0.7),
    "bytes": (1.2, 0.5),
    "resident": (-0.4, 0.4),
    "row": (0.0, 1.0),
    "narrow": (0.0, 0.3),
}
"""Expected coefficient and its standard deviation: a kernel starts in a few microseconds and
reaches most of the bandwidth. With few points a kernel, what they do not say is taken from here."""


ATTENTION_PRIOR = {
    "launch": (3.4, 0.3),
    "work": (1.4, 0.5),
    "waste": (-0.3, 0.1),
    "tail": (1.0, 0.1),
    "work_backward": (0.2, 0.5),
    "narrow": (0.8, 0.1),
    "narrow_backward": (-0.25, 0.1),
    "full": (0.0, 0.1),
    "full_backward": (0.0, 0.1),
    "bias": (1.4, 0.3),
    "bias_narrow": (0.05, 0.1),
    "bias_backward": (0.1, 0.1),
    "diagonal": (4.6, 0.5),
    "diagonal_backward": (-1.0, 0.5),
    "helpers": (1.4, 0.2),
    "flash": (1.8, 0.3),
    "flash_backward": (-0.1, 0.1),
    "window": (-0.5, 0.3),
    "window_backward": (0.0, 0.5),
    "packed": (0.7, 0.2),
    "short": (-0.2, 0.1),
    "thin_values": (0.3, 0.3),
    "thin_values_backward": (0.0, 0.3),
    "memory": (0.95, 0.2),
}
"""What H100 and H200 came to, for tables too thin to tell all of these apart: the rate of each pass
is theirs to say (wide), what goes with sizes is taken from there (narrow)."""


def attention_design(rows: Sequence[Operator], chip: Chip, cache: str = "cold") -> LinearDesign:
    """Attention: launch plus its products at the tensor rate, or its tensors at HBM's (eq. 6)."""
    del cache  # as products
    batch, heads = column(rows, "batch"), column(rows, "num_heads")
    groups, s = column(rows, "num_query_groups"), column(rows, "seq_length")
    d = column(rows, "head_dim")
    value = np.where(column(rows, "value_head_dim") > 0, column(rows, "value_head_dim"), d)
    causal, bias = flags(rows, "causal"), flags(rows, "bias")
    backward = (words(rows, "kind") == "backward").astype(float)
    products = np.where(backward > 0, 3 * d + 2 * value, d + value)
    flops = 2 * batch * heads * column(rows, "scores") * products
    queries = column(rows, "queries")
    tokens = batch * queries
    moved = 2 * (tokens * heads + batch * s * groups) * (d + value) * (1 + backward)
    moved += 12 * backward * tokens * heads * d + 2 * bias * tokens * s
    rate = peaks(chip, words(rows, "dtype"))
    compute = flops / rate
    launch = LAUNCH_SECONDS * (1 + 2 * backward)
    bound = launch + np.maximum(compute, moved / chip.bytes_per_second)
    blocks = batch * heads * np.ceil(queries / 128)
    work = compute / bound
    share = chip.sm_count / blocks
    window = (column(rows, "window") > 0).astype(float)
    edges = causal * (1 + window)  # blocks that a mask cuts: at the diagonal, at the window's end
    diagonal = edges * 2 * batch * heads * queries * 64 * products / rate / bound
    helpers = tokens * backward * (14 * heads * d + (groups < heads) * 4 * (heads + groups) * d)
    narrow = np.log2(128.0 / d)
    packed, short, thin = column(rows, "documents") > 1, queries < s, value != d
    flash = (words(rows, "impl") == "flash").astype(float)
    columns = {
        "launch": launch / bound,
        "work": work,
        "waste": work * (np.ceil(1.0 / share) * share - 1.0),
        "tail": work * share * (1 + causal),
        "work_backward": work * backward,
        "narrow": work * narrow,
        "narrow_backward": work * narrow * backward,
        "full": work * (1 - causal),
        "full_backward": work * (1 - causal) * backward,
        "bias": work * bias,
        "bias_narrow": work * bias * narrow,
        "bias_backward": work * bias * backward,
        "diagonal": diagonal,
        "diagonal_backward": diagonal * backward,
        "helpers": helpers / chip.bytes_per_second / bound,
        "flash": work * flash,
        "flash_backward": work * flash * backward,
        "window": work * window,
        "window_backward": work * window * backward,
        "packed": work * packed,
        "short": work * short,
        "thin_values": work * thin,
        "thin_values_backward": work * thin * backward,
        "memory": np.maximum(moved / chip.bytes_per_second - compute, 0.0) / bound,
    }
    coordinates = np.stack([np.log2(s), np.log2(batch * heads), np.log2(d)], axis=1)
    options = (backward, causal, bias, flash, window, packed, short, thin)
    group = sum(2**place * option for place, option in enumerate(options)).astype(np.int64)
    return LinearDesign(
        bound=bound,
        floor=moved / chip.bytes_per_second,
        coordinates=coordinates,
        group=group,
        stratum=np.zeros_like(group),
        columns=columns,
    )


def stream_columns(
    moved: Floats, row_bytes: Floats, width: Floats, chip: Chip, cache: str
) -> tuple[Floats, dict[str, Floats]]:
    """Bound and regressors of a kernel that only moves bytes (eq. 7).

    ``resident`` is the share of a warm working set that survives in L2 from one launch to the
    next: all of it up to half of L2's size, none beyond the whole. ``row`` is one row on one SM,
    which a kernel that gives each row to a block cannot beat; ``narrow`` is what reductions lose on
    rows shorter than 2,048.
    """
    stream = moved / chip.bytes_per_second
    bound = LAUNCH_SECONDS + stream
    resident = np.clip(2.0 * (1.0 - moved / chip.l2_bytes), 0.0, float(cache == "warm"))
    columns = {
        "launch": LAUNCH_SECONDS / bound,
        "bytes": stream / bound,
        "resident": resident * stream / bound,
        "row": row_bytes * chip.sm_count / chip.bytes_per_second / bound,
        "narrow": np.maximum(2048.0 / np.maximum(width, 64.0) - 1.0, 0.0) * stream / bound,
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
    coordinates = np.stack([np.log2(moved + 1.0), 0.5 * np.log2(width)], axis=1)
    group = labels(rows, "impl", "kernel")
    return _stream(bound, _level_seconds(moved, chip, cache), coordinates, group, columns)


def optimizer_design(rows: Sequence[Operator], chip: Chip, cache: str = "cold") -> LinearDesign:
    """The optimizer step: its states once through memory (eq. 8)."""
    moved = column(rows, "bytes")
    bound, columns = stream_columns(moved, 0.0 * moved, 0.0 * moved + 2048.0, chip, cache)
    group = labels(rows, "impl", "kernel", "dtype")
    coordinates = np.log2(moved + 1.0)[:, None]
    return _stream(bound, _level_seconds(moved, chip, cache), coordinates, group, columns)
