"""Physical bounds and regressors of each operator family (docs/cost_model.md, eq. 1–9).

A cost function is fitted to the logarithm of *measured seconds over a physical bound*, so its
coefficients are dimensionless and the same regressors carry over from one GPU to another. Functions
here turn columns of operator fields into that bound, a named design matrix, and the coordinates in
which residuals are correlated. They are the only place where regressors are defined: fitting and
prediction both call them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predictor.costs.prediction import Floats
from predictor.operators import KERNELS, Gemm, Operator

LAUNCH_SECONDS = 2.0e-6
"""A kernel that does nothing: start, one wave of empty blocks, end."""

STREAM_PRIOR = {
    "launch": (1.2, 0.7),
    "bytes": (1.2, 0.5),
    "resident": (-0.4, 0.4),
    "row": (0.0, 1.0),
    "narrow": (0.0, 0.3),
}
"""Expected coefficient and its standard deviation: a kernel starts in a few microseconds and
reaches most of the bandwidth. With few points a kernel, what they do not say is taken from here."""

PRIOR_NOISE = 0.05
"""Standard deviation of one measured ratio, which weighs points against the prior."""

LEAST_RATIO = 0.05
"""No kernel beats its bound twentyfold, even out of L2; keeps logarithms finite."""

TILES = ((320, 128), (256, 128), (192, 192), (192, 128), (128, 128), (128, 64), (64, 64))
"""Output tiles of the library's Hopper kernels, as their names list them."""

TILE_RATES = (1.0, 1.0, 0.99, 0.95, 0.88, 0.66, 0.45)
"""Share of the peak that a tile can feed: an ``a × b`` tile reads ``a + b`` numbers for ``a·b``
products, so shared memory limits small ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """The datasheet rates that bounds are made of.

    Attributes:
        flops_per_second: Dense tensor rate at boost clock, by number format.
        bytes_per_second: HBM rate.
        l2_bytes: Second-level cache.
        sm_count: Streaming multiprocessors.
    """

    flops_per_second: Mapping[str, float]
    bytes_per_second: float
    l2_bytes: float
    sm_count: int


@dataclass(frozen=True, slots=True)
class Design:
    """What a family's function makes of a batch of operators.

    Attributes:
        bound: Physical lower estimate, seconds.
        names: Regressor names.
        matrix: One row an operator, one column a regressor.
        coordinates: Positions for the correlation of residuals.
        group: Residuals correlate only within one group.
        groups: How many groups the family has, asked about or not.
        linear: Regressors add up to the ratio itself instead of its logarithm.
    """

    bound: Floats
    names: tuple[str, ...]
    matrix: Floats
    coordinates: Floats
    group: NDArray[np.int64]
    groups: int
    linear: bool = False

    def log_trend(self, coefficients: Floats) -> Floats:
        """Logarithm of the ratio that coefficients (a row for each operator) predict."""
        trend = np.sum(self.matrix * coefficients, axis=1)
        return np.asarray(np.log(np.maximum(trend, LEAST_RATIO)) if self.linear else trend)


def column(rows: Sequence[Operator], key: str) -> Floats:
    """One numeric field of all rows."""
    return np.array([getattr(row, key) for row in rows], dtype=float)


def words(rows: Sequence[Operator], key: str) -> NDArray[np.str_]:
    """One text field of all rows."""
    return np.array([getattr(row, key) for row in rows], dtype=np.str_)


def flags(rows: Sequence[Operator], key: str) -> Floats:
    """One yes-or-no field of all rows as 0 and 1."""
    return np.array([bool(getattr(row, key)) for row in rows], dtype=float)


def peaks(chip: Chip, dtypes: NDArray[np.str_]) -> Floats:
    """Tensor rate of each row's number format."""
    return np.array([chip.flops_per_second[str(d)] for d in dtypes])


def wave_efficiency(rows: Floats, cols: Floats, chip: Chip) -> Floats:
    """Best share of the machine that any output tile keeps busy (eq. 3).

    An output of ``rows × cols`` takes ``ceil`` of its tiles over the SMs waves; the last wave and
    the tiles' ragged edges are waste.
    """
    best = np.zeros_like(rows)
    for (a, b), rate in zip(TILES, TILE_RATES, strict=True):
        for high, wide in ((a, b), (b, a)):
            tiles = np.ceil(rows / high) * np.ceil(cols / wide)
            capacity = np.ceil(tiles / chip.sm_count) * chip.sm_count * high * wide
            best = np.maximum(best, rate * rows * cols / capacity)
    return best


