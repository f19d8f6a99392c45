"""What devices of one SKU differ by, from points that several of them measured.

Tables keep a row for each run of a point, and runs.toml names the GPU of a run by a hash. The
logarithm of what device d takes for point p is

    log t = μ_p + δ_d + ε_dp                                                                  (17)

The median ratio of what two devices both measured is exp(δ_a - δ_b), whose logarithm has twice the
variance of one δ. With few devices that variance is drawn to the published one, as one of a scaled
inverse chi-square prior is (Gelman et al., Bayesian Data Analysis, section 2.6):

    σ² = (ν₀·σ₀² + (D - 1)·mean over pairs (δ_a - δ_b)²/2) / (ν₀ + D - 1)                     (18)
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Final

import numpy as np

from predictor.costs.devices import PUBLISHED_DEVIATION, Difference
from predictor.tables import Folder, Row

PUBLISHED_WEIGHT: Final = 2
"""ν₀: what is published of other SKUs weighs as much as three devices of ours."""

LEAST_POINTS: Final = 10
"""A pair of devices with fewer points of a family in common tells nothing of it."""

Pair = tuple[str, str]


def device_differences(measured: Folder) -> dict[str, Difference]:
    """Eq. 18 for each family whose tables hold points of several devices."""
    devices = {run: str(told.get("gpu_uuid_hash") or "") for run, told in measured.runs.items()}
    ratios = {name: _ratios(table.rows, devices) for name, table in measured.tables.items()}
    return {family: _difference(pairs) for family, pairs in ratios.items() if pairs}


def _ratios(rows: Sequence[Row], devices: Mapping[str, str]) -> dict[Pair, list[float]]:
    """Logarithms of what the second over the first of two devices took, for what both measured.

    Devices are compared by the medians of their bursts; rows whose GPU is not named are left out.
    """
    seconds: dict[tuple[Any, str], dict[str, list[float]]] = defaultdict(dict)
    for row in rows:
        device = devices.get(row.run, "")
        if device and row.status == "ok" and row.regime == "burst" and row.seconds:
            seconds[row.operator, row.cache].setdefault(device, []).append(row.seconds)
    ratios: dict[Pair, list[float]] = defaultdict(list)
    for of_device in seconds.values():
        logs = {device: float(np.log(np.median(times))) for device, times in of_device.items()}
        for one, other in combinations(sorted(logs), 2):
            ratios[one, other].append(logs[other] - logs[one])
    return {pair: found for pair, found in ratios.items() if len(found) >= LEAST_POINTS}


def _difference(ratios: Mapping[Pair, Sequence[float]]) -> Difference:
    devices = {device for pair in ratios for device in pair}
    own = np.mean([np.median(found) ** 2 / 2 for found in ratios.values()])
    weight = len(devices) - 1
    prior = PUBLISHED_WEIGHT * PUBLISHED_DEVIATION**2
    apart = np.abs(np.concatenate([np.asarray(found) for found in ratios.values()]))
    return Difference(
        devices=len(devices),
        points=len(apart),
        deviation=round(float(np.sqrt((prior + weight * own) / (PUBLISHED_WEIGHT + weight))), 5),
        repeat=round(float(np.quantile(apart, 0.9)), 5),
    )
