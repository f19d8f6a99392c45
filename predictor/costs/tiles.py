"""Matrix products as the library runs them: the fastest of its tiles, in waves over the SMs.

    t = ( w⁸ + (c_power·heat·F/Π)⁸ )^⅛ · exp(Σ flags)                                     (2)
    w = c_launch·t₀ + ( T⁴ + (c_memory·B'/β)⁴ )^¼                                         (2a)
    T = min over tiles a×b and splits s of
        W·( K/s·u + c_epilogue·(1 + c_ragged_epilogue·off)·a·b·o/L )
        + [s>1]·( c_split·t₀ + c_partials·4·s·M·N/β )                                      (3)
    W = ⌈x⌉ - c_idle·(⌈x⌉ - x),  x = s·⌈M/a⌉·⌈N/b⌉ / S
    u = e^c_tile · max( c_tensor·(1 + c_misaligned)·2·a·b·S/Π,
                        c_feed·(a+b)·i·(1 + c_ragged_feed·ragged)/L )                      (4)
    heat = 1 + c_warm·min(x, 1) + c_hot·clip(x - 1, 0, 2)/2,   x = F/Π / 10 ms             (5)
    B' = B + (c_rewrite·[accumulate] + c_ragged_write·off)·(bytes of the output)          (5a)

An output of M×N is cut into tiles that run S at a time; a tile needs its products at the tensor
rate or its operands at the rate of an SM's port to L2 (L), whichever is slower, then writes its
output. SMs that a last wave leaves without a tile leave L2, memory and power to the others. Where
tiles are few, the library splits the reduction and adds up partial sums. A call back to back with
others takes at least what its products' energy takes at the power cap. Coefficients are multiples
of what the datasheet promises. Every candidate of (3) grows with M, N and K, and so does the
smallest of them. Symbols: docs/cost_model.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from predictor.costs.design import LAUNCH_SECONDS, Chip
from predictor.costs.prediction import Floats, Ints
from predictor.costs.tile_table import (
    ANY_WAVES,
    CANDIDATES,
    FITTED_COLS,
    FITTED_ROWS,
    FLAGS,
    LARGEST_TILE,
    NAMES,
    OLD,
    ONE_WAVE,
    WHOLE,
    Candidate,
)
from predictor.values import frozen

TILE_DEPTH: Final = 64.0
"""Reduction step of a tile, in two-byte elements: one line of shared memory."""

HEAT_SECONDS: Final = 0.015
"""Half way from a cool device's clock to the settled one, for calls that are regressed linearly."""

ROUND_CALL_SECONDS: Final = 0.010
"""A round lasts 30 ms or three calls, so longer calls load the device for longer."""

HOT_CALLS: Final = 2.0
"""The power cap has settled in rounds of calls longer than this many beyond the first."""

TINY: Final = 1e-300

