"""Surfaces: a trend with what its residuals say, and held-out errors.

``fit_surface`` takes a sample (a design and measured seconds) and returns a
:class:`~predictor.costs.surface.Surface` with a report of how well it predicts shapes it never saw.
Whole shapes are held out, never repetitions of one (folds are made of ``clusters``).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from predictor.costs.design import LinearDesign
from predictor.costs.ladder import Ladder, classes_of
from predictor.costs.prediction import Floats, Ints
from predictor.costs.surface import Residuals, Surface, correlation, half_width
from predictor.costs.trend import TINY, Sample, Trend, fit_trend
from predictor.values import frozen

FOLDS: Final = 5
SCALES: Final = (0.7, 1.2, 2.0, 3.5, 6.0)
NUGGETS: Final = (0.02, 0.1, 0.4)
COVERAGE: Final = 0.90
ROUND_HALF_WIDTH: Final = 0.004
OUTLIER: Final = 0.3
STRATUM_POINTS: Final = 20
"""A stratum with fewer has the interval of all of them."""


def krige(sample: Sample, residual: Floats, scales: Floats, nugget: float) -> dict[int, Residuals]:
    """Weights of the residuals' kriging mean, by group."""
    design, kept = sample.design, {}
    for chosen in _members(design.group):
        places = design.coordinates[chosen]
        kernel = correlation(places, places, scales) + nugget * np.eye(len(places))
        weights = np.linalg.solve(kernel, residual[chosen])
        kept[int(design.group[chosen[0]])] = Residuals(places, np.asarray(weights, np.float64))
    return kept


def _members(group: Ints) -> list[Ints]:
    """Rows of each group."""
    order = np.argsort(group, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1)


def assemble(sample: Sample, trend: Trend, scale: float, nugget: float) -> Surface:
    """A surface without intervals; tiles leave nothing over that is worth keeping."""
    design = sample.design
    places = design.coordinates
    keep = isinstance(design, LinearDesign)
    surface = Surface(
        names=design.names,
        coefficients=trend.coefficients,
        groups=trend.groups,
        residuals={},
        scales=np.full(places.shape[1], scale),
        strata=np.zeros(1, dtype=np.int64),
        near=np.zeros(1),
        far=np.zeros(1),
        box=np.stack([places.min(axis=0), places.max(axis=0)]),
        known=np.unique(design.group),
    )
    if not keep:
        return surface
    residual = sample.log_ratio - surface.evaluate(design)[0]
    return replace(surface, residuals=krige(sample, residual, surface.scales, nugget))


Hypers = tuple[float, float]
"""Correlation length and nugget of the residuals."""


def _held_out(
    sample: Sample, tried: Sequence[Hypers], folds: Ints, where: str
) -> dict[Hypers, tuple[Floats, Floats]]:
    """Held-out log errors, and closeness to the nearest training point, of every row."""
    found = {pair: (np.zeros(len(folds)), np.zeros(len(folds))) for pair in tried}
    for fold in range(int(np.max(folds)) + 1):
        train, test = sample.take(folds != fold), sample.take(folds == fold)
        trend = fit_trend(train, where, errors=False)
        ladder = Ladder(train.operators[0].name, classes_of(train.operators, train.seconds))
        least, most = ladder.bracket(test.operators)
        bound, target = np.log(test.design.bound), np.log(test.seconds)
        for pair, (error, closeness) in found.items():
            ratio, closest = assemble(train, trend, *pair).evaluate(test.design)
            error[folds == fold] = target - np.clip(ratio + bound, least, most)
            closeness[folds == fold] = closest
    return found


@frozen(kw_only=True)
class HeldOut:
    """How a sample's shapes were predicted by fits that never saw them.

    Attributes:
        error: Logarithm of measured over predicted seconds.
        half: Half-width of each prediction's interval.
        strata: As :attr:`Surface.strata`.
        near: As :attr:`Surface.near`.
        far: As :attr:`Surface.far`.
    """

    error: Floats
    half: Floats
    strata: Ints
    near: Floats
    far: Floats


