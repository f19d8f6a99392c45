"""Bound and regressors of an expert layer's products (eq. 15).

    t = a₀·t₀·launches + a₁·W + a₂·B/β

One after the other, each expert's product takes its own waves: W is their sum. In one kernel, tiles
of all experts share the SMs: with tiles handed out as SMs fall free (Graham 1969, bound on list
scheduling), W = Σ tiles·cost/S + (1 - 1/S)·(the dearest tile). Tile costs are those of eq. 3 at
the expected coefficients.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from predictor.costs.design import (
    LAUNCH_SECONDS,
    UNRELATED,
    Chip,
    LinearDesign,
    column,
    labels,
    peaks,
    words,
)
from predictor.costs.prediction import Floats, Ints
from predictor.costs.products import product_design
from predictor.costs.tile_search import smooth_maximum, work_seconds
from predictor.costs.tile_table import EXPECTED, FEW
from predictor.costs.tiles import Products, Tiling, named, tile_cost
from predictor.operators import GroupedGemm, Operator

GROUPED_PRIOR: Final = {
    "launch": (1.3, 0.7),
    "work": (1.0, 0.5),
    "shared": (1.0, 0.5),
    "memory": (0.2, 0.3),
}
LAUNCHES_EACH: Final = {"looped": 1.0, "multi_stream": 0.25}
"""Launches an expert, one after the other; over four streams a quarter of them are in sequence."""


def grouped_design(rows: Sequence[Operator], chip: Chip, cache: str = "cold") -> LinearDesign:
    """Products of all experts of a rank."""
    del cache  # as products
    calls = [row for row in rows if isinstance(row, GroupedGemm)]
    active = column(rows, "active_experts")
    launches = np.array([LAUNCHES_EACH.get(call.impl, 0.0) for call in calls]) * active
    launch = LAUNCH_SECONDS * np.maximum(launches, 1.0)
    memory = column(rows, "bytes") / chip.bytes_per_second
    compute = column(rows, "flops") / peaks(chip, words(rows, "dtype"))
    bound = launch + np.maximum(compute, memory)
    work, shared = _work(calls, chip)
    columns = {
        "launch": launch / bound,
        "work": work / bound,
        "shared": shared / bound,
        "memory": memory / bound,
    }
    sizes = np.stack([column(rows, key) for key in ("tokens", "n", "k", "experts")], axis=1)
    group = labels(rows, "impl")
    apart = UNRELATED * labels(rows, "kind", "accumulate", "dtype")
    return LinearDesign(
        bound=bound,
        floor=memory,
        coordinates=np.column_stack([np.log2(sizes), apart]),
        group=group,
        stratum=np.zeros_like(group),
        columns=columns,
    )


def _work(calls: Sequence[GroupedGemm], chip: Chip) -> tuple[Floats, Floats]:
    """Seconds of the SMs and the memory: one product after the other, and all tiles together.

    Either is W of eq. 15, or the bytes' time where that is longer. The first is nothing where one
    kernel runs all experts, the second where each product waits for the one before. Experts with as
    many rows are priced once.
    """
    alike = [Counter(count for count in call.counts if count) for call in calls]
    owner = np.repeat(np.arange(len(calls)), [len(each) for each in alike])
    if not len(owner):
        return np.zeros(len(calls)), np.zeros(len(calls))
    experts = np.array([times for each in alike for times in each.values()], dtype=float)
    fields: dict[str, Any] = {
        name: np.array([getattr(call, name) for call in calls])[owner]
        for name in ("n", "k", "dtype", "kind", "accumulate")
    }
    fields["m"] = np.array([count for each in alike for count in each])
    products = product_design(fields, chip).products
    memory = products.memory_seconds

    def summed(each: Floats) -> Floats:
        sums = np.bincount(owner, experts * each, minlength=len(calls))
        return sums.astype(np.float64, copy=False)

    apart = summed(work_seconds(products, memory, named(EXPECTED), chip))
    together = smooth_maximum(_shared_waves(products, owner, summed, chip), summed(memory))
    looped = np.array([call.impl == "looped" for call in calls])
    listed = np.array([call.impl in LAUNCHES_EACH for call in calls])
    return apart * listed, together * ~looped


def _shared_waves(
    products: Products, owner: Ints, summed: Callable[[Floats], Floats], chip: Chip
) -> Floats:
    """W where tiles of all of a call's experts share the SMs.

    Args:
        products: Of the calls, each call's in a row.
        owner: Call of each product.
        summed: Adds up what each product takes over the experts of every call.
        chip: Datasheet rates.
    """
    expected = named(EXPECTED)
    best = np.full(len(summed(products.rows)), np.inf)
    for tile in (each for each in FEW if not each.is_odd):
        cost = tile_cost(Tiling.of(tile, expected), products, expected, chip)
        tiles = np.ceil(products.rows / tile.high) * np.ceil(products.cols / tile.wide)
        dearest = np.zeros(len(best))
        np.maximum.at(dearest, owner, cost)
        shared = summed(tiles * cost) / chip.sm_count
        np.minimum(best, shared + (1.0 - 1.0 / chip.sm_count) * dearest, out=best)
    return best
