"""A SKU with other hardware: what was measured, times what physics says of the change (eq. 22).

    seconds'(x) = seconds(x) · fitted(x; datasheet') / fitted(x; datasheet)

The fitted functions hold shares of the datasheet's rates; both are evaluated at the same shares, so
their ratio is that of the bounds, each regressor moving with the rate that it stands for. Where the
change does not touch an operator the ratio is one and its measurement stays as it is. What is
touched is extrapolated, and its interval widens with the size of the change.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from predictor.case import Gpu
from predictor.costs.loading import changed_costs, load_costs
from predictor.costs.model import Costs
from predictor.costs.prediction import Origin, Prediction
from predictor.errors import CaseError, nearest
from predictor.operators import Collective, Operator
from predictor.units import GIB
from predictor.values import frozen

CHANGE_HALF_WIDTH: Final = 1.0
"""Half-width that a change adds, over the logarithm of its effect on an operator. From H100 to H200
(bandwidth times 1.43), 568 kernels that only move bytes gained 0.75 of what eq. 22 says in the
median, nine of ten between nothing and one and a half times of it."""

UNTOUCHED: Final = 1e-6

_UNITS: Final[Mapping[str, float]] = {
    "": 1.0,
    "w": 1.0,
    "gib": GIB,
    "gb": 1e9,
    "gb/s": 1e9,
    "tb/s": 1e12,
    "tflop/s": 1e12,
    "pflop/s": 1e15,
    "s": 1.0,
    "us": 1e-6,
}
_FACTOR = re.compile(r"[x*]\s*(\d+(?:\.\d*)?|\.\d+)")
_PERCENT = re.compile(r"([+-]\d+(?:\.\d*)?)\s*%")
_VALUE = re.compile(r"(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*([A-Za-z/]*)")


def _peaks(gpu: Gpu, factor: float) -> dict[str, float]:
    return {name: rate * factor for name, rate in gpu.peak_flops_per_second.items()}


def _more_sms(gpu: Gpu, factor: float) -> Gpu:
    """More of the same SMs: tensor rate and L2 ports grow with them, memory does not."""
    count = max(1, round((gpu.sm_count or 1) * factor))
    return replace(gpu, sm_count=count, peak_flops_per_second=_peaks(gpu, factor))


PROPERTIES: Final[Mapping[str, tuple[Callable[[Gpu], float], Callable[[Gpu, float], Gpu]]]] = {
    "hbm_bandwidth": (
        lambda gpu: gpu.memory_bytes_per_second,
        lambda gpu, by: replace(gpu, memory_bytes_per_second=gpu.memory_bytes_per_second * by),
    ),
    "tensor_peak": (
        lambda gpu: gpu.peak_flops_per_second["bf16"],
        lambda gpu, by: replace(gpu, peak_flops_per_second=_peaks(gpu, by)),
    ),
    "num_sms": (lambda gpu: float(gpu.sm_count or 1), _more_sms),
    "l2_bytes": (
        lambda gpu: float(gpu.l2_bytes or 1),
        lambda gpu, by: replace(gpu, l2_bytes=round((gpu.l2_bytes or 1) * by)),
    ),
    "memory_bytes": (
        lambda gpu: float(gpu.memory_bytes),
        lambda gpu, by: replace(gpu, memory_bytes=round(gpu.memory_bytes * by)),
    ),
    "power_cap": (
        lambda gpu: gpu.power_watts,
        lambda gpu, by: replace(gpu, power_watts=gpu.power_watts * by),
    ),
    "nvlink": (
        lambda gpu: gpu.scaleup_bytes_per_second,
        lambda gpu, by: replace(gpu, scaleup_bytes_per_second=gpu.scaleup_bytes_per_second * by),
    ),
}
"""Properties of a GPU that may change, each with how to read it and how to multiply it."""

NETWORK: Final = {
    "network": "inter_node_bytes_per_second_per_gpu",
    "network_latency": "inter_node_latency_seconds",
}
"""Properties of the network between nodes, by the field of a case's cluster."""

LEAST_FACTOR, MOST_FACTOR = 0.01, 100.0