def _calibrate(
    stratum: Ints, apart: tuple[Floats, Floats], beside: tuple[Floats, Floats]
) -> HeldOut:
    """Choose half-widths so that 90 % of the held-out errors of each stratum are inside.

    Args:
        stratum: Of every row.
        apart: Error and closeness where whole shapes were held out.
        beside: The same where single rows were, whose neighbours the fit has seen.
    """
    strata = np.unique(stratum)
    near, far = np.zeros(len(strata)), np.zeros(len(strata))
    half = np.zeros(len(stratum))
    for index, one in enumerate(strata):
        rows = stratum == one
        pool = rows if np.sum(rows) >= STRATUM_POINTS else np.ones_like(rows)
        near[index], far[index] = _widths(
            (apart[0][pool], apart[1][pool]), (beside[0][pool], beside[1][pool])
        )
        half[rows] = half_width(near[index], far[index], apart[1][rows])
    return HeldOut(error=apart[0], half=half, strata=strata, near=near, far=far)


def _widths(apart: tuple[Floats, Floats], beside: tuple[Floats, Floats]) -> tuple[float, float]:
    """Half-widths beside measured shapes and far from them."""
    error, closeness = (np.concatenate(pair) for pair in zip(apart, beside, strict=True))
    size = np.minimum(np.abs(error), OUTLIER)
    weight = closeness**2
    near = max(float(np.average(size, weights=weight**2 + TINY)), ROUND_HALF_WIDTH)
    far = max(float(np.average(size, weights=(1 - weight) ** 2 + TINY)), near)
    draft = half_width(np.array(near), np.array(far), apart[1])
    factor = float(np.quantile(np.abs(apart[0]) / draft, COVERAGE))
    return near * factor, far * factor


def _folds(clusters: Ints) -> Ints:
    """Number of the fold of each row; rows of a cluster are held out together."""
    order = np.random.default_rng(0).permutation(int(np.max(clusters)) + 1)
    return np.asarray(order[clusters] % min(FOLDS, len(order)))


def _compare(sample: Sample, where: str) -> tuple[float, float, HeldOut]:
    """Correlation length, nugget and held-out errors of the best pair of them."""
    by_shape = _folds(np.unique(sample.clusters, return_inverse=True)[1])
    kriged = isinstance(sample.design, LinearDesign)
    pairs = [(scale, nugget) for scale in SCALES for nugget in NUGGETS] if kriged else [(1.0, 1.0)]
    tried = _held_out(sample, pairs, by_shape, where)
    best = min(tried, key=lambda pair: float(np.mean(np.minimum(np.abs(tried[pair][0]), OUTLIER))))
    apart = beside = tried[best]
    if kriged:
        by_row = _folds(np.arange(len(sample.seconds)))
        beside = _held_out(sample, [best], by_row, where)[best]
    return *best, _calibrate(sample.design.stratum, apart, beside)


def fit_surface(sample: Sample, where: str) -> tuple[Surface, dict[str, Any]]:
    """Fit a surface; report coefficients, standard errors and held-out errors.

    Raises:
        FitError: See :func:`fit_trend`.
    """
    trend = fit_trend(sample, where)
    scale, nugget, held_out = _compare(sample, where)
    surface = replace(
        assemble(sample, trend, scale, nugget),
        strata=held_out.strata,
        near=held_out.near,
        far=held_out.far,
    )
    report = {
        "points": len(held_out.error),
        "standard_errors": trend.errors.round(6).tolist(),
        "correlation_length": scale,
        "nugget": nugget,
        "held_out": figures(sample.seconds, held_out.error, held_out.half),
        "errors": held_out.error.round(4).tolist(),
    }
    return surface, report


def figures(seconds: Floats, error: Floats, half: Floats) -> dict[str, float]:
    """Relative errors, coverage and width of held-out predictions.

    Args:
        seconds: Measured.
        error: Logarithm of measured over predicted.
        half: Half-widths of the predictions' intervals in log seconds.
    """
    predicted = seconds * np.exp(-error)
    size = np.abs(predicted / seconds - 1)
    found = {
        "median": np.median(size),
        "p90": np.quantile(size, 0.9),
        "p95": np.quantile(size, 0.95),
        "time_weighted": np.sum(np.abs(predicted - seconds)) / np.sum(seconds),
        "coverage": np.mean(np.abs(error) <= half),
        "full_width": np.median(2 * np.sinh(half)),
    }
    return {name: round(float(value), 5) for name, value in found.items()}
