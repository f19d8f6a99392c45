"""A fitted cost function as plain arrays: a trend and, for sums of regressors, what it leaves.

    seconds(x) = bound(x) · exp( trend(x, β) + Σᵢ wᵢ·κ(x, xᵢ) )        (docs/cost_model.md, eq. 9)

β comes from statsmodels; the second term is the simple-kriging mean of the regression's residuals
(Matheron 1963; Rasmussen & Williams 2006, eq. 2.25), so a measured shape pulls its neighbours
towards what was measured and far shapes fall back to the regression. The half-width of the interval
grows from ``near`` to ``far`` with the distance to the closest measured point.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from predictor.costs.deferred import Deferred
from predictor.costs.design import Design
from predictor.costs.limits import COORDINATE, FACTOR, HALF_WIDTH, LENGTH, Limits, rising, within
from predictor.costs.prediction import Floats, Ints
from predictor.values import frozen


def correlation(x: Floats, points: Floats, scales: Floats) -> Floats:
    """Matérn-3/2 correlation of every ``x`` with every point of the same group."""
    difference = (x[:, None, :] - points[None, :, :]) / scales
    distance = np.sqrt(3.0 * np.sum(difference * difference, axis=2))
    return np.asarray((1.0 + distance) * np.exp(-distance))


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
    def from_dict(cls, raw: Mapping[str, Any], dimensions: int) -> "Residuals":
        """Read back what :meth:`to_dict` wrote of shapes with so many coordinates.

        Raises:
            ValueError: Columns of other lengths, or a number outside of its limits.
        """
        columns = [*raw["coordinates"], raw["weights"]]
        *coordinates, weights = [[float(word) for word in text.split()] for text in columns]
        points = within("coordinates", coordinates, *COORDINATE)
        if points.shape != (dimensions, len(weights)) or not weights:
            raise ValueError(f"coordinates: must be {dimensions} as long as the weights")
        return cls(np.ascontiguousarray(points.T), within("weights", weights, *FACTOR))


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
    def from_dict(cls, raw: Mapping[str, Any], limits: Mapping[str, Limits]) -> "Surface":
        """Read back what :meth:`to_dict` wrote.

        Args:
            raw: What it wrote.
            limits: Names of all coefficients in order, and where each may lie.

        Raises:
            ValueError: Other names, arrays that do not belong together, or a number outside of its
                limits; where a residual is damaged, a FitError when it is asked for.
        """
        names = tuple(raw["regressors"])
        if names != tuple(limits):
            raise ValueError(f"regressors: must be {', '.join(limits)}")
        least, most = zip(*limits.values(), strict=True)
        groups, strata = rising("groups", raw["groups"]), rising("strata", raw["strata"])
        scales = within("scales", raw["scales"], *LENGTH)
        residuals = {int(group): each for group, each in raw["residuals"].items()}
        surface = cls(
            names=names,
            coefficients=within("coefficients", raw["coefficients"], least, most),
            groups=groups,
            residuals=Deferred(residuals, partial(Residuals.from_dict, dimensions=len(scales))),
            scales=scales,
            strata=strata,
            near=within("near", raw["near"], *HALF_WIDTH),
            far=within("far", raw["far"], *HALF_WIDTH),
            box=within("box", raw["box"], *COORDINATE),
            known=rising("known", raw["known"]),
        )
        surface._check_shapes()
        return surface

    def _check_shapes(self) -> None:
        rows = len(self.groups) + 1  # the last one for any other group
        shapes = {
            "coefficients": (self.coefficients, (rows, len(self.names))),
            "near": (self.near, (len(self.strata),)),
            "far": (self.far, (len(self.strata),)),
            "scales": (self.scales, (len(self.scales),)),
            "box": (self.box, (2, len(self.scales))),
        }
        for name, (array, shape) in shapes.items():
            if array.shape != shape or not array.size:
                raise ValueError(f"{name}: must be {' x '.join(map(str, shape))} numbers")
        if not len(self.known):
            raise ValueError("known: must not be empty")


def _rank(known: Ints, asked: Ints, otherwise: int) -> Ints:
    """Place of each asked number among the known ones, which are in order."""
    place = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    return np.where(known[place] == asked, place, otherwise)