FORBIDDEN: Final = 1e9
"""What a second wave of an odd tile counts."""

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
        ragged: Share of the operands whose rows do not begin on 32-byte sectors.
        ragged_output: Whether the output's rows do not.
        misaligned: Whether an operand's rows begin off 16 bytes.
        misaligned_output: Whether only the output's rows do.
        rewritten: Whether the output is read, added to and written back.
        flags: One column each of ``FLAGS``.
    """

    rows: Floats
    cols: Floats
    depth: Floats
    output_bytes: Floats
    compute_seconds: Floats
    memory_seconds: Floats
    ragged: Floats
    ragged_output: Floats
    misaligned: Floats
    misaligned_output: Floats
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
        return cls(candidate.high, candidate.wide, candidate.splits, _slower(candidate, c))

    @classmethod
    def each(cls, places: Ints, c: Mapping[str, float]) -> "Tiling":
        """A candidate for each product, by its place in ``CANDIDATES``."""
        high, wide, splits = np.array(CANDIDATES, dtype=float)[places].T
        return cls(high, wide, splits, np.array([_slower(tile, c) for tile in CANDIDATES])[places])


def _slower(candidate: Candidate, c: Mapping[str, float]) -> float:
    return c[candidate.coefficient] + c["odd"] * candidate.is_odd


def named(coefficients: Floats) -> dict[str, float]:
    """Coefficients by name."""
    return dict(zip(NAMES, coefficients.tolist(), strict=True))


def tile_cost(tiling: Tiling, products: Products, c: Mapping[str, float], chip: Chip) -> Floats:
    """Seconds of one tile on one SM: its reduction and its output (eq. 3 and 4)."""
    tensor, feed, epilogue = _rates(products, c, chip)
    area = tiling.high * tiling.wide
    depth = np.ceil(products.depth / TILE_DEPTH / tiling.splits) * TILE_DEPTH
    step = np.maximum(tensor * area, feed * (tiling.high + tiling.wide)) * np.exp(tiling.slower)
    return np.asarray(depth * step + epilogue * area)


def tiling_seconds(
    tiling: Tiling, products: Products, c: Mapping[str, float], chip: Chip
) -> Floats:
    """Seconds of all tiles, wave by wave, and of adding up partial sums (eq. 3)."""
    waves = _waves(_shares(tiling, products, chip), c)
    split = c["split"] * LAUNCH_SECONDS + _partials(products, c, chip) * tiling.splits
    return waves * tile_cost(tiling, products, c, chip) + split * (np.asarray(tiling.splits) > 1)


def _asked(products: Products, chip: Chip) -> Iterator[tuple[Sequence[Candidate], int, Ints]]:
    """Candidates, the place of the first of them, and the products that may run them."""
    old = (products.misaligned + products.misaligned_output) > 0
    few = products.rows * products.cols <= chip.sm_count * LARGEST_TILE
    begin = 0
    for candidates, asked in (
        (ANY_WAVES, ~old),
        (ONE_WAVE, few & ~old),
        (FITTED_COLS, _is_off(products.cols) & ~old),
        (FITTED_ROWS, _is_off(products.rows) & ~old),
        (OLD, old),
    ):
        if asked.any():
            yield candidates, begin, np.flatnonzero(asked)
        begin += len(candidates)


def _is_off(sizes: Floats) -> NDArray[np.bool_]:
    """Whether 64 does not divide a size; a remainder would take four times as long."""
    parts = sizes / WHOLE
    return np.asarray(parts != np.floor(parts))


def fastest_tiles(products: Products, c: Mapping[str, float], chip: Chip) -> Ints:
    """Place among ``CANDIDATES`` of the one whose time :func:`tile_seconds` takes."""
    best = np.full(len(products.rows), np.inf)
    chosen = np.zeros(len(best), dtype=np.int64)
    for candidates, begin, asked in _asked(products, chip):
        some = products.take(asked)
        for place, candidate in enumerate(candidates, begin):
            tiling = Tiling.of(candidate, c)
            seconds = tiling_seconds(tiling, some, c, chip)
            if candidates is ONE_WAVE and candidate.is_odd:
                seconds[_shares(tiling, some, chip) > 1.0] = np.inf
            better = seconds < best[asked]
            best[asked] = np.where(better, seconds, best[asked])
            chosen[asked] = np.where(better, place, chosen[asked])
    return chosen


def _shares(tiling: Tiling, products: Products, chip: Chip) -> Floats:
    """Tiles over SMs."""
    tiles = np.ceil(products.rows / tiling.high) * np.ceil(products.cols / tiling.wide)
    return np.asarray(tiles * tiling.splits / chip.sm_count * BELOW_ONE)


def _waves(shares: Floats, c: Mapping[str, float]) -> Floats:
    """W of eq. 3."""
    return np.asarray((1.0 - c["idle"]) * np.ceil(shares) + c["idle"] * shares)


def _rates(
    products: Products, c: Mapping[str, float], chip: Chip
) -> tuple[Floats | float, Floats | float, Floats | float]:
    """Seconds on one SM: a multiply-add, a row of an operand, both an element deep; an output."""
    ragged = 1.0 + c["ragged_feed"] * _common(products.ragged)
    off = 1.0 + c["ragged_epilogue"] * _common(products.ragged_output)
    slow = c["misaligned"] * _common(products.misaligned)
    slow = 1.0 + slow + c["misaligned_output"] * _common(products.misaligned_output)
    return (
        c["tensor"] * slow * 2.0 * chip.sm_count / chip.flops_per_second["bf16"],
        c["feed"] * 2.0 / chip.sm_l2_bytes_per_second * ragged,
        c["epilogue"] / chip.sm_l2_bytes_per_second * _common(products.output_bytes) * off,
    )


def _partials(products: Products, c: Mapping[str, float], chip: Chip) -> Floats:
    """Seconds of writing and adding one more part of the output."""
    area = products.rows * products.cols
    return np.asarray(c["partials"] * 4.0 / chip.bytes_per_second * area)


def tile_seconds(products: Products, coefficients: Floats, chip: Chip) -> Floats:
    """Time on the tensor cores, eq. 3 and 4: the least of :func:`tiling_seconds`, but faster.

    Args:
        products: What to run.
        coefficients: In the order of ``NAMES``.
        chip: Datasheet rates.
    """
    best, c = np.full(len(products.rows), np.inf), named(coefficients)
    for candidates, _, asked in _asked(products, chip):
        if len(asked) == len(best):
            _try(candidates, products, c, chip, best)
        else:
            chosen = best[asked]
            _try(candidates, products.take(asked), c, chip, chosen)
            best[asked] = chosen
    return best


def _try(
    candidates: Sequence[Candidate],
    products: Products,
    c: Mapping[str, float],
    chip: Chip,
    best: Floats,
) -> None:
    """Lower ``best`` to the fastest of the candidates, what they share computed once."""
    tensor, feed, epilogue = _rates(products, c, chip)
    partials = _partials(products, c, chip)
    steps = products.depth / TILE_DEPTH
    waved = {
        (h, s): np.ceil(products.rows / h) * (s / chip.sm_count * BELOW_ONE)
        for h, s in {(each.high, each.splits) for each in candidates}
    }
    wides = {w: np.ceil(products.cols / w) for w in {each.wide for each in candidates}}
    depths = {s: np.ceil(steps / s) * TILE_DEPTH for s in {each.splits for each in candidates}}
    shares, waves, cost = np.empty_like(steps), np.empty_like(steps), np.empty_like(steps)
    idle = c["idle"]
    factors = np.exp([_slower(each, c) for each in candidates]).tolist()
    for candidate, slower in zip(candidates, factors, strict=True):
        high, wide, splits = candidate
        np.multiply(waved[high, splits], wides[wide], out=shares)
        np.ceil(shares, out=waves)
        step = np.maximum(feed * (slower * (high + wide)), tensor * slower * high * wide)
        if candidates is ONE_WAVE and candidate.is_odd:
            waves -= 1.0
            waves *= FORBIDDEN
            waves += 1.0
        np.multiply(depths[splits], step, out=cost)
        cost += epilogue * (high * wide)
        waves *= 1.0 - idle
        shares *= idle
        waves += shares
        cost *= waves
        if splits > 1:
            cost += partials * splits
            cost += c["split"] * LAUNCH_SECONDS
        np.minimum(best, cost, out=best)


def _heat(compute_seconds: Floats, c: Mapping[str, float]) -> Floats:
    """What longer calls take more of the power cap's time (eq. 5)."""
    calls = compute_seconds / ROUND_CALL_SECONDS
    hot = np.minimum(np.maximum(calls - 1.0, 0.0), HOT_CALLS) / HOT_CALLS
    return np.asarray(1.0 + c["warm"] * np.minimum(calls, 1.0) + c["hot"] * hot)


