"""Regressions and their held-out errors.

``fit_surface`` takes a sample (a design and measured seconds) and returns a
:class:`~predictor.costs.surface.Surface` with a report of how well it predicts shapes it never saw.
Whole shapes are held out, never repetitions of one (folds are made of ``clusters``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import statsmodels.api as sm
from numpy.typing import NDArray

from predictor.costs.design import Design, LinearDesign
from predictor.costs.ladder import Ladder, classes_of
from predictor.costs.newton import fit_tiles
from predictor.costs.prediction import Floats, Ints
from predictor.costs.surface import Residuals, Surface, correlation, half_width
from predictor.costs.tiles import TileDesign
from predictor.errors import FitError
from predictor.operators import Operator
from predictor.values import frozen

FOLDS: Final = 5
SCALES: Final = (0.7, 1.2, 2.0, 3.5, 6.0)
NUGGETS: Final = (0.02, 0.1, 0.4)
COVERAGE: Final = 0.90
MINIMUM_POINTS: Final = 6
MINIMUM_BESIDE_PRIOR: Final = 4
ROUND_HALF_WIDTH: Final = 0.004
PRIOR_NOISE: Final = 0.05
"""Standard deviation of one measured ratio, which weighs points against a prior."""

ROBUST_RATIO: Final = 3
OUTLIER: Final = 0.3
ESSENTIAL: Final = 2
TINY: Final = 1e-9
LEAST_OWN_SHARE: Final = 0.02
STRATUM_POINTS: Final = 20
"""A stratum with fewer has the interval of all of them."""

Prior = Mapping[str, tuple[float, float]]
"""Expected coefficient and its standard deviation, by regressor."""


@frozen(kw_only=True)
class Sample:
    """What a surface is fitted to.

    Attributes:
        operators: What was measured.
        design: Bounds, regressors and coordinates of them.
        seconds: Measured seconds.
        clusters: Shapes that are held out together share a number.
        prior: If given, each design group has its own coefficients, drawn to it.
        shared_prior: If given, what the coefficients of all groups together are drawn to.
    """

    operators: Sequence[Operator]
    design: Design
    seconds: Floats
    clusters: Ints
    prior: Prior | None = None
    shared_prior: Prior | None = None

    @property
    def log_ratio(self) -> Floats:
        """What is regressed: the logarithm of seconds over the bound."""
        return np.asarray(np.log(self.seconds / self.design.bound))

    def take(self, chosen: NDArray[np.bool_]) -> "Sample":
        """The sample's rows where ``chosen``."""
        return replace(
            self,
            operators=[self.operators[index] for index in np.flatnonzero(chosen).tolist()],
            design=self.design.take(chosen),
            seconds=self.seconds[chosen],
            clusters=self.clusters[chosen],
        )


@frozen(kw_only=True)
class Trend:
    """Coefficients and standard errors; zero where the sweep cannot tell a regressor apart.

    Attributes:
        coefficients: As :attr:`Surface.coefficients`.
        errors: Their standard errors.
        groups: As :attr:`Surface.groups`.
    """

    coefficients: Floats
    errors: Floats
    groups: Ints


def _robust(matrix: Floats, target: Floats) -> tuple[Floats, Floats]:
    """Huber's M-estimator with many points a coefficient, least squares with few."""
    if len(target) > ROBUST_RATIO * matrix.shape[1]:
        result = sm.RLM(target, matrix, M=sm.robust.norms.HuberT()).fit()
    else:
        result = sm.OLS(target, matrix, hasconst=False).fit()
    return np.asarray(result.params), np.asarray(result.bse)


def _with_prior(design: LinearDesign, target: Floats, prior: Prior) -> tuple[Floats, Floats]:
    """Least squares with one more row a coefficient: what is expected of it, in units of noise."""
    matrix = design.matrix
    silent = np.ptp(matrix, axis=0) + np.abs(matrix).max(axis=0) < TINY
    wanted, rows = _prior_rows(design, prior)
    result = sm.OLS(
        np.concatenate([target, wanted]), np.vstack([matrix, rows]), hasconst=False
    ).fit()
    params = np.where(silent, 0.0, np.asarray(result.params))
    return params, np.where(silent, 0.0, np.asarray(result.bse))


