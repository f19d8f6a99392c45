"""What matrix products take at the power cap, however fast their tiles are (eq. 2b and 5).

    P = c_power·heat·(1 + c_written·256/K)·R^c_rounds·F/Π,   c_rounds ≤ 1                   (2b)
    R = min over tiles of e^(c_tile)·⌈⌈M/a⌉·⌈N/b⌉/S⌉·S·a·b/(M·N), at most 1.1
    heat = 1 + c_warm·min(x, 1) + c_hot·clip(x - 1, 0, 2)/2,   x = F/Π / 10 ms              (5)

Energy is that of the products, of writing them, and in part that of SMs that wait for the last
round of tiles or compute past the output's edge; c_tile is ``rounds_axb``, or ``rounds_deep`` of
the first tile where no operand is turned. The tiles are those that the library runs in many rounds:
it chooses by how many elements whole rounds of a tile compute, tiles that fetch more of their
operands an element a little handicapped (docs/cost_model.md). R falls no faster than F grows, so
more work never takes less energy while c_rounds is at most one.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from predictor.costs.prediction import Floats
from predictor.costs.tile_table import ROUND_TILES
from predictor.costs.tiles import BELOW_ONE

ROUND_CALL_SECONDS: Final = 0.010
"""A round of measuring lasts 30 ms or three calls, so longer calls load the device for longer."""

HOT_CALLS: Final = 2.0
"""The power cap has settled in rounds of calls longer than this many beyond the first."""

HEAT_SECONDS: Final = 0.015
"""Half way from a cool device's clock to the settled one, for calls that are regressed linearly."""

WRITTEN_DEPTH: Final = 256.0
"""Depth of a product at which writing it takes the share c_written of its multiply-adds' energy."""

MOST_COMPUTED: Final = 1.1
"""Of R: where a larger share of the SMs waits, the others' clock rises by what those save."""


def heated(compute_seconds: Floats) -> Floats:
    """Share of the way from a cool device's clock to the settled one, for sums of regressors."""
    long = (compute_seconds / HEAT_SECONDS) ** 2
    return np.asarray(long / (1.0 + long))


def whole_rounds(rows: Floats, cols: Floats, sm_count: int) -> Floats:
    """What whole rounds of each of ``ROUND_TILES`` compute, over the output."""
    computed = np.empty((len(rows), len(ROUND_TILES)), order="F")
    area = rows * cols / sm_count
    ups = {
        high: np.ceil(rows / high) * (BELOW_ONE / sm_count)
        for high in {high for high, _ in ROUND_TILES}
    }
    for index, (high, wide) in enumerate(ROUND_TILES):
        rounds = np.ceil(ups[high] * np.ceil(cols / wide))
        np.divide(rounds * (high * wide), area, out=computed[:, index])
    return computed


def power_seconds(
    compute_seconds: Floats,
    depth: Floats,
    rounds: Floats,
    turned: Floats | float,
    c: Mapping[str, float],
) -> Floats:
    """Seconds of eq. 2b.

    Args:
        compute_seconds: F/Π.
        depth: K, in two-byte elements.
        rounds: Of :func:`whole_rounds`.
        turned: Whether an operand is contiguous along the output instead of K; or all the same.
        c: Coefficients by name.
    """
    least = rounds[:, 0] * np.exp(c["rounds_deep"] * (1.0 - turned))
    for index, (high, wide) in enumerate(ROUND_TILES[1:], start=1):
        np.minimum(least, rounds[:, index] * np.exp(c[f"rounds_{high}x{wide}"]), out=least)
    np.minimum(least, MOST_COMPUTED, out=least)
    energy = c["power"] * _heat(compute_seconds, c) * (1.0 + c["written"] * WRITTEN_DEPTH / depth)
    return np.asarray(energy * least ** min(c["rounds"], 1.0) * compute_seconds)


def _heat(compute_seconds: Floats, c: Mapping[str, float]) -> Floats:
    """What longer calls take more of the power cap's time (eq. 5)."""
    calls = compute_seconds / ROUND_CALL_SECONDS
    hot = np.minimum(np.maximum(calls - 1.0, 0.0), HOT_CALLS) / HOT_CALLS
    return np.asarray(1.0 + c["warm"] * np.minimum(calls, 1.0) + c["hot"] * hot)
