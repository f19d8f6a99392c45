"""A fitted cost function as plain arrays: a log-linear regression and its correlated residuals.

    seconds(x) = bound(x) · exp(X(x)·β + Σᵢ wᵢ·κ(x, xᵢ))          (docs/cost_model.md, eq. 9)

β comes from statsmodels; the second term is the simple-kriging mean of the regression's residuals
(Matheron 1963; Rasmussen & Williams 2006, eq. 2.25), so a measured shape pulls its neighbours
towards what was measured and far shapes fall back to the regression. The half-width of the interval
grows from ``near`` to ``far`` with the distance to the closest measured point.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from predictor.costs.bounds import Design
from predictor.costs.prediction import Floats


def correlation(x: Floats, points: Floats, scales: Floats) -> Floats:
    """Matérn-3/2 correlation of every ``x`` with every point of the same group."""
    difference = (x[:, None, :] - points[None, :, :]) / scales
    distance = np.sqrt(3.0 * np.sum(difference * difference, axis=2))
    return np.asarray((1.0 + distance) * np.exp(-distance))


def half_width(near: float, far: float, closeness: Floats) -> Floats:
    """Half-width of log seconds between ``near`` at correlation one and ``far`` at none."""
    return np.asarray(np.sqrt(near**2 * closeness**2 + far**2 * (1 - closeness**2)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    """One operator family on one SKU, in one cache state.

    Attributes:
        names: Regressors.
        coefficients: β; one row a group if ``grouped``, else one row for all.
        grouped: Each group has coefficients of its own.
        points: Coordinates of the measured shapes.
        point_group: Their groups.
        weights: Kriging weights.
        scales: Correlation length along each coordinate.
        near: Half-width of the 90 % interval of log seconds beside a measured shape.
        far: Half-width far from all of them.
        box: Lowest and highest coordinate measured, a row each.
    """

    names: tuple[str, ...]
    coefficients: Floats
    grouped: bool
    points: Floats
    point_group: NDArray[np.int64]
    weights: Floats
    scales: Floats
    near: float
    far: float
    box: Floats

    def log_ratio(self, design: Design) -> tuple[Floats, Floats]:
        """Logarithm of seconds over the bound, and its half-width."""
        ratio, closest = self.evaluate(design)
        return ratio, half_width(self.near, self.far, closest)

    def evaluate(self, design: Design) -> tuple[Floats, Floats]:
        """Logarithm of seconds over the bound, and correlation with the closest measured shape."""
        rows = design.group if self.grouped else np.zeros_like(design.group)
        trend = design.log_trend(self.coefficients[rows])
        mean, closest = np.zeros_like(trend), np.zeros_like(trend)
        for group in set(design.group.tolist()):
            asked, known = design.group == group, self.point_group == group
            if known.any():
                nearness = correlation(design.coordinates[asked], self.points[known], self.scales)
                mean[asked] = nearness @ self.weights[known]
                closest[asked] = nearness.max(axis=1)
        return trend + mean, closest

    def inside(self, design: Design, *, slack: float = 0.51) -> NDArray[np.bool_]:
        """Whether each shape lies in the measured box, give or take half a doubling."""
        low, high = self.box[0] - slack, self.box[1] + slack
        inside = np.all((design.coordinates >= low) & (design.coordinates <= high), axis=1)
        return np.asarray(inside & self.knows(design))

    def knows(self, design: Design) -> NDArray[np.bool_]:
        """Whether anything of each operator's group was measured."""
        groups = set(self.point_group.tolist())
        return np.array([group in groups for group in design.group.tolist()], dtype=bool)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists for ``fit.json``."""
        return {
            "regressors": list(self.names),
            "coefficients": self.coefficients.round(6).tolist(),
            "grouped": self.grouped,
            "points": self.points.round(4).tolist(),
            "point_group": self.point_group.tolist(),
            "weights": self.weights.round(6).tolist(),
            "scales": self.scales.tolist(),
            "near": round(self.near, 5),
            "far": round(self.far, 5),
            "box": self.box.round(4).tolist(),
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "Surface":
        """Read back what :meth:`to_dict` wrote."""
        return cls(
            names=tuple(raw["regressors"]),
            coefficients=np.array(raw["coefficients"], dtype=float),
            grouped=bool(raw["grouped"]),
            points=np.array(raw["points"], dtype=float),
            point_group=np.array(raw["point_group"], dtype=np.int64),
            weights=np.array(raw["weights"], dtype=float),
            scales=np.array(raw["scales"], dtype=float),
            near=float(raw["near"]),
            far=float(raw["far"]),
            box=np.array(raw["box"], dtype=float),
        )