def _larger(work: Floats, power: Floats) -> Floats:
    """The slower of work and power, smoothly: x⁸ + y⁸ under the eighth root."""
    larger = np.maximum(work, power)
    share = np.square(np.square(np.square(np.minimum(work, power) / np.maximum(larger, TINY))))
    return np.asarray(larger * np.sqrt(np.sqrt(np.sqrt(1.0 + share))))


def heated(compute_seconds: Floats) -> Floats:
    """Share of the way from a cool device's clock to the settled one, for sums of regressors."""
    long = (compute_seconds / HEAT_SECONDS) ** 2
    return np.asarray(long / (1.0 + long))


def smooth_maximum(one: Floats, other: Floats) -> Floats:
    """Fourth root of the sum of fourth powers: two parts that overlap, but not perfectly."""
    larger = np.maximum(one, other)
    share = np.minimum(one, other) / np.maximum(larger, TINY)
    return np.asarray(larger * np.sqrt(np.sqrt(1.0 + np.square(np.square(share)))))


def _common(values: Floats) -> Floats | float:
    """The one value of an array that holds no other, so that arithmetic on it is done once."""
    first = float(values[0])
    return first if bool(np.all(values == first)) else values


@frozen(kw_only=True)
class TileDesign:
    """A design (:class:`predictor.costs.design.Design`) whose trend is eq. 2.

    Attributes:
        products: What runs.
        chip: Where.
        group: Number format, pass and options; unmeasured ones are extrapolated.
    """

    products: Products
    chip: Chip
    group: Ints

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the coefficients."""
        return NAMES

    @property
    def bound(self) -> Floats:
        """Launch, then the slower of tensor cores and memory at the datasheet's rates (eq. 1)."""
        products = self.products
        work = np.maximum(products.compute_seconds, products.memory_seconds)
        return np.asarray(LAUNCH_SECONDS + work)

    @property
    def floor(self) -> Floats:
        """Operands come from memory."""
        return self.products.memory_seconds

    @property
    def coordinates(self) -> Floats:
        """Logarithms of M, N and K."""
        products = self.products
        return np.log2(np.stack([products.rows, products.cols, products.depth], axis=1))

    @property
    def stratum(self) -> Ints:
        """Rows on or off sectors; calls that launch and drain for most of their time, or not."""
        products = self.products
        off = (products.ragged > 0) | (products.misaligned_output > 0)
        short = products.compute_seconds < 5 * LAUNCH_SECONDS
        return np.asarray(2 * off + short, dtype=np.int64)

    def log_trend(self, coefficients: Floats) -> Floats:
        """Logarithm of seconds over the bound (eq. 2)."""
        return np.asarray(np.log(self.seconds(coefficients) / self.bound))

    def seconds(self, coefficients: Floats) -> Floats:
        """Seconds, eq. 2."""
        return self._around(tile_seconds(self.products, coefficients, self.chip), coefficients)

    def fastest(self, coefficients: Floats) -> Ints:
        """Tiles that eq. 3 chooses, by their place among the candidates."""
        return fastest_tiles(self.products, named(coefficients), self.chip)

    def log_trend_of(self, chosen: Ints, coefficients: Floats) -> Floats:
        """As :meth:`log_trend`, with these tiles even where others were faster."""
        c = named(coefficients)
        compute = tiling_seconds(Tiling.each(chosen, c), self.products, c, self.chip)
        return np.asarray(np.log(self._around(compute, coefficients) / self.bound))

    def _around(self, compute: Floats, coefficients: Floats) -> Floats:
        """Seconds of eq. 2 from those of the tensor cores."""
        products, c = self.products, named(coefficients)
        again = c["rewrite"] * products.rewritten + c["ragged_write"] * products.ragged_output
        written = products.rows * products.cols * products.output_bytes
        moved = products.memory_seconds + again * written / self.chip.bytes_per_second
        work = c["launch"] * LAUNCH_SECONDS + smooth_maximum(compute, c["memory"] * moved)
        power = c["power"] * _heat(products.compute_seconds, c) * products.compute_seconds
        factor = np.exp(products.flags @ coefficients[-len(FLAGS) :])
        return np.asarray(_larger(work, power) * factor)

    def take(self, chosen: NDArray[np.bool_]) -> Self:
        """The rows where ``chosen``."""
        return type(self)(
            products=self.products.take(chosen), chip=self.chip, group=self.group[chosen]
        )
