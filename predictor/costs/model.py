"""All cost functions of one SKU: from ``fit.json`` to seconds, without statsmodels.

``fit.json`` holds plain numbers (:mod:`predictor.costs.fitting` writes it), so loading a SKU is one
JSON file and predicting is a few array operations. A SKU without a fit of its own borrows the
coefficients of a measured one over its own datasheet's bounds; everything is then marked
``datasheet`` and the interval is wider.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from predictor.case import Gpu, bench_results_folder, load_gpu
from predictor.costs.bounds import (
    Chip,
    Design,
    attention_design,
    gemm_design,
    optimizer_design,
    stream_design,
)
from predictor.costs.power import Heat
from predictor.costs.prediction import Origin, Prediction, PredictionRow
from predictor.costs.surface import Surface
from predictor.errors import FitError
from predictor.operators import OPERATORS, Host, Operator, field_names

FIT_FILE: Final = "fit.json"
FIT_FORMAT: Final = 1
DESIGNS: Final = {
    "gemm": gemm_design,
    "attention": attention_design,
    "memory_bound": stream_design,
    "optimizer": optimizer_design,
}
REFERENCE_SKU: Final = "h100-sxm5-80gb"
EXTRAPOLATED_WIDENING: Final = 2.0
DATASHEET_WIDENING: Final = 3.0
REPEAT_HALF_WIDTH: Final = 0.015
"""A measured shape on another day or device of the SKU: published repeats differ by 1–2 %."""

MEMORY: Final = 100_000

Measured = dict[tuple[Any, ...], tuple[float, float, float]]


def chip_of(gpu: Gpu) -> Chip:
    """The rates of a datasheet that bounds are made of."""
    return Chip(
        flops_per_second=gpu.peak_flops_per_second,
        bytes_per_second=gpu.memory_bytes_per_second,
        l2_bytes=float(gpu.l2_bytes or 50e6),
        sm_count=gpu.sm_count or 132,
    )


_KEYS: Final = {name: attrgetter(*field_names(name)) for name in OPERATORS}


def operator_key(operator: Operator) -> tuple[Any, ...]:
    """An operator's fields, in order."""
    key: tuple[Any, ...] = _KEYS[operator.name](operator)
    return key


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Costs:
    """Cost functions of one SKU.

    Attributes:
        gpu: Its datasheet.
        surfaces: By family and cache state (``gemm/cold``).
        measured: Exactly measured shapes of each of them: seconds, low, high.
        host: Measured host seconds by fields.
        heat: Power and clock.
        borrowed: The fit belongs to another SKU.
    """

    gpu: Gpu
    surfaces: Mapping[str, Surface]
    measured: Mapping[str, Measured]
    host: Mapping[Host, float]
    heat: Heat
    borrowed: bool = False
    _chip: Chip = field(init=False)
    _known: Mapping[str, dict[Operator, PredictionRow]] = field(init=False)

    def __post_init__(self) -> None:
        """Derive the bounds' rates once; start with nothing predicted."""
        object.__setattr__(self, "_chip", chip_of(self.gpu))
        object.__setattr__(self, "_known", {"cold": {}, "warm": {}})

    def predict(self, operators: Sequence[Operator], *, cache: str = "cold") -> Prediction:
        """Seconds of each operator on an idle, cool device.

        Args:
            operators: GPU operators of any families, in any order.
            cache: ``cold`` (operands come from memory) or ``warm`` (just touched).

        Raises:
            FitError: The SKU has no cost function for a family.
        """
        known = self._known[cache]
        families: dict[str, list[Operator]] = {}
        for operator in operators:
            if operator not in known:
                families.setdefault(operator.name, []).append(operator)
        if len(known) > MEMORY:
            known.clear()
            return self.predict(operators, cache=cache)
        for family, chosen in families.items():
            known.update(zip(chosen, self._family(family, chosen, cache).rows(), strict=True))
        return Prediction.from_rows([known[operator] for operator in operators])

    def _family(self, family: str, operators: Sequence[Operator], cache: str) -> Prediction:
        key = f"{family}/{cache}"
        if key not in self.surfaces:
            key = f"{family}/cold"
        if key not in self.surfaces:
            msg = (
                f"{self.gpu.sku} has no cost function for {family!r}; "
                f"measure it with `bench-run --operators {family}`, then `predictor fit`"
            )
            raise FitError(msg)
        surface = self.surfaces[key]
        design = DESIGNS[family](operators, self._chip, key.partition("/")[2])
        if cache == "warm" and not surface.knows(design).all():
            return self._partly_warm(operators, surface.knows(design))
        seconds, half = self._evaluate(surface, design)
        origin = np.where(surface.inside(design), Origin.FITTED, Origin.EXTRAPOLATED)
        half = np.where(origin == Origin.EXTRAPOLATED, half * EXTRAPOLATED_WIDENING, half)
        low, high = seconds * np.exp(-half), seconds * np.exp(half)
        if self.borrowed:
            low, high = low * np.exp(-DATASHEET_WIDENING * half), high * np.exp(2 * half)
            return Prediction(seconds, low, high, np.full(len(seconds), Origin.DATASHEET.value))
        result = Prediction(seconds, low, high, origin.astype(np.int64))
        return self._exact(self.measured.get(key, {}), operators, result)

    def _partly_warm(self, operators: Sequence[Operator], known: NDArray[np.bool_]) -> Prediction:
        """Kernels that were only measured cold are as slow when warm."""
        rows: dict[Operator, PredictionRow] = {}
        for state, wanted in (("warm", known), ("cold", ~known)):
            chosen = [op for op, take in zip(operators, wanted, strict=True) if take]
            rows.update(zip(chosen, self.predict(chosen, cache=state).rows(), strict=True))
        return Prediction.from_rows([rows[operator] for operator in operators])

    def _evaluate(self, surface: Surface, design: Design) -> tuple[Any, Any]:
        ratio, half = surface.log_ratio(design)
        return design.bound * np.exp(np.clip(ratio, -4.0, 6.0)), half

    def _exact(
        self, measured: Measured, operators: Sequence[Operator], result: Prediction
    ) -> Prediction:
        """Replace predictions of exactly measured shapes by the measurement."""
        for index, operator in enumerate(operators):
            point = measured.get(operator_key(operator))
            if point is not None:
                seconds, low, high = point
                result.seconds[index] = seconds
                result.low[index] = min(low, seconds * (1.0 - REPEAT_HALF_WIDTH))
                result.high[index] = max(high, seconds * (1.0 + REPEAT_HALF_WIDTH))
                result.origin[index] = Origin.MEASURED
        return result

    def host_seconds(self, activity: Host) -> float:
        """Seconds of a host activity; an unmeasured block costs what the measured ones average."""
        if activity in self.host:
            return self.host[activity]
        alike = [
            seconds
            for known, seconds in self.host.items()
            if (known.phase, known.quantity) == (activity.phase, activity.quantity)
            and activity.stack in {known.stack, "torch"}
        ]
        return float(np.mean(alike)) if alike else 0.0