def _robust_beside(design: LinearDesign, target: Floats, prior: Prior) -> tuple[Floats, Floats]:
    """Huber's M-estimator of relative errors, beside a row for what is expected of each."""
    wanted, rows = _prior_rows(design, prior)
    result = sm.RLM(
        np.concatenate([np.ones_like(target), wanted]),
        np.vstack([design.matrix / target[:, None], rows]),
        M=sm.robust.norms.HuberT(),
    ).fit()
    return np.asarray(result.params), np.asarray(result.bse)


def _prior_rows(design: LinearDesign, prior: Prior) -> tuple[Floats, Floats]:
    """Expected coefficients in units of noise, and the rows that ask for them."""
    expected = np.array([prior[name] for name in design.names])
    weight = PRIOR_NOISE / expected[:, 1]
    return weight * expected[:, 0], np.diag(weight)


def _usable(matrix: Floats, names: tuple[str, ...], where: str) -> Ints:
    """Columns that the sweep can tell apart from those before them; the rest stay at zero.

    Raises:
        FitError: One of the leading, physical columns is not among them.
    """
    usable: list[int] = []
    for index in range(matrix.shape[1]):
        if _own_share(matrix[:, usable], matrix[:, index]) > LEAST_OWN_SHARE:
            usable.append(index)
        elif index < ESSENTIAL:
            raise FitError(
                f"{where}: the sweep varies too little to tell {names[index]!r} from "
                f"{', '.join(names[:index])}; measure shapes that differ in more than one size"
            )
    return np.array(usable, dtype=np.int64)


def _own_share(others: Floats, column: Floats) -> float:
    """Share of a column's length that the columns before it do not explain."""
    length = float(np.linalg.norm(column))
    if length < TINY or others.shape[1] == 0:
        return 0.0 if length < TINY else 1.0
    explained = others @ np.linalg.lstsq(others, column, rcond=None)[0]
    return float(np.linalg.norm(column - explained)) / length


def fit_trend(sample: Sample, where: str, *, errors: bool = True) -> Trend:
    """Fit the trend, once or once a group; a trend that is only asked may lack standard errors.

    Raises:
        FitError: Too few points, or sizes that vary too little to tell regressors apart.
    """
    design = sample.design
    least = MINIMUM_POINTS if sample.prior is None else MINIMUM_BESIDE_PRIOR
    if len(sample.seconds) < least:
        raise FitError(
            f"{where}: {len(sample.seconds)} measured points; a fit needs at least {least}"
        )
    if isinstance(design, TileDesign):
        _check_spread(design, where)
        values, deviations = fit_tiles(design, sample.log_ratio, errors=errors)
        return Trend(coefficients=values[None], errors=deviations[None], groups=_none())
    if not isinstance(design, LinearDesign):
        raise TypeError(f"no regression is known for {type(design).__name__}")
    target = np.exp(sample.log_ratio)
    if sample.prior is not None:
        return _fit_groups(design, target, sample.prior)
    coefficients, deviations = np.zeros((2, 1, len(design.names)))
    if sample.shared_prior is not None:
        coefficients[0], deviations[0] = _robust_beside(design, target, sample.shared_prior)
        return Trend(coefficients=coefficients, errors=deviations, groups=_none())
    usable = _usable(design.matrix, design.names, where)
    coefficients[0, usable], deviations[0, usable] = _robust(design.matrix[:, usable], target)
    return Trend(coefficients=coefficients, errors=deviations, groups=_none())


def _none() -> Ints:
    return np.zeros(0, dtype=np.int64)


def _check_spread(design: TileDesign, where: str) -> None:
    """Refuse a sweep in which launch, tensor cores and memory always take the same shares.

    Raises:
        FitError: It does.
    """
    products, bound = design.products, design.bound
    shares = {
        "launch": 1.0 / bound,
        "tensor": products.compute_seconds / bound,
        "memory": products.memory_seconds / bound,
    }
    matrix = np.stack(list(shares.values()), axis=1)
    _usable(matrix / np.linalg.norm(matrix, axis=0), tuple(shares), where)


def _fit_groups(design: LinearDesign, target: Floats, prior: Prior) -> Trend:
    """Coefficients of each group; any other group has their medians."""
    groups = np.unique(design.group)
    coefficients = np.zeros((len(groups) + 1, len(design.names)))
    errors = np.zeros_like(coefficients)
    for index, group in enumerate(groups):
        chosen = design.group == group
        result = _with_prior(design.take(chosen), target[chosen], prior)
        coefficients[index], errors[index] = result
    coefficients[-1] = np.median(coefficients[:-1], axis=0)
    return Trend(coefficients=coefficients, errors=errors, groups=groups)


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
