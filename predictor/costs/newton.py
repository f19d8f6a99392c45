"""Fits eq. 2 to measured products: Gauss-Newton steps, each one a robust regression.

Around the coefficients at hand, log seconds are linear in small changes of them (of their
logarithms where they scale a rate), so that each step is a regression of what is left on the
derivatives (Björck 1996, section 9.2). statsmodels' Huber M-estimator keeps points where the
library chose badly from pulling the rest; one more row a coefficient says what is expected of it.
Standard errors are those of the last step.
"""

from typing import Final

import numpy as np
import statsmodels.api as sm

from predictor.costs.prediction import Floats
from predictor.costs.tiles import COEFFICIENTS, EXPECTED, FLAGS, TileDesign

NOISE: Final = 0.03
"""Standard deviation of one measured ratio, which weighs points against expectations."""

HUBER: Final = 1.345 * NOISE
STEPS: Final = 20
ITERATIONS: Final = 10
TOLERANCE: Final = 1e-4
HALVINGS: Final = 6
DIFFERENCE: Final = 1e-4
SETTLED: Final = 1e-4
"""Share of the loss by which a last step may improve it."""

_SCALES = np.array([each.scales for each in COEFFICIENTS.values()])
_DEVIATION = np.array([each.deviation for each in COEFFICIENTS.values()])


def fit_tiles(design: TileDesign, log_ratio: Floats) -> tuple[Floats, Floats]:
    """Fit the coefficients of a tile design.

    Args:
        design: Measured products.
        log_ratio: Logarithm of their seconds over the bound.

    Returns:
        Coefficients and standard errors, both in units of the coefficient.
    """
    place = _inner(EXPECTED)
    loss = _loss(design, log_ratio, place)
    error = np.zeros_like(place)
    for _ in range(STEPS):
        step, error = _step(design, log_ratio, place)
        for _ in range(HALVINGS):
            trial = _loss(design, log_ratio, place + step)
            if trial < loss:
                break
            step = 0.5 * step
        else:
            break
        place, gained, loss = place + step, loss - trial, trial
        if gained < SETTLED * loss:
            break
    values = _outer(place)
    return values, np.where(_SCALES, values * error, error)


def _inner(values: Floats) -> Floats:
    return np.where(_SCALES, np.log(np.where(_SCALES, values, 1.0)), values)


def _outer(place: Floats) -> Floats:
    return np.where(_SCALES, np.exp(np.where(_SCALES, place, 0.0)), place)


def _residual(design: TileDesign, log_ratio: Floats, place: Floats) -> Floats:
    return np.asarray(log_ratio - design.log_trend(_outer(place)))


def _loss(design: TileDesign, log_ratio: Floats, place: Floats) -> float:
    size = np.abs(_residual(design, log_ratio, place))
    huber = np.where(size < HUBER, 0.5 * size**2, HUBER * (size - 0.5 * HUBER))
    away = NOISE * (place - _inner(EXPECTED)) / _DEVIATION
    return float(np.sum(huber) + 0.5 * np.sum(away**2))


def _step(design: TileDesign, log_ratio: Floats, place: Floats) -> tuple[Floats, Floats]:
    left = _residual(design, log_ratio, place)
    slopes = np.empty((len(left), len(place)))
    slopes[:, -len(FLAGS) :] = design.products.flags
    for index in range(len(place) - len(FLAGS)):
        moved = place.copy()
        moved[index] += DIFFERENCE
        slopes[:, index] = (left - _residual(design, log_ratio, moved)) / DIFFERENCE
    weight = NOISE / _DEVIATION
    target = np.concatenate([left, weight * (_inner(EXPECTED) - place)])
    matrix = np.vstack([slopes, np.diag(weight)])
    result = sm.RLM(target, matrix, M=sm.robust.norms.HuberT()).fit(
        maxiter=ITERATIONS, tol=TOLERANCE
    )
    return np.asarray(result.params), np.asarray(result.bse)
