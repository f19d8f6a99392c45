"""What devices of one SKU differ by, from points that several of them measured.

Tables keep a row for each run of a point, and runs.toml names the GPU of a run by a hash. The
logarithm of what device d takes for point p is

    log t = μ_p + δ_d + ε_dp                                                                  (17)

The median ratio of what two devices both measured is exp(δ_a - δ_b), whose logarithm has twice the
variance of one δ. With few devices that variance is drawn to the published one, as one of a scaled
inverse chi-square prior is (Gelman et al., Bayesian Data Analysis, section 2.6):

    σ² = (ν₀·σ₀² + (D - 1)·mean over pairs (δ_a - δ_b)²/2) / (ν₀ + D - 1)                     (18)

Products are fitted to what a typical device takes, so that a shape is not blamed for the device
that happened to measure it. Devices differ in the clock that their power allows, so δ counts as far
as a product loads tensor cores:

    log t = μ_p + δ_d·u_p + ε_dp,   u = F/Π/t                                                (17a)

with δ of mean 0 and deviation σ₀, and Huber's weights. Only points that several devices measured
tell δ; no cost function takes part.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, Final

import numpy as np

from predictor.costs.design import Chip
from predictor.costs.devices import PUBLISHED_DEVIATION, Difference
from predictor.costs.prediction import Floats, Ints
from predictor.costs.products import gemm_design
from predictor.tables import Folder, Row

PUBLISHED_WEIGHT: Final = 2
"""ν₀: what is published of other SKUs weighs as much as three devices of ours."""

LEAST_POINTS: Final = 10
"""A pair of devices with fewer points of a family in common tells nothing of it."""

REPEAT_NOISE: Final = 0.01
"""Deviation of a point on one device beside its own δ; Huber's weights begin to fall there."""

STEPS: Final = 20
"""Of reweighting; what is left changes by less than 1e-6 after half of them."""

TIMES: Final = ("seconds", "seconds_low", "seconds_high")

Pair = tuple[str, str]


def device_differences(measured: Folder) -> dict[str, Difference]:
    """Eq. 18 for each family whose tables hold points of several devices."""
    devices = _devices(measured)
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


def _devices(measured: Folder) -> dict[str, str]:
    """Hash of the GPU of each run; nothing where a table does not tell."""
    return {run: str(told.get("gpu_uuid_hash") or "") for run, told in measured.runs.items()}


def product_effects(measured: Folder, chip: Chip) -> dict[str, float]:
    """δ of eq. 17a of each device that measured products in bursts, less that of the middle one."""
    devices = _devices(measured)
    rows = [row for row in measured.tables["gemm"].rows if _tells(row) and devices.get(row.run)]
    if not rows:
        return {}
    names, device = np.unique([devices[row.run] for row in rows], return_inverse=True)
    numbers: dict[tuple[Any, str], int] = {}
    point = [numbers.setdefault((row.operator, row.cache), len(numbers)) for row in rows]
    seconds = np.array([row.seconds for row in rows], dtype=np.float64)
    found = effects(np.log(seconds), _load(rows, chip), np.array(point), device)
    return dict(zip(names.tolist(), (found - np.median(found)).round(5).tolist(), strict=True))


def effects(log_seconds: Floats, load: Floats, point: Ints, device: Ints) -> Floats:
    """δ of eq. 17a by device.

    Args:
        log_seconds: Measured.
        load: u of every row.
        point: Number of the point that was measured.
        device: Number of the device that measured it.
    """
    prior = (REPEAT_NOISE / PUBLISHED_DEVIATION) ** 2 * np.eye(int(np.max(device)) + 1)
    share = load[:, None] * np.eye(len(prior))[device]
    found, weight = np.zeros(len(prior)), np.ones(len(load))
    for _ in range(STEPS):
        slopes = np.stack([_apart(column, weight, point) for column in share.T], axis=1)
        target = _apart(log_seconds, weight, point)
        weighted = slopes * weight[:, None]
        solved = np.linalg.solve(slopes.T @ weighted + prior, weighted.T @ target)
        found = np.asarray(solved, dtype=np.float64)
        weight = _huber(target - slopes @ found)
    return found


def means(log_seconds: Floats, point: Ints) -> Floats:
    """μ of eq. 17a by point, from rows that are rid of δ."""
    weight = np.ones(len(log_seconds))
    for _ in range(STEPS):
        weight = _huber(_apart(log_seconds, weight, point))
    return np.asarray(np.bincount(point, weight * log_seconds) / np.bincount(point, weight))


def _apart(values: Floats, weight: Floats, point: Ints) -> Floats:
    """Values less the mean of their point."""
    mean = np.bincount(point, weight * values) / np.bincount(point, weight)
    return np.asarray(values - mean[point])


def _huber(left: Floats) -> Floats:
    """Huber's weights of what is left."""
    return np.asarray(REPEAT_NOISE / np.maximum(np.abs(left), REPEAT_NOISE))


def on_typical_device(measured: Folder, effect: Mapping[str, float], chip: Chip) -> list[Row]:
    """Rows of products with the seconds that the middle device would have taken: one row a point.

    Runs of one point on one device count once; rows whose GPU is not named stay as they are.
    """
    devices = _devices(measured)
    kept: list[Row] = []
    told: dict[tuple[Any, ...], list[Row]] = {}
    for row in measured.tables["gemm"].rows:
        device = devices.get(row.run)
        if _tells(row) and device in effect:
            told.setdefault((row.operator, row.cache, device), []).append(row)
        else:
            kept.append(row)
    if not told:
        return kept
    single = [_middle_row(rows) for rows in told.values()]
    delta = np.array([effect[device] for _, _, device in told])
    factors = np.exp(-delta * _load(single, chip)).tolist()
    points: dict[tuple[Any, ...], list[Row]] = {}
    for (operator, cache, _), row, factor in zip(told, single, factors, strict=True):
        points.setdefault((operator, cache), []).append(_slower(row, factor))
    return [*_mean_rows(list(points.values())), *kept]


def _mean_rows(points: Sequence[Sequence[Row]]) -> list[Row]:
    """One row a point, of the mean of its devices' seconds, its range beside it."""
    point = np.repeat(np.arange(len(points)), [len(rows) for rows in points])
    seconds = np.array([row.seconds for rows in points for row in rows], dtype=np.float64)
    middle = [_middle_row(rows) for rows in points]
    there = np.array([row.seconds for row in middle], dtype=np.float64)
    return list(map(_slower, middle, (np.exp(means(np.log(seconds), point)) / there).tolist()))


def _middle_row(rows: Sequence[Row]) -> Row:
    """One row with the median of each time."""
    if len(rows) == 1:
        return rows[0]
    times: dict[str, Any] = {
        name: float(np.median([getattr(row, name) for row in rows])) for name in TIMES
    }
    return replace(rows[0], **times)


def _tells(row: Row) -> bool:
    return row.status == "ok" and row.regime == "burst" and bool(row.seconds)


def _load(rows: Sequence[Row], chip: Chip) -> Floats:
    """The share of the datasheet's tensor rate: u of eq. 17a."""
    design = gemm_design([row.operator for row in rows], chip)
    return np.asarray(design.products.compute_seconds / np.array([row.seconds for row in rows]))


def _slower(row: Row, factor: float) -> Row:
    return replace(row, **{name: factor * getattr(row, name) for name in TIMES})
