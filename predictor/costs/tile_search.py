"""The fastest tiles of a product (eq. 2a): what a library that chooses well runs.

    w = min over tiles a×b and splits s of
        ( T⁴ + m⁴ )^¼ + [s>1]·( c_split·t₀ + c_partials·4·s·M·N/β )                         (2a)

T is what all tiles take (:mod:`predictor.costs.tiles`), m what memory does meanwhile; partial sums
of a reduction that is split are added up after both. Every candidate grows with M, N and K, and so
does the smallest of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from predictor.costs.design import LAUNCH_SECONDS, Chip
from predictor.costs.prediction import Floats, Ints
from predictor.costs.tile_table import (
    ANY_WAVES,
    CUT_COLS,
    CUT_ROWS,
    FEW,
    FITTED_COLS,
    FITTED_ROWS,
    LARGEST_TILE,
    OLD,
    SPLIT,
    WHOLE,
    WIDE_CLUSTERS,
    Candidate,
)
from predictor.costs.tiles import (
    BELOW_ONE,
    QUEUED_WAVES,
    TILE_DEPTH,
    Products,
    Tiling,
    common,
    rates,
    shares,
    slower_by,
    tiling_seconds,
    vain,
)

FORBIDDEN: Final = 1e9
"""What a second wave of an odd tile counts."""

ONE_WAVE: Final = (FEW, CUT_COLS, CUT_ROWS)
"""Whose odd tiles run no second wave."""

TINY: Final = 1e-300

Groups = Sequence[Sequence[Candidate]]
"""Candidates, those with as many splits together."""


def smooth_maximum(one: Floats, other: Floats) -> Floats:
    """Fourth root of the sum of fourth powers: two parts that overlap, but not perfectly."""
    larger = np.maximum(one, other)
    share = np.minimum(one, other) / np.maximum(larger, TINY)
    return np.asarray(larger * np.sqrt(np.sqrt(1.0 + np.square(np.square(share)))))


def tiling_work(
    tiling: Tiling, products: Products, memory: Floats, c: Mapping[str, float], chip: Chip
) -> Floats:
    """Seconds of eq. 2a with these tiles, even where others are faster.

    Args:
        tiling: What runs.
        products: Of what.
        memory: Seconds that memory needs meanwhile.
        c: Coefficients by name.
        chip: Datasheet rates.
    """
    splits = np.asarray(tiling.splits)
    added = (splits > 1) * _adding(products, splits, c, chip)
    return smooth_maximum(tiling_seconds(tiling, products, c, chip), memory) + added


def work_seconds(products: Products, memory: Floats, c: Mapping[str, float], chip: Chip) -> Floats:
    """Seconds of eq. 2a: the least of :func:`tiling_work`, but faster."""
    best = np.full(len(products.rows), np.inf)
    for groups, _, asked in _asked(products, chip):
        if len(asked) == len(best):
            _lower(best, groups, products, memory, c, chip)
        else:
            chosen = best[asked]
            _lower(chosen, groups, products.take(asked), memory[asked], c, chip)
            best[asked] = chosen
    return best


def fastest_tiles(products: Products, memory: Floats, c: Mapping[str, float], chip: Chip) -> Ints:
    """Place among ``CANDIDATES`` of the one whose time :func:`work_seconds` takes."""
    best = np.full(len(products.rows), np.inf)
    chosen = np.zeros(len(best), dtype=np.int64)
    for groups, begin, asked in _asked(products, chip):
        some, least, place = products.take(asked), memory[asked], begin
        for candidate in (each for group in groups for each in group):
            tiling = Tiling.of(candidate, c)
            seconds = tiling_work(tiling, some, least, c, chip)
            if candidate.is_odd and _runs_one_wave(groups[0]):
                seconds[shares(tiling, some, chip) > 1.0] = np.inf
            better = seconds < best[asked]
            best[asked] = np.where(better, seconds, best[asked])
            chosen[asked] = np.where(better, place, chosen[asked])
            place += 1
    return chosen


def _asked(products: Products, chip: Chip) -> Iterator[tuple[Groups, int, Ints]]:
    """Candidates, the place of the first of them, and the products that may run them."""
    old = (products.misaligned + products.odd_operand + products.odd_output) > 0
    few = products.rows * products.cols <= chip.sm_count * LARGEST_TILE
    begin = 0
    groups: Groups
    for groups, asked in (
        ((ANY_WAVES,), ~old),
        ((FEW, *SPLIT), few & ~old),
        ((CUT_COLS,), few & ~old & (products.turned_cols == 0)),
        ((CUT_ROWS,), few & ~old & (products.turned_rows == 0)),
        ((FITTED_COLS,), _is_off(products.cols) & ~old),
        ((FITTED_ROWS,), _is_off(products.rows) & ~old),
        (OLD, old),
    ):
        if asked.any():
            yield groups, begin, np.flatnonzero(asked)
        begin += sum(len(each) for each in groups)


def _runs_one_wave(candidates: Sequence[Candidate]) -> bool:
    return any(candidates is each for each in ONE_WAVE)


def _is_off(sizes: Floats) -> NDArray[np.bool_]:
    """Whether 64 does not divide a size; a remainder would take four times as long."""
    parts = sizes / WHOLE
    return np.asarray(parts != np.floor(parts))


def _adding(
    products: Products, splits: Floats | float, c: Mapping[str, float], chip: Chip
) -> Floats:
    """Seconds of writing the parts of a split reduction and adding them up."""
    area = products.rows * products.cols
    each = c["partials"] * 4.0 / chip.bytes_per_second * area
    return np.asarray(c["split"] * LAUNCH_SECONDS + each * splits)


def _lower(
    best: Floats,
    groups: Groups,
    products: Products,
    memory: Floats,
    c: Mapping[str, float],
    chip: Chip,
) -> None:
    """Lower ``best`` to the fastest of the candidates."""
    for candidates in groups:
        work = smooth_maximum(_fastest(candidates, products, c, chip), memory)
        splits = candidates[0].splits
        if splits > 1:
            work += _adding(products, splits, c, chip)
        np.minimum(best, work, out=best)


def _fastest(
    candidates: Sequence[Candidate], products: Products, c: Mapping[str, float], chip: Chip
) -> Floats:
    """Seconds of the fastest of some tiles with as many splits; what they share computed once."""
    rate, splits = rates(products, c, chip), candidates[0].splits
    turned_rows, turned_cols = common(products.turned_rows), common(products.turned_cols)
    highs = {
        high: np.ceil(products.rows / high) * (splits / chip.sm_count * BELOW_ONE)
        for high in {each.high for each in candidates}
    }
    wides = {w: np.ceil(products.cols / w) for w in {each.wide for each in candidates}}
    depth = np.ceil(products.depth / TILE_DEPTH / splits) * TILE_DEPTH
    best = np.full(len(depth), np.inf)
    filled, waves, cost = np.empty_like(depth), np.empty_like(depth), np.empty_like(depth)
    many, queued = np.empty(len(depth), dtype=bool), np.empty_like(depth)
    one_wave = _runs_one_wave(candidates)
    start, epilogue, drain = c["wave"] * LAUNCH_SECONDS, c["epilogue"], c["drain"]
    queue = c["queue"] * LAUNCH_SECONDS
    for candidate in candidates:
        high, wide, _ = candidate
        np.multiply(highs[high], wides[wide], out=filled)
        np.ceil(filled, out=waves)
        if one_wave and candidate.is_odd:
            waves -= 1.0
            waves *= FORBIDDEN
            waves += 1.0
        feed = rate.feed_pairs
        if candidates is not ANY_WAVES:  # where one wave is not full, they are among FEW too
            feed = np.where(filled > WIDE_CLUSTERS, rate.feed_pairs, rate.feed)
            np.minimum(filled, 1.0, out=filled)
            filled *= c["idle"]
            waves += filled
            waves -= c["idle"]
        odd = candidate.is_odd
        in_vain = turned_rows * vain(high) + turned_cols * vain(wide) if odd else 0.0
        step = np.maximum(feed * (high + wide), rate.tensor * (high * wide))
        step = step * np.exp(slower_by(candidate, c) + c["odd_turned"] * in_vain)
        output = rate.output * (high * wide)
        np.multiply(depth, step, out=cost)
        cost += start + epilogue * output
        cost *= waves
        cost += drain * output
        np.multiply(np.greater(waves, QUEUED_WAVES, out=many), queue, out=queued)
        cost += queued
        np.minimum(best, cost, out=best)
    return best
