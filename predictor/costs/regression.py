"""Regressions and their held-out errors: the only user of statsmodels.

``fit_surface`` takes a design (bound, regressors, coordinates) and measured seconds, and returns a
:class:`~predictor.costs.surface.Surface` with a report of how well it predicts shapes it never saw.
Whole shapes are held out, never repetitions of one (folds are made of ``clusters``).
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import statsmodels.api as sm
from numpy.typing import NDArray

from predictor.costs.bounds import PRIOR_NOISE, STREAM_PRIOR, Design
from predictor.costs.prediction import Floats
from predictor.costs.surface import Surface, correlation, half_width
from predictor.errors import FitError

FOLDS = 5
SCALES = (0.7, 1.2, 2.0, 3.5, 6.0)
NUGGETS = (0.02, 0.1, 0.4)
COVERAGE = 0.90
MINIMUM_POINTS = 6
ROUND_HALF_WIDTH = 0.004
ROBUST_RATIO = 3
OUTLIER = 0.3
ESSENTIAL = 2
TINY = 1e-9
LEAST_OWN_SHARE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What a surface is fitted to.

    Attributes:
        design: Bounds, regressors and coordinates of the measured operators.
        seconds: Measured seconds.
        clusters: Shapes that are held out together share a number.
        grouped: Each design group has its own coefficients.
    """

    design: Design
    seconds: Floats
    clusters: NDArray[np.int64]
    grouped: bool

    @property
    def log_ratio(self) -> Floats:
        """What is regressed: the logarithm of seconds over the bound."""
        return np.asarray(np.log(self.seconds / self.design.bound))

    def take(self, chosen: NDArray[np.bool_]) -> "Sample":
        """The sample's rows where ``chosen``."""
        d = self.design
        part = Design(
            d.bound[chosen],
            d.names,
            d.matrix[chosen],
            d.coordinates[chosen],
            d.group[chosen],
            d.groups,
            d.linear,
        )
        return Sample(
            design=part,
            seconds=self.seconds[chosen],
            clusters=self.clusters[chosen],
            grouped=self.grouped,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """Coefficients and standard errors; zero where the sweep cannot tell a regressor apart."""

    coefficients: Floats
    errors: Floats


def _robust(matrix: Floats, target: Floats) -> tuple[Floats, Floats]:
    """Huber's M-estimator with many points a coefficient, least squares with few."""
    if len(target) > ROBUST_RATIO * matrix.shape[1]:
        result = sm.RLM(target, matrix, M=sm.robust.norms.HuberT()).fit()
    else:
        result = sm.OLS(target, matrix).fit()
    return np.asarray(result.params), np.asarray(result.bse)


def _with_prior(matrix: Floats, target: Floats, names: tuple[str, ...]) -> tuple[Floats, Floats]:
    """Least squares with one more row a coefficient: what is expected of it, in units of noise."""
    prior = np.array([STREAM_PRIOR[name] for name in names])
    silent = np.ptp(matrix, axis=0) + np.abs(matrix).max(axis=0) < TINY
    weight = PRIOR_NOISE / prior[:, 1]
    result = sm.OLS(
        np.concatenate([target, weight * prior[:, 0]]), np.vstack([matrix, np.diag(weight)])
    ).fit()
    params = np.where(silent, 0.0, np.asarray(result.params))
    return params, np.where(silent, 0.0, np.asarray(result.bse))


def _usable(matrix: Floats, names: tuple[str, ...], where: str) -> NDArray[np.int64]:
    """Columns that the sweep can tell apart from those before them; the rest stay at zero.

    Raises:
        FitError: One of the leading, physical columns is not among them.
    """
    usable: list[int] = []
    for index in range(matrix.shape[1]):
        if _own_share(matrix[:, usable], matrix[:, index]) > LEAST_OWN_SHARE:
            usable.append(index)
        elif index < ESSENTIAL:
            msg = (
                f"{where}: the sweep varies too little to tell {names[index]!r} from "
                f"{', '.join(names[:index])}; measure shapes that differ in more than one size"
            )
            raise FitError(msg)
    return np.array(usable, dtype=np.int64)


def _own_share(others: Floats, column: Floats) -> float:
    """Share of a column's length that the columns before it do not explain."""
    length = float(np.linalg.norm(column))
    if length < TINY or others.shape[1] == 0:
        return 0.0 if length < TINY else 1.0
    explained = others @ np.linalg.lstsq(others, column, rcond=None)[0]
    return float(np.linalg.norm(column - explained)) / length


def fit_trend(sample: Sample, where: str) -> Trend:
    """Fit the linear part, once or once a group.

    Raises:
        FitError: Too few points, or regressors that the sweep cannot tell apart.
    """
    design = sample.design
    target = np.exp(sample.log_ratio) if design.linear else sample.log_ratio
    if len(target) < MINIMUM_POINTS:
        msg = f"{where}: {len(target)} measured points; a fit needs at least {MINIMUM_POINTS}"
        raise FitError(msg)
    groups = design.groups if sample.grouped else 1
    coefficients = np.zeros((groups, len(design.names)))
    errors = np.zeros_like(coefficients)
    if not sample.grouped:
        usable = _usable(design.matrix, design.names, where)
        result = _robust(design.matrix[:, usable], target)
        coefficients[0, usable], errors[0, usable] = result
        return Trend(coefficients=coefficients, errors=errors)
    for index in set(design.group.tolist()):
        chosen = design.group == index
        coefficients[index], errors[index] = _with_prior(
            design.matrix[chosen], target[chosen], design.names
        )
    empty = ~np.isin(np.arange(groups), design.group)
    coefficients[empty] = np.median(coefficients[~empty], axis=0)
    return Trend(coefficients=coefficients, errors=errors)


def _residual(sample: Sample, trend: Trend) -> Floats:
    rows = sample.design.group if sample.grouped else np.zeros_like(sample.design.group)
    return np.asarray(sample.log_ratio - sample.design.log_trend(trend.coefficients[rows]))


def krige(sample: Sample, residual: Floats, scales: Floats, nugget: float) -> Floats:
    """Weights of the residuals' kriging mean."""
    design = sample.design
    weights = np.zeros_like(residual)
    for group in np.unique(design.group):
        chosen = design.group == group
        places = design.coordinates[chosen]
        kernel = correlation(places, places, scales) + nugget * np.eye(len(places))
        weights[chosen] = np.linalg.solve(kernel, residual[chosen])
    return weights


def _assemble(sample: Sample, trend: Trend, weights: Floats, scales: Floats) -> Surface:
    design = sample.design
    box = np.stack([design.coordinates.min(axis=0), design.coordinates.max(axis=0)])
    return Surface(
        names=design.names,
        coefficients=trend.coefficients,
        grouped=sample.grouped,
        points=design.coordinates,
        point_group=design.group,
        weights=weights,
        scales=scales,
        near=0.0,
        far=0.0,
        box=box,
    )


def _held_out(
    sample: Sample, scale: float, nugget: float, trends: list[Trend], folds: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """Held-out log errors, and closeness to the nearest training point, of every row."""
    error, closeness = np.zeros(len(sample.seconds)), np.zeros(len(sample.seconds))
    scales = np.full(sample.design.coordinates.shape[1], scale)
    for fold, trend in enumerate(trends):
        train, test = sample.take(folds != fold), sample.take(folds == fold)
        weights = krige(train, _residual(train, trend), scales, nugget)
        surface = _assemble(train, trend, weights, scales)
        ratio, closest = surface.evaluate(test.design)
        error[folds == fold] = test.log_ratio - ratio
        closeness[folds == fold] = closest
    return error, closeness


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """How a sample's shapes were predicted by fits that never saw them.

    Attributes:
        error: Logarithm of measured over predicted seconds.
        closeness: Correlation with the closest shape of the training part.
        near: Half-width of the 90 % interval beside a measured shape.
        far: Half-width far from all of them.
    """

    error: Floats
    closeness: Floats
    near: float
    far: float

    @property
    def half(self) -> Floats:
        """Half-width of each prediction's interval."""
        return half_width(self.near, self.far, self.closeness)


def _calibrate(apart: tuple[Floats, Floats], beside: tuple[Floats, Floats]) -> HeldOut:
    """Choose half-widths so that 90 % of the held-out errors are inside.

    Args:
        apart: Error and closeness where whole shapes were held out.
        beside: The same where single rows were, whose neighbours the fit has seen.
    """
    error, closeness = (np.concatenate(pair) for pair in zip(apart, beside, strict=True))
    size = np.minimum(np.abs(error), OUTLIER)
    weight = closeness**2
    near = max(float(np.average(size, weights=weight**2 + TINY)), ROUND_HALF_WIDTH)
    far = max(float(np.average(size, weights=(1 - weight) ** 2 + TINY)), near)
    draft = HeldOut(error=apart[0], closeness=apart[1], near=near, far=far)
    factor = float(np.quantile(np.abs(apart[0]) / draft.half, COVERAGE))
    return replace(draft, near=near * factor, far=far * factor)


def _folds(clusters: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the fold of each row; rows of a cluster are held out together."""
    order = np.random.default_rng(0).permutation(int(np.max(clusters)) + 1)
    return np.asarray(order[clusters] % min(FOLDS, len(order)))


def _trends(sample: Sample, folds: NDArray[np.int64], where: str) -> list[Trend]:
    """The linear part fitted without each fold."""
    return [fit_trend(sample.take(folds != f), where) for f in range(int(np.max(folds)) + 1)]


def fit_surface(sample: Sample, where: str) -> tuple[Surface, dict[str, Any]]:
    """Fit a surface; report coefficients, standard errors and held-out errors.

    Raises:
        FitError: See :func:`fit_trend`.
    """
    trend = fit_trend(sample, where)
    by_shape = _folds(np.unique(sample.clusters, return_inverse=True)[1])
    trends = _trends(sample, by_shape, where)
    tried = {
        (scale, nugget): _held_out(sample, scale, nugget, trends, by_shape)
        for scale in SCALES
        for nugget in NUGGETS
    }
    scale, nugget = min(
        tried, key=lambda choice: float(np.mean(np.minimum(np.abs(tried[choice][0]), OUTLIER)))
    )
    by_row = _folds(np.arange(len(sample.seconds)))
    beside = _held_out(sample, scale, nugget, _trends(sample, by_row, where), by_row)
    held_out = _calibrate(tried[scale, nugget], beside)
    scales = np.full(sample.design.coordinates.shape[1], scale)
    weights = krige(sample, _residual(sample, trend), scales, nugget)
    surface = replace(
        _assemble(sample, trend, weights, scales), near=held_out.near, far=held_out.far
    )
    report = {
        "points": len(held_out.error),
        "standard_errors": trend.errors.round(6).tolist(),
        "correlation_length": scale,
        "nugget": nugget,
        "held_out": _errors(sample, held_out),
    }
    return surface, report


def _errors(sample: Sample, held_out: HeldOut) -> dict[str, float]:
    predicted = sample.seconds * np.exp(-held_out.error)
    size = np.abs(predicted / sample.seconds - 1)
    weighted = np.sum(np.abs(predicted - sample.seconds)) / np.sum(sample.seconds)
    figures = {
        "median": np.median(size),
        "p90": np.quantile(size, 0.9),
        "p95": np.quantile(size, 0.95),
        "time_weighted": weighted,
        "coverage": np.mean(np.abs(held_out.error) <= held_out.half),
        "full_width": np.median(2 * np.sinh(held_out.half)),
    }
    return {name: round(float(value), 5) for name, value in figures.items()}
