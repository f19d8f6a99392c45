"""Fits eq. 2 to measured products: Gauss-Newton steps, each one a robust regression.

Around the coefficients at hand, log seconds are linear in small changes of them (of their
logarithms where they scale a rate), so that each step is a weighted regression of what is left on
the derivatives (Björck 1996, section 9.2), with Huber's weights, so that points where the library
chose badly do not pull the rest; one more row a coefficient says what is expected of it. A minimum
over tiles changes like the tile that attains it, so derivatives are those of the chosen tiles.
Standard errors are those of statsmodels' M-estimator around the solution.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import statsmodels.api as sm

from predictor.costs.prediction import Floats
from predictor.costs.tile_design import TileDesign
from predictor.costs.tile_table import COEFFICIENTS, EXPECTED, FLAGS

NOISE: Final = 0.03
"""Standard deviation of a ratio of calls up to 100 us, which weighs points against expectations."""

NOISE_SECONDS: Final = 1e-4
NOISE_EXPONENT: Final = -0.3
LEAST_NOISE: Final = 0.33
"""Longer calls follow the formula more closely (held out, in the mean: 4 % below 30 us, 1.5 % from
1 ms on), so they count for more: by this power of their time, to this share of the noise."""

HUBER: Final = 1.345 * NOISE
STEPS: Final = 20
HALVINGS: Final = 6
DIFFERENCE: Final = 1e-4
SETTLED: Final = 1e-6
"""Share of the loss by which the last step of a fit that is kept may improve it: so far, libraries
that round otherwise come to coefficients within a tenth of their standard errors."""

NEARLY: Final = 1e-3
"""The same of a fit that is only asked how well it foretells what was held out."""

SMALL_GAINS: Final = 2
"""In a row, that end a fit: one may be that of a long step halved until it was no loss."""

_SCALES = np.array([each.scales for each in COEFFICIENTS.values()])
_DEVIATION = np.array([each.deviation for each in COEFFICIENTS.values()])


def _inner(values: Floats) -> Floats:
    return np.where(_SCALES, np.log(np.where(_SCALES, values, 1.0)), values)


def _outer(place: Floats) -> Floats:
    return np.where(_SCALES, np.exp(np.where(_SCALES, place, 0.0)), place)


_START = _inner(EXPECTED)
_WEIGHT = NOISE / _DEVIATION


def fit_tiles(
    design: TileDesign, log_ratio: Floats, *, errors: bool = True
) -> tuple[Floats, Floats]:
    """Fit the coefficients of a tile design.

    Args:
        design: Measured products.
        log_ratio: Logarithm of their seconds over the bound.
        errors: Whether the fit is kept and its standard errors are wanted; they are zero otherwise.

    Returns:
        Coefficients and standard errors, both in units of the coefficient.
    """
    weight = _certainty(design)
    place = _START
    left = weight * (log_ratio - design.log_trend(_outer(place)))
    loss, small = _loss(left, place), 0
    for _ in range(STEPS):
        step = _step(left, _slopes(design, weight, place), place)
        for _ in range(HALVINGS):
            there = weight * (log_ratio - design.log_trend(_outer(place + step)))
            trial = _loss(there, place + step)
            if trial < loss:
                break
            step = 0.5 * step
        else:
            break
        place, left, gained, loss = place + step, there, loss - trial, trial
        small = small + 1 if gained < (SETTLED if errors else NEARLY) * loss else 0
        if small == SMALL_GAINS:
            break
    values, error = _outer(place), np.zeros_like(place)
    if errors:
        error = _errors(left, _slopes(design, weight, place), place)
    return values, np.where(_SCALES, values * error, error)


def _loss(left: Floats, place: Floats) -> float:
    size = np.abs(left)
    huber = np.where(size < HUBER, 0.5 * size**2, HUBER * (size - 0.5 * HUBER))
    return float(np.sum(huber) + 0.5 * np.sum((_WEIGHT * (place - _START)) ** 2))


def _certainty(design: TileDesign) -> Floats:
    """``NOISE`` over the noise of each product, by the seconds that it is bound to take."""
    noise = (design.bound / NOISE_SECONDS) ** NOISE_EXPONENT
    return np.asarray(1.0 / np.clip(noise, LEAST_NOISE, 1.0))


def _slopes(design: TileDesign, weight: Floats, place: Floats) -> Floats:
    """Derivatives of log seconds by weight, the tiles held."""
    chosen = design.fastest(_outer(place))

    def trend(moved: Floats) -> Floats:
        return design.log_trend_of(chosen, _outer(moved))

    slopes = np.empty((len(chosen), len(place)))
    slopes[:, -len(FLAGS) :] = design.products.flags
    _differences(trend, place, slopes[:, : -len(FLAGS)])
    return slopes * weight[:, None]


def _differences(trend: Callable[[Floats], Floats], place: Floats, out: Floats) -> None:
    here = trend(place)
    for index in range(out.shape[1]):
        moved = place.copy()
        moved[index] += DIFFERENCE
        out[:, index] = (trend(moved) - here) / DIFFERENCE


def _step(left: Floats, slopes: Floats, place: Floats) -> Floats:
    """Weighted least squares, by the normal equations: expectations keep them well-conditioned."""
    weight = np.minimum(1.0, HUBER / np.maximum(np.abs(left), HUBER))
    weighted = slopes * weight[:, None]
    matrix = slopes.T @ weighted + np.diag(_WEIGHT**2)
    found = np.linalg.solve(matrix, weighted.T @ left + _WEIGHT**2 * (_START - place))
    return np.asarray(found, dtype=np.float64)


def _errors(left: Floats, slopes: Floats, place: Floats) -> Floats:
    target = np.concatenate([left, _WEIGHT * (_START - place)])
    matrix = np.vstack([slopes, np.diag(_WEIGHT)])
    return np.asarray(sm.RLM(target, matrix, M=sm.robust.norms.HuberT()).fit(maxiter=10).bse)
