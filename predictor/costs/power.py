"""Heat: how much power a mix of operators wants, and the clock at which it settles.

A GPU at its power cap lowers its clock until the average power over the control window meets the
cap. Dynamic power rises faster than the clock (voltage follows it), so with ``P`` the power wanted
at the burst clock and ``P0`` what the device draws anyway, the settled clock is

    f / f_burst = min(1, ((cap - P0) / (P - P0)) ^ (1 / γ))          (docs/cost_model.md, eq. 10)

and whatever tensor cores bound takes ``f_burst / f`` times as long. ``γ`` and the power of each
family come from the measured energy of burst and sustained rows of one shape.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """Power of operator families on one SKU.

    Attributes:
        cap_watts: Power limit of the devices measured.
        idle_watts: Power of a device that only waits for work.
        family_watts: Mean power while a family runs in bursts, by family.
        exponent: γ above.
    """

    cap_watts: float
    idle_watts: float
    family_watts: Mapping[str, float]
    exponent: float

    def power(self, family: str) -> float:
        """Power that a family wants at the burst clock; unmeasured ones want half the cap."""
        return self.family_watts.get(family, 0.5 * self.cap_watts)

    def slowdown(self, seconds: Mapping[str, float]) -> float:
        """Factor by which tensor-core work slows when families run this long in turns.

        Args:
            seconds: Time of each family in one period, with ``idle`` for none.
        """
        total = sum(seconds.values())
        if total <= 0:
            return 1.0
        wanted = sum(
            time * (self.idle_watts if family == "idle" else self.power(family))
            for family, time in seconds.items()
        )
        mean = wanted / total
        if mean <= self.cap_watts:
            return 1.0
        excess = (mean - self.idle_watts) / (self.cap_watts - self.idle_watts)
        return float(excess ** (1.0 / self.exponent))

    def joules(self, seconds: Mapping[str, float]) -> float:
        """Energy of one period, never above the cap's."""
        total = sum(seconds.values())
        wanted = sum(
            time * (self.idle_watts if family == "idle" else self.power(family))
            for family, time in seconds.items()
        )
        return min(wanted, self.cap_watts * total)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``fit.json``."""
        return {
            "cap_watts": self.cap_watts,
            "idle_watts": self.idle_watts,
            "family_watts": dict(self.family_watts),
            "exponent": self.exponent,
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "Heat":
        """Read back what :meth:`to_dict` wrote."""
        return cls(
            cap_watts=float(raw["cap_watts"]),
            idle_watts=float(raw["idle_watts"]),
            family_watts={k: float(v) for k, v in raw["family_watts"].items()},
            exponent=float(raw["exponent"]),
        )
