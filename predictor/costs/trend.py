"""The trend of a sample: coefficients by robust regression, beside what is expected of them.

A regressor that a sweep cannot tell apart from the others has none; where points are few, a prior
says what they do not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import statsmodels.api as sm
from numpy.typing import NDArray

from predictor.costs.design import Design, LinearDesign, Prior
from predictor.costs.newton import fit_tiles
from predictor.costs.prediction import Floats, Ints
from predictor.costs.surface import Surface
from predictor.costs.tile_design import TileDesign
from predictor.errors import FitError
from predictor.operators import Operator
from predictor.values import frozen

MINIMUM_POINTS: Final = 6
MINIMUM_BESIDE_PRIOR: Final = 4
PRIOR_NOISE: Final = 0.05
"""Standard deviation of one measured ratio, which weighs points against a prior."""

ROBUST_RATIO: Final = 3
ESSENTIAL: Final = 2
TINY: Final = 1e-9
LEAST_OWN_SHARE: Final = 0.02


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
        alike: If given, a fit of the same groups in another state, whose coefficients they are
            drawn to where ``resemblance`` names them.
        resemblance: Standard deviation of a coefficient from that other one, by regressor: a share
            of it, or of one where it is less.
    """

    operators: Sequence[Operator]
    design: Design
    seconds: Floats
    clusters: Ints
    prior: Prior | None = None
    shared_prior: Prior | None = None
    alike: Surface | None = None
    resemblance: Mapping[str, float] | None = None

    def prior_of(self, group: int) -> Prior:
        """What is expected of the coefficients of a group."""
        prior, alike = dict(self.prior or {}), self.alike
        if alike is None or not self.resemblance or group not in alike.groups:
            return prior
        row = alike.coefficients[np.searchsorted(alike.groups, group)]
        known = dict(zip(alike.names, row.tolist(), strict=True))
        return prior | {
            name: (known[name], share * max(abs(known[name]), 1.0))
            for name, share in self.resemblance.items()
        }

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
        return _fit_groups(sample, design, target)
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


def _fit_groups(sample: Sample, design: LinearDesign, target: Floats) -> Trend:
    """Coefficients of each group; any other group has their medians."""
    groups = np.unique(design.group)
    coefficients = np.zeros((len(groups) + 1, len(design.names)))
    errors = np.zeros_like(coefficients)
    for index, group in enumerate(groups):
        chosen = design.group == group
        prior = sample.prior_of(int(group))
        result = _with_prior(design.take(chosen), target[chosen], prior)
        coefficients[index], errors[index] = result
    coefficients[-1] = np.median(coefficients[:-1], axis=0)
    return Trend(coefficients=coefficients, errors=errors, groups=groups)
