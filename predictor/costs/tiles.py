"""Matrix products as tiles of their output on SMs (eq. 3 and 4).

    T = W·( K/s·u + c_wave·t₀ + c_epilogue·e ) + c_drain·e + [x>2]·c_queue·t₀               (3)
    W = ⌈x⌉ - c_idle·max(1 - x, 0),  x = s·⌈M/a⌉·⌈N/b⌉ / S
    e = (1 + c_ragged_epilogue·off)·a·b·o/L
    u = e^(c_tile + c_odd_turned·vain) · max( c_tensor·(1 + c_off)·2·a·b·S/Π,
                                              c_feed·(a+b)·i·p/L )                          (4)
    p = (1 + c_pairs·[x>10/11])·(1 + (c_ragged_feed + c_ragged_pairs·[x>10/11])·ragged)
    c_off = c_misaligned + c_misaligned_turned·turned where a row begins off 16 bytes, all on four;
            c_odd_operand + c_odd_turned_rows·turned or c_odd_output where one begins off four

An output of M×N is cut into tiles a×b that run S at a time; a tile fills its pipeline, needs its
products at the tensor rate or its operands at the rate of an SM's port to L2 (L), whichever is
slower, then writes its output, in part while the next tile begins. SMs that the only wave leaves
without a tile leave L2 and memory to the others. Clusters of SMs fetch an operand once for all; on
nearly all SMs they are pairs, so that L2 has more to hand out. More than two waves take their tiles
from a queue, whose counter another launch clears. Coefficients are multiples of what the datasheet
promises. Symbols: docs/cost_model.md.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from predictor.costs.design import LAUNCH_SECONDS, Chip
from predictor.costs.prediction import Floats, Ints
from predictor.costs.tile_table import CANDIDATES, NAMES, WHOLE, WIDE_CLUSTERS, Candidate
from predictor.values import frozen

TILE_DEPTH: Final = 64.0
"""Reduction step of a tile, in two-byte elements: one line of shared memory."""

QUEUED_WAVES: Final = 2.0
"""Kernels with more waves of tiles take them from a queue."""

BELOW_ONE: Final = 1.0 - 1e-12
"""Keeps a whole number of waves from being rounded up to the next."""


@frozen(kw_only=True)
class Products:
    """Matrix products as the tensor cores see them; one entry each.

    Attributes:
        rows: M of the output.
        cols: N of the output.
        depth: K, the reduced length, in two-byte elements.
        output_bytes: Of one element of the output, read and written.
        compute_seconds: Flops over the datasheet's rate.
        memory_seconds: Bytes over HBM's rate.
        turned_rows: Whether the first operand is contiguous along M instead of K.
        turned_cols: Whether the second one is contiguous along N instead of K.
        ragged: Share of the operands whose rows do not begin on 32-byte sectors.
        ragged_output: Whether the output's rows do not.
        misaligned: Whether rows of an operand or the output begin off 16 bytes, all on four.
        odd_operand: Whether an operand's rows begin off four bytes.
        odd_output: Whether only the output's rows do.
        rewritten: Whether the output is read, added to and written back.
        flags: One column each of ``FLAGS``.
    """

    rows: Floats
    cols: Floats
    depth: Floats
    output_bytes: Floats
    compute_seconds: Floats
    memory_seconds: Floats
    turned_rows: Floats
    turned_cols: Floats
    ragged: Floats
    ragged_output: Floats
    misaligned: Floats
    odd_operand: Floats
    odd_output: Floats
    rewritten: Floats
    flags: Floats

    def take(self, chosen: NDArray[np.bool_] | Ints) -> "Products":
        """Some of them."""
        return Products(**{each.name: getattr(self, each.name)[chosen] for each in fields(self)})


@frozen
class Tiling:
    """Tiles of one candidate for all products, or one entry a product of different ones.

    Attributes:
        high: Rows of a tile.
        wide: Its columns.
        splits: Parts of the reduction.
        slower: Logarithm of a step's time over that of other tiles.
    """

    high: Floats | float
    wide: Floats | float
    splits: Floats | float
    slower: Floats | float

    @classmethod
    def of(cls, candidate: Candidate, c: Mapping[str, float]) -> "Tiling":
        """One candidate, by coefficients."""
        return cls(candidate.high, candidate.wide, candidate.splits, slower_by(candidate, c))

    @classmethod
    def each(cls, places: Ints, c: Mapping[str, float]) -> "Tiling":
        """A candidate for each product, by its place in ``CANDIDATES``."""
        high, wide, splits = np.array(CANDIDATES, dtype=float)[places].T
        slower = np.array([slower_by(tile, c) for tile in CANDIDATES])
        return cls(high, wide, splits, slower[places])


@frozen
class Rates:
    """Seconds on one SM, one entry a product or the same for all.

    Attributes:
        tensor: Of a multiply-add an element deep.
        feed: Of a row or column of an operand, an element deep.
        feed_pairs: The same where clusters are pairs.
        output: Of an element of the output, written.
    """

    tensor: Floats | float
    feed: Floats | float
    feed_pairs: Floats | float
    output: Floats | float


def slower_by(candidate: Candidate, c: Mapping[str, float]) -> float:
    """Logarithm of a step's time over that of other tiles, whichever way operands lie."""
    return c[candidate.coefficient] + c["odd"] * candidate.is_odd