@frozen
class Change:
    """One property of the hardware, changed.

    Attributes:
        name: A key of ``PROPERTIES`` or ``NETWORK``.
        words: As it was asked for: ``x2``, ``+10%``, ``4.8TB/s``.
    """

    name: str
    words: str

    @classmethod
    def read(cls, text: str) -> "Change":
        """Read ``name=x2``, ``name=+10%`` or ``name=value`` with a unit.

        Raises:
            CaseError: The property is not known, or the change cannot be read.
        """
        name, equals, words = (part.strip() for part in text.partition("="))
        known = (*PROPERTIES, *NETWORK)
        if name not in known:
            hint = f"{nearest(name, known)}; known: {', '.join(known)}"
            raise CaseError(f"--hardware {text}: unknown property{hint}")
        change = cls(name, words)
        if not equals:
            raise CaseError(f"--hardware {text}: {_RULE}")
        change.factor(1.0)
        return change

    def factor(self, now: float) -> float:
        """What the property is multiplied by, if it is ``now``.

        Raises:
            CaseError: The change cannot be read, or is beyond any machine.
        """
        factor = self._factor(now)
        if factor is None:
            raise CaseError(f"--hardware {self.name}={self.words}: {_RULE}")
        if now != 1.0 and not LEAST_FACTOR <= factor <= MOST_FACTOR:
            raise CaseError(
                f"--hardware {self.name}={self.words}: is {factor:.3g} times {now:.4g}; "
                f"must be between {LEAST_FACTOR:g} and {MOST_FACTOR:g} times"
            )
        return factor

    def _factor(self, now: float) -> float | None:
        if found := _FACTOR.fullmatch(self.words):
            return float(found[1]) or None
        if found := _PERCENT.fullmatch(self.words):
            return max(1.0 + float(found[1]) / 100.0, 0.0) or None
        if (found := _VALUE.fullmatch(self.words)) and found[2].lower() in _UNITS:
            return float(found[1]) * _UNITS[found[2].lower()] / now or None
        return None


_RULE = "must be a factor (x2), a percentage (+10%) or a value in SI units (4.8TB/s, 141GB, 900W)"


def changed_gpu(gpu: Gpu, changes: Sequence[Change]) -> Gpu:
    """A datasheet with changes, one after the other; those of the network are left aside.

    Raises:
        CaseError: A change is beyond any machine.
    """
    for change in changes:
        if change.name in PROPERTIES:
            now, times = PROPERTIES[change.name]
            gpu = times(gpu, change.factor(now(gpu)))
    return gpu


@frozen(kw_only=True, eq=False)
class ChangedCosts(Costs):
    """Cost functions of a SKU with other hardware; see the module.

    Attributes:
        before: Of the SKU as it is.
        fitted: Its shares over its own datasheet.
        changed: The same shares over the changed datasheet.
    """

    before: Costs
    fitted: Costs
    changed: Costs

    def predict(self, operators: Sequence[Operator], *, cache: str = "cold") -> Prediction:
        """What is measured or fitted, times the ratio of the bounds (eq. 22)."""
        was = self.before.predict(operators, cache=cache)
        ratio = np.log(
            self.changed.predict(operators, cache=cache).seconds
            / self.fitted.predict(operators, cache=cache).seconds
        )
        extra = CHANGE_HALF_WIDTH * np.abs(ratio)
        seconds = was.seconds * np.exp(ratio)
        below = np.hypot(np.log(was.seconds / was.low), extra)
        above = np.hypot(np.log(was.high / was.seconds), extra)
        touched = np.abs(ratio) > UNTOUCHED
        origin = np.where(touched, np.maximum(was.origin, Origin.EXTRAPOLATED.value), was.origin)
        return Prediction(seconds, seconds * np.exp(-below), seconds * np.exp(above), origin)

    def measured_groups(self, collectives: Sequence[Collective]) -> NDArray[np.bool_]:
        """Whether such a group was measured, on the links as they are."""
        return self.before.measured_groups(collectives)


def costs_with(sku: str, gpu: Gpu) -> ChangedCosts:
    """Cost functions of a SKU as if its datasheet were ``gpu``.

    A faster part does its work at the same watts; another cap lets it run slower or faster.

    Raises:
        UnknownName: No such SKU.
        FitError: No SKU is fitted.
    """
    before = load_costs(sku)
    heat = before.heat
    if gpu.power_watts != before.gpu.power_watts:
        cap = heat.cap_watts * gpu.power_watts / before.gpu.power_watts
        heat = heat.scaled_to(cap, same_chip=True)
    return ChangedCosts(
        gpu=gpu,
        surfaces=before.surfaces,
        measured=before.measured,
        host=before.host,
        heat=heat,
        devices=before.devices,
        borrowed=before.borrowed,
        reference=before.reference,
        before=before,
        fitted=changed_costs(replace(before.gpu, sku=f"{sku} fitted"), sku),
        changed=changed_costs(replace(gpu, sku=f"{sku} changed"), sku),
    )