def gemm_design(rows: Sequence[Operator], chip: Chip, cache: str = "cold") -> Design:
    """Matrix products: launch plus the slower of tensor cores and memory (eq. 1–4)."""
    del cache  # products are measured cold: weights are, and activations rarely matter
    m, n, k = column(rows, "m"), column(rows, "n"), column(rows, "k")
    kind = words(rows, "kind")
    accumulate = flags(rows, "accumulate")
    forward, dgrad = kind == "forward", kind == "dgrad"
    products = [row.output_shape() for row in rows if isinstance(row, Gemm)]
    out_rows, out_cols, depth = np.array(products, dtype=float).reshape(-1, 3).T
    size = np.where(words(rows, "dtype") == "fp8", 1.0, 2.0)
    moved = size * (m * k + n * k + m * n) + accumulate * (8 - size) * n * k
    compute = 2 * m * n * k / peaks(chip, words(rows, "dtype"))
    memory = moved / chip.bytes_per_second
    bound = LAUNCH_SECONDS + np.maximum(compute, memory)
    waves = -np.log(wave_efficiency(out_rows, out_cols, chip))
    share = compute / (compute + memory)
    aligned = np.where((m % 8 == 0) & (n % 8 == 0) & (k % 8 == 0), 0.0, 1.0)
    columns = {
        "one": np.ones_like(m),
        "waves": waves * share,
        "memory": np.log1p(memory / compute) * share,
        "prologue": np.minimum(64.0 / depth, 1.0) * share,
        "launch": LAUNCH_SECONDS / bound,
        "streaming": 1 - share,
        "dgrad": dgrad.astype(float),
        "wgrad": (kind == "wgrad").astype(float),
        "accumulate": accumulate,
        "bias": flags(rows, "bias"),
        "cublaslt": (words(rows, "api") == "cublaslt").astype(float),
        "best": (words(rows, "algorithm") == "best").astype(float),
        "misaligned": aligned,
        "ragged_n": (n % 64 != 0) * share,
        "ragged_k": (k % 64 != 0) * share,
    }
    coordinates = np.log2(np.stack([out_rows, out_cols, depth], axis=1))
    group = np.where(forward, 0, np.where(dgrad, 1, 2)) + 3 * accumulate.astype(np.int64)
    return Design(
        bound,
        tuple(columns),
        np.stack(list(columns.values()), axis=1),
        coordinates,
        group.astype(np.int64),
        6,
    )


def attention_design(rows: Sequence[Operator], chip: Chip, cache: str = "cold") -> Design:
    """Attention: launch plus its products at the tensor rate, or its tensors at HBM's (eq. 5)."""
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
    work = compute * np.ceil(blocks / chip.sm_count) * chip.sm_count / blocks / bound
    diagonal = causal * 2 * batch * heads * queries * 64 * products / rate / bound
    helpers = tokens * backward * (14 * heads * d + (groups < heads) * 4 * (heads + groups) * d)
    narrow = np.log2(128.0 / d)
    flash = (words(rows, "impl") == "flash").astype(float)
    columns = {
        "launch": launch / bound,
        "work": work,
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
    }
    coordinates = np.stack([np.log2(s), np.log2(batch * heads), np.log2(d)], axis=1)
    group = (backward + 2 * causal + 4 * bias + 8 * flash).astype(np.int64)
    return Design(
        bound,
        tuple(columns),
        np.stack(list(columns.values()), axis=1),
        coordinates,
        group,
        16,
        linear=True,
    )


STREAM_KEYS = tuple(f"{impl}/{kernel}" for impl, kernels in KERNELS.items() for kernel in kernels)
STREAM_INDEX = {key: index for index, key in enumerate(STREAM_KEYS)}
_STREAM_BYTES = np.array(
    [k.read_bytes + k.written_bytes for kernels in KERNELS.values() for k in kernels.values()]
)


def stream_group(rows: Sequence[Operator]) -> NDArray[np.int64]:
    """Index of each row's kernel in ``STREAM_KEYS``."""
    keys = zip(words(rows, "impl"), words(rows, "kernel"), strict=True)
    return np.array([STREAM_INDEX[f"{impl}/{kernel}"] for impl, kernel in keys], dtype=np.int64)


def stream_columns(
    moved: Floats, row_bytes: Floats, width: Floats, chip: Chip, cache: str
) -> tuple[Floats, dict[str, Floats]]:
    """Bound and regressors of a kernel that only moves bytes (eq. 6–7).

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


def stream_design(rows: Sequence[Operator], chip: Chip, cache: str = "cold") -> Design:
    """Memory-bound kernels: launch plus bytes over bandwidth, with what stays in L2 (eq. 6–7)."""
    group = stream_group(rows)
    extent, width = column(rows, "rows"), column(rows, "cols")
    moved = extent * width * _STREAM_BYTES[group]
    row_bytes = width * _STREAM_BYTES[group]
    bound, columns = stream_columns(moved, row_bytes, width, chip, cache)
    coordinates = np.stack([np.log2(moved + 1.0), 0.5 * np.log2(width)], axis=1)
    matrix = np.stack(list(columns.values()), axis=1)
    return Design(bound, tuple(columns), matrix, coordinates, group, len(STREAM_KEYS), linear=True)


def optimizer_design(rows: Sequence[Operator], chip: Chip, cache: str = "cold") -> Design:
    """The optimizer step: its states once through memory (eq. 8)."""
    fp32 = words(rows, "dtype") == "fp32"
    master = words(rows, "kernel") == "adamw_master"
    torch = words(rows, "impl") == "torch"
    moved = column(rows, "bytes")
    bound, columns = stream_columns(moved, 0.0 * moved, 0.0 * moved + 2048.0, chip, cache)
    group = (fp32 + 2 * master + 4 * torch).astype(np.int64)
    coordinates = np.log2(moved + 1.0)[:, None]
    matrix = np.stack(list(columns.values()), axis=1)
    return Design(bound, tuple(columns), matrix, coordinates, group, 8, linear=True)
