"""Dense matrix products: from an operator's fields, or columns of them, to a tile design."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from predictor.costs.design import Chip, peaks
from predictor.costs.prediction import Floats
from predictor.costs.tile_design import TileDesign
from predictor.costs.tile_power import whole_rounds
from predictor.costs.tile_table import FLAGS
from predictor.costs.tiles import Products
from predictor.dtypes import itemsize
from predictor.operators import Gemm, Operator
from predictor.operators.gemm import output_itemsize

SECTOR_BYTES: Final = 32
"""L2 hands out sectors; a row that begins inside one fetches its neighbour's bytes too."""

ALIGNED_BYTES: Final = 16
"""Rows that begin elsewhere rule out the tensor memory accelerator: an older kernel runs."""

WORD_BYTES: Final = 4
"""Rows that begin elsewhere rule out copies that skip registers: a kernel older still runs."""

KINDS: Final = ("forward", "dgrad", "wgrad")
DTYPES: Final = ("bf16", "fp16", "tf32", "fp8")
_FIELDS: Final = tuple(each.name for each in fields(Gemm))
_DEFAULTS: Final = {each.name: each.default for each in fields(Gemm)}


def gemm_design(rows: Sequence[Operator], chip: Chip, cache: str = "cold") -> TileDesign:
    """Matrix products of any mix of options."""
    del cache  # products are measured cold: weights are, and activations rarely matter
    columns = {name: np.array([getattr(row, name) for row in rows]) for name in _FIELDS}
    return product_design(columns, chip)


def product_design(columns: Mapping[str, Any], chip: Chip) -> TileDesign:
    """The same from columns, one value or an array a field of :class:`Gemm`, with its defaults.

    Raises:
        FitError: The datasheet gives no rate for a number format.
    """
    m, n, k = (np.asarray(columns[name], dtype=float) for name in ("m", "n", "k"))
    rest = {name: np.asarray(columns.get(name, _DEFAULTS[name])) for name in _FIELDS[3:]}
    kind, dtype = rest["kind"], rest["dtype"]
    forward, wgrad = kind == "forward", kind == "wgrad"
    rows, cols = np.where(wgrad, n, m), np.where(forward, n, k)
    depth = np.where(forward, k, np.where(wgrad, m, n))
    size, out = _sizes(dtype)
    accumulate, gelu = rest["accumulate"] == True, rest["gelu"] == True  # noqa: E712 - arrays
    written = rows * cols * np.where(accumulate, 8.0, out * (1.0 + gelu))
    moved = (rows * depth + cols * depth) * size + written
    rate = peaks(chip, np.atleast_1d(dtype)).reshape(dtype.shape)
    turned_rows, turned_cols = wgrad & (size > 1.0), ~forward & (size > 1.0)
    first, second = np.where(turned_rows, rows, depth), np.where(turned_cols, cols, depth)
    alignment = _alignment(first * size, second * size, cols * out)
    flags = {
        "ragged": alignment["ragged"],
        "dgrad": kind == "dgrad",
        "wgrad": wgrad,
        "accumulate": accumulate,
        "bias": rest["bias"],
        "gelu": gelu,
        "cublaslt": rest["api"] == "cublaslt",
        "best": rest["algorithm"] == "best",
        **{name: dtype == name for name in ("fp16", "tf32", "fp8")},
        "tf32_turned": (dtype == "tf32") & wgrad,
    }
    shape = np.broadcast_shapes(m.shape, n.shape, k.shape, *(v.shape for v in rest.values()))
    shape = shape or (1,)
    matrix = np.zeros((*shape, len(FLAGS)))
    for index, name in enumerate(FLAGS):
        if np.any(flags[name]):
            matrix[:, index] = flags[name]
    products = Products(
        rows=_spread(rows, shape),
        cols=_spread(cols, shape),
        depth=_spread(depth * size / 2.0, shape),
        output_bytes=_spread(np.where(accumulate, 8.0, out * (1.0 + gelu)), shape),
        compute_seconds=_spread(2.0 * rows * cols * depth / rate, shape),
        memory_seconds=_spread(moved / chip.bytes_per_second, shape),
        turned_rows=_spread(turned_rows, shape),
        turned_cols=_spread(turned_cols, shape),
        **{name: _spread(each, shape) for name, each in alignment.items()},
        ragged_output=_spread(_off(SECTOR_BYTES, cols * np.where(accumulate, 4.0, out)), shape),
        rewritten=_spread(accumulate, shape),
        flags=matrix,
    )
    group = sum((dtype == name) * i for i, name in enumerate(DTYPES)) * len(KINDS)
    group = group + sum((kind == name) * i for i, name in enumerate(KINDS))
    group = 4 * group + 2 * accumulate + gelu
    return TileDesign(
        products=products,
        chip=chip,
        rounds=whole_rounds(products.rows, products.cols, chip.sm_count),
        group=_spread(group, shape).astype(np.int64),
    )


def _spread(values: Any, shape: tuple[int, ...]) -> Floats:  # noqa: ANN401 - array or number
    return np.ascontiguousarray(np.broadcast_to(np.asarray(values, dtype=float), shape))


def _sizes(dtype: Any) -> tuple[Floats, Floats]:  # noqa: ANN401 - an array of words
    """Bytes of an element of the operands and of the output."""
    size, out = np.full(dtype.shape, 2.0), np.full(dtype.shape, 2.0)
    for name in sorted(set(dtype.ravel().tolist())):
        size = np.where(dtype == name, itemsize(name), size)
        out = np.where(dtype == name, output_itemsize(name), out)
    return size, out


def _off(line_bytes: int, row_bytes: Floats) -> NDArray[np.bool_]:
    """Whether rows of this length begin inside lines of that one."""
    return np.asarray((row_bytes.astype(np.int64) & (line_bytes - 1)) != 0)


def _alignment(
    first: Floats, second: Floats, output: Floats
) -> dict[str, Floats | NDArray[np.bool_]]:
    """How rows begin, by the names of :class:`Products`.

    Row-major operands are contiguous along K and K (forward), K and N (dgrad), M and N (wgrad);
    those of one byte are transposed beforehand, so that both are contiguous along K.

    Args:
        first: Bytes of a row of the first operand.
        second: Of the second.
        output: Of the output.
    """
    odd_operand = _off(WORD_BYTES, first) | _off(WORD_BYTES, second)
    odd_output = _off(WORD_BYTES, output) & ~odd_operand
    off = _off(ALIGNED_BYTES, first) | _off(ALIGNED_BYTES, second) | _off(ALIGNED_BYTES, output)
    return {
        "ragged": 0.5 * _off(SECTOR_BYTES, first) + 0.5 * _off(SECTOR_BYTES, second),
        "misaligned": off & ~odd_operand & ~odd_output,
        "odd_operand": odd_operand,
        "odd_output": odd_output,
    }