def named(coefficients: Floats) -> dict[str, float]:
    """Coefficients by name."""
    return dict(zip(NAMES, coefficients.tolist(), strict=True))


def common(values: Floats) -> Floats | float:
    """The one value of an array that holds no other, so that arithmetic on it is done once."""
    first = float(values[0])
    return first if bool(np.all(values == first)) else values


def rates(products: Products, c: Mapping[str, float], chip: Chip) -> Rates:
    """What products need of an SM, whichever tiles they run."""
    ragged = common(products.ragged)
    feed = c["feed"] * 2.0 / chip.sm_l2_bytes_per_second
    off_sectors = 1.0 + (c["ragged_feed"] + c["ragged_pairs"]) * ragged
    off = 1.0 + c["ragged_epilogue"] * common(products.ragged_output)
    turned_rows = common(products.turned_rows)
    turned = np.maximum(turned_rows, common(products.turned_cols))
    slow = (c["misaligned"] + c["misaligned_turned"] * turned) * common(products.misaligned)
    odd = c["odd_operand"] + c["odd_turned_rows"] * turned_rows
    slow = slow + odd * common(products.odd_operand) + c["odd_output"] * common(products.odd_output)
    return Rates(
        tensor=c["tensor"] * (1.0 + slow) * 2.0 * chip.sm_count / chip.flops_per_second["bf16"],
        feed=feed * (1.0 + c["ragged_feed"] * ragged),
        feed_pairs=feed * (1.0 + c["pairs"]) * off_sectors,
        output=common(products.output_bytes) * off / chip.sm_l2_bytes_per_second,
    )


def vain(side: Floats | float) -> Floats | float:
    """What an operand that is contiguous along this side of a tile fetches in vain, as a share.

    Its lines in shared memory hold 64 columns, and the last one of a row is filled in part.
    """
    return np.ceil(np.divide(side, WHOLE)) * WHOLE / side - 1.0


def tile_cost(tiling: Tiling, products: Products, c: Mapping[str, float], chip: Chip) -> Floats:
    """Seconds of one tile on one SM of a full chip: its reduction and output (eq. 3 and 4)."""
    reduction, output = _parts(tiling, products, np.ones(1), c, chip)
    return np.asarray(reduction + (c["epilogue"] + c["drain"]) * output)


def tiling_seconds(
    tiling: Tiling, products: Products, c: Mapping[str, float], chip: Chip
) -> Floats:
    """Seconds of all tiles, wave by wave (eq. 3)."""
    filled = shares(tiling, products, chip)
    reduction, output = _parts(tiling, products, filled, c, chip)
    waves = np.ceil(filled) - c["idle"] * np.maximum(1.0 - filled, 0.0)
    queue = c["queue"] * LAUNCH_SECONDS * (filled > QUEUED_WAVES)
    return np.asarray(waves * (reduction + c["epilogue"] * output) + c["drain"] * output + queue)


def _parts(
    tiling: Tiling, products: Products, filled: Floats, c: Mapping[str, float], chip: Chip
) -> tuple[Floats, Floats | float]:
    """Seconds of one tile's pipeline and reduction, and of its output at L2's rate."""
    rate, area = rates(products, c, chip), tiling.high * tiling.wide
    depth = np.ceil(products.depth / TILE_DEPTH / tiling.splits) * TILE_DEPTH
    in_vain = products.turned_rows * vain(tiling.high) + products.turned_cols * vain(tiling.wide)
    feed = np.where(filled > WIDE_CLUSTERS, rate.feed_pairs, rate.feed)
    step = np.maximum(rate.tensor * area, feed * (tiling.high + tiling.wide))
    step = step * np.exp(tiling.slower + c["odd_turned"] * in_vain)
    return np.asarray(depth * step + c["wave"] * LAUNCH_SECONDS), rate.output * area


def shares(tiling: Tiling, products: Products, chip: Chip) -> Floats:
    """Tiles over SMs."""
    tiles = np.ceil(products.rows / tiling.high) * np.ceil(products.cols / tiling.wide)
    return np.asarray(tiles * tiling.splits / chip.sm_count * BELOW_ONE)
