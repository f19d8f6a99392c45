"""What devices of one SKU differ by, and how much wider that makes an answer for any of them."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from predictor.costs.limits import DEVIATION, each_within
from predictor.values import frozen

PUBLISHED_DEVIATION: Final = 0.0148
"""Standard deviation of the time that GPUs of one cluster and SKU take for the same work that power
bounds. Sinha et al., SC22 (arXiv:2208.11035), measured 18,800 hours on five clusters: 8 % between
the whiskers on average, which lie 5.4 standard deviations apart; 22 % at worst."""

REPEAT: Final = 0.015
"""Half-width of a measured point on another device where nothing was measured twice: published
repeats differ by 1 to 2 %."""

NINETY_PERCENT: Final = 1.645
"""Normal deviates that hold nine of ten on both sides."""


@frozen(kw_only=True)
class Difference:
    """What devices of one SKU differ by in one family of operators.

    Attributes:
        devices: How many have points in common with another.
        points: Ratios of what two devices took for one point.
        deviation: σ of eq. 18: of the logarithm of a device's time over a typical one's.
        repeat: 90 % quantile of the distance of a point on one device from the same on another.
    """

    devices: int
    points: int
    deviation: float
    repeat: float

    def to_dict(self) -> dict[str, float]:
        """For ``fit.json``."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "Difference":
        """Read back what :meth:`to_dict` wrote.

        Raises:
            ValueError: A number is missing or lies outside of its limits.
        """
        each_within("devices", raw, {"deviation": DEVIATION, "repeat": DEVIATION})
        return cls(**raw)


UNMEASURED: Final = Difference(devices=0, points=0, deviation=PUBLISHED_DEVIATION, repeat=REPEAT)

Differences = Mapping[str, Difference]
"""By family; :data:`UNMEASURED` holds where one is not there."""


def device_half_seconds(differences: Differences, breakdown: Mapping[str, float]) -> float:
    """90 % half-width of a step on a device that nobody named: one slow in a part is in all."""
    return NINETY_PERCENT * sum(
        seconds * differences.get(name, UNMEASURED).deviation for name, seconds in breakdown.items()
    )