def _operator(family: type[Operator], values: Sequence[Any]) -> Operator:
    """An operator from its fields in order; those that are newer than the fit take the default."""
    return family(**dict(zip(field_names(family.name), values, strict=False)))


def load_costs(sku: str) -> Costs:
    """Read the cost functions of a SKU.

    Raises:
        UnknownName: No such SKU.
        FitError: ``fit.json`` is damaged, or neither the SKU nor the reference has one.
    """
    return _load(bench_results_folder(), sku)


@cache
def _load(folder: Path, sku: str) -> Costs:
    gpu = load_gpu(sku)
    path = folder / sku / FIT_FILE
    borrowed = not path.is_file()
    if borrowed:
        path = folder / REFERENCE_SKU / FIT_FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["format"] != FIT_FORMAT:
            msg = f"{path}: format {raw['format']} is not {FIT_FORMAT}; run `predictor fit {sku}`"
            raise FitError(msg)
        return _parse(gpu, raw, borrowed=borrowed)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        msg = f"{path}: cannot be read as a fit ({error!r}); run `predictor fit {sku}`"
        raise FitError(msg) from error


def _parse(gpu: Gpu, raw: Mapping[str, Any], *, borrowed: bool) -> Costs:
    measured: dict[str, Measured] = {}
    for key, rows in raw["measured"].items():
        family = OPERATORS[key.partition("/")[0]]
        measured[key] = {
            operator_key(_operator(family, row[:-3])): (row[-3], row[-2], row[-1]) for row in rows
        }
    heat = Heat.from_dict(raw["heat"])
    host = {
        Host(stack=row[0], block=row[1], phase=row[2], quantity=row[3]): float(row[4])
        for row in raw["host"]
    }
    return Costs(
        gpu=gpu,
        surfaces={key: Surface.from_dict(entry["surface"]) for key, entry in raw["fits"].items()},
        measured=measured,
        host=host,
        heat=heat.scaled_to(gpu.power_watts) if borrowed else heat,
        borrowed=borrowed,
    )
