"""A fitted cost function as plain arrays: a trend and, for sums of regressors, what it leaves.

    seconds(x) = bound(x) · exp( trend(x, β) + Σᵢ wᵢ·κ(x, xᵢ) )        (docs/cost_model.md, eq. 9)

β comes from statsmodels; the second term is the simple-kriging mean of the regression's residuals
(Matheron 1963; Rasmussen & Williams 2006, eq. 2.25), so a measured shape pulls its neighbours
towards what was measured and far shapes fall back to the regression. The half-width of the interval
grows from ``near`` to ``far`` with the distance to the closest measured point.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from predictor.costs.deferred import Deferred
from predictor.costs.design import Design
from predictor.costs.prediction import Floats, Ints
from predictor.values import frozen

LARGEST_LOGARITHM: Final = 100.0
"""Of what a fit may hold: coefficients are logarithms, or factors of some tens."""

LARGEST_COORDINATE: Final = 1e15
LEAST_SCALE: Final = 1e-3


def correlation(x: Floats, points: Floats, scales: Floats) -> Floats:
    """Matérn-3/2 correlation of every ``x`` with every point of the same group."""
    difference = (x[:, None, :] - points[None, :, :]) / scales
    distance = np.sqrt(3.0 * np.sum(difference * difference, axis=2))
    return np.asarray((1.0 + distance) * np.exp(-distance))


def within(values: Any, limit: float, *, lowest: float | None = None) -> Floats:  # noqa: ANN401
    """Numbers of a file as they may be evaluated: no exponential of a few of them overflows.

    Args:
        values: Numbers, in lists of any depth.
        limit: The largest magnitude.
        lowest: The least number; ``-limit`` where it is not given.

    Raises:
        ValueError: One of them lies outside, or is no number.
    """
    numbers = np.array(values, dtype=float)
    low = -limit if lowest is None else lowest
    if not np.all((numbers >= low) & (numbers <= limit)):
        msg = f"a number lies outside of {low:g} to {limit:g}"
        raise ValueError(msg)
    return numbers


def half_width(near: Floats, far: Floats, closeness: Floats) -> Floats:
    """Half-width of log seconds between ``near`` at correlation one and ``far`` at none."""
    return np.asarray(np.sqrt(near**2 * closeness**2 + far**2 * (1 - closeness**2)))


@frozen
class Residuals:
    """What the regression leaves of the measured shapes of one group.

    Attributes:
        points: Coordinates of the shapes.
        weights: Kriging weights.
    """

    points: Floats
    weights: Floats

    def to_dict(self) -> dict[str, Any]:
        """A line of text for each coordinate and for the weights."""
        coordinates = self.points.round(4).T.tolist()
        weights = self.weights.round(6).tolist()
        return {
            "coordinates": [" ".join(map(repr, each)) for each in coordinates],
            "weights": " ".join(map(repr, weights)),
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "Residuals":
        """Read back what :meth:`to_dict` wrote."""
        columns = [*raw["coordinates"], raw["weights"]]
        numbers = [[float(word) for word in text.split()] for text in columns]
        points = within(numbers[:-1], LARGEST_COORDINATE)
        return cls(np.ascontiguousarray(points.T), within(numbers[-1], LARGEST_LOGARITHM))


@frozen(kw_only=True)
class Surface:
    """One operator family on one SKU, in one cache state.

    Attributes:
        names: Coefficients.
        coefficients: β; one row for each of ``groups``, then one for any other group.
        groups: Groups that have coefficients of their own, in order.
        residuals: What it leaves of measured shapes, by group; maybe nothing is kept.
        scales: Correlation length along each coordinate.
        strata: Strata that were measured, in order.
        near: Half-width of the 90 % interval of log seconds beside a measured shape, by stratum.
        far: Half-width far from all of them.
        box: Lowest and highest coordinate measured, a row each.
        known: Groups that were measured, in order.
    """

    names: tuple[str, ...]
    coefficients: Floats
    groups: Ints
    residuals: Mapping[int, Residuals]
    scales: Floats
    strata: Ints
    near: Floats
    far: Floats
    box: Floats
    known: Ints

    def log_ratio(self, design: Design) -> tuple[Floats, Floats]:
        """Logarithm of seconds over the bound, and its half-width."""
        ratio, closest = self.evaluate(design)
        stratum = _rank(self.strata, design.stratum, int(np.argmax(self.far)))
        return ratio, half_width(self.near[stratum], self.far[stratum], closest)

    def evaluate(self, design: Design) -> tuple[Floats, Floats]:
        """Logarithm of seconds over the bound, and correlation with the closest measured shape."""
        if len(self.groups):
            rows = _rank(self.groups, design.group, len(self.groups))
            trend = design.log_trend(self.coefficients[rows])
        else:
            trend = design.log_trend(self.coefficients[0])
        mean, closest = np.zeros_like(trend), np.zeros_like(trend)
        for group in set(design.group.tolist()) if self.residuals else ():
            kept = self.residuals.get(group)
            if kept is not None:
                asked = design.group == group
                nearness = correlation(design.coordinates[asked], kept.points, self.scales)
                mean[asked] = nearness @ kept.weights
                closest[asked] = nearness.max(axis=1)
        return trend + mean, closest

    def inside(self, design: Design, *, slack: float = 0.51) -> NDArray[np.bool_]:
        """Whether each shape lies in the measured box, give or take half a doubling."""
        inside = self.knows(design)
        ends = zip(design.coordinates.T, self.box[0] - slack, self.box[1] + slack, strict=True)
        for column, low, high in ends:
            inside &= (column >= low) & (column <= high)
        return inside

    def knows(self, design: Design) -> NDArray[np.bool_]:
        """Whether anything of each operator's group was measured."""
        place = np.minimum(np.searchsorted(self.known, design.group), len(self.known) - 1)
        return np.asarray(self.known[place] == design.group)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists for ``fit.json``."""
        return {
            "regressors": list(self.names),
            "coefficients": self.coefficients.round(6).tolist(),
            "groups": self.groups.tolist(),
            "residuals": {str(group): each.to_dict() for group, each in self.residuals.items()},
            "scales": self.scales.tolist(),
            "strata": self.strata.tolist(),
            "near": self.near.round(5).tolist(),
            "far": self.far.round(5).tolist(),
            "box": self.box.round(4).tolist(),
            "known": self.known.tolist(),
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "Surface":
        """Read back what :meth:`to_dict` wrote."""

        def whole(name: str) -> Ints:
            return np.array(raw[name], dtype=np.int64)

        residuals = {int(group): each for group, each in raw["residuals"].items()}
        return cls(
            names=tuple(raw["regressors"]),
            coefficients=within(raw["coefficients"], LARGEST_LOGARITHM),
            groups=whole("groups"),
            residuals=Deferred(residuals, Residuals.from_dict),
            scales=within(raw["scales"], LARGEST_COORDINATE, lowest=LEAST_SCALE),
            strata=whole("strata"),
            near=within(raw["near"], LARGEST_LOGARITHM, lowest=0.0),
            far=within(raw["far"], LARGEST_LOGARITHM, lowest=0.0),
            box=within(raw["box"], LARGEST_COORDINATE),
            known=whole("known"),
        )


def _rank(known: Ints, asked: Ints, otherwise: int) -> Ints:
    """Place of each asked number among the known ones, which are in order."""
    place = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    return np.where(known[place] == asked, place, otherwise)
