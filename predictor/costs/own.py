"""What one SKU's own tables say: measured shapes, what is fitted between them, and how sure it is.

Everything here is a few array operations on what :mod:`predictor.costs.loading` read. Where the
tables are another SKU's, answers are marked ``datasheet`` and nothing counts as measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from predictor.case import Gpu
from predictor.costs.design import Chip, Design, chip_of
from predictor.costs.devices import UNMEASURED, Differences
from predictor.costs.families import FAMILIES
from predictor.costs.ladder import Classes, Ladder, measured_point, option_names
from predictor.costs.prediction import Floats, Ints, Origin, Prediction, PredictionRow
from predictor.costs.surface import Surface
from predictor.costs.transfer import ALONE_HALF_WIDTH
from predictor.errors import FitError
from predictor.operators import OPERATORS, Collective, Operator
from predictor.values import frozen

EXTRAPOLATED_WIDENING: Final = 2.0
TINY_SECONDS: Final = 1e-9
LOG_RATIOS: Final = (-4.0, 9.0)
"""Least and most of log seconds over the bound; a kernel on one SM of all takes 900 times it."""


@frozen(kw_only=True, eq=False)
class OwnTables:
    """Fits and measured points of one SKU.

    Attributes:
        gpu: The datasheet that bounds are made of.
        surfaces: By family and cache state (``gemm/cold``).
        measured: Exactly measured shapes of each of them: seconds, low, high.
        devices: What devices of the SKU differ by.
        borrowed: They belong to another SKU than ``gpu``.
        chip: Rates of the datasheet.
    """

    gpu: Gpu
    surfaces: Mapping[str, Surface]
    measured: Mapping[str, Classes]
    devices: Differences
    borrowed: bool
    chip: Chip = field(init=False)
    _ladders: dict[str, Ladder] = field(init=False)

    def __post_init__(self) -> None:
        """Derive the bounds' rates once."""
        object.__setattr__(self, "chip", chip_of(self.gpu))
        object.__setattr__(self, "_ladders", {})

    def answer(self, key: str, operators: Sequence[Operator], design: Design) -> Prediction:
        """Seconds of operators of a family and cache state that has a surface."""
        surface = self.surface(key)
        log_seconds, half = self._evaluate(surface, design)
        if self.borrowed:
            return self._interval(surface, design, log_seconds, half)
        log_seconds = self._ladder(key).clip_operators(operators, log_seconds)
        result = self._interval(surface, design, log_seconds, half)
        return self._exact(key, operators, result)

    def products(self, columns: Mapping[str, Any], design: Design) -> Prediction:
        """Seconds of matrix products by columns, none looked up."""
        surface = self.surface("gemm/cold")
        log_seconds, half = self._evaluate(surface, design)
        log_seconds = self._clip_columns(columns, log_seconds)
        return self._interval(surface, design, log_seconds, half)

    def _clip_columns(self, columns: Mapping[str, Any], log_seconds: Floats) -> Floats:
        """Bracket products between measured ones, number format and pass by themselves."""
        if self.borrowed:
            return log_seconds
        sizes = np.stack(
            [np.broadcast_to(columns[name], log_seconds.shape) for name in ("m", "n", "k")], axis=1
        ).astype(float)
        defaults = {each.name: each.default for each in fields(OPERATORS["gemm"])}
        values = {name: columns.get(name, defaults[name]) for name in option_names("gemm")}
        arrays = {name: value for name, value in values.items() if np.ndim(value)}
        ladder = self._ladder("gemm/cold")
        if not arrays:
            return ladder.clip(tuple(values.values()), sizes, log_seconds)
        result = log_seconds.copy()
        for combination in set(zip(*(array.tolist() for array in arrays.values()), strict=True)):
            chosen = np.ones(len(sizes), dtype=bool)
            for array, value in zip(arrays.values(), combination, strict=True):
                chosen &= array == value
            options = values | dict(zip(arrays, combination, strict=True))
            result[chosen] = ladder.clip(
                tuple(options.values()), sizes[chosen], log_seconds[chosen]
            )
        return result

    def nearest_state(self, family: str, cache: str) -> str:
        """Key of a cache state that was measured: the asked one, else the other."""
        wanted = f"{family}/{cache}"
        other = f"{family}/{'cold' if cache == 'warm' else 'warm'}"
        return other if wanted not in self.surfaces and other in self.surfaces else wanted

    def _ladder(self, key: str) -> Ladder:
        if key not in self._ladders:
            family = key.partition("/")[0]
            self._ladders[key] = Ladder(family, self.measured.get(key, {}))
        return self._ladders[key]

    def surface(self, key: str) -> Surface:
        """The surface of a family in a cache state.

        Raises:
            FitError: There is none.
        """
        if key not in self.surfaces:
            family = key.partition("/")[0]
            raise FitError(
                f"{self.gpu.sku} has no cost function for {family!r}; "
                f"measure it with `bench-run --operators {family}`, then `predictor fit`"
            )
        return self.surfaces[key]

    def knows(self, family: str, operators: Sequence[Operator], cache: str) -> NDArray[np.bool_]:
        """Whether something like each operator was measured here."""
        key = self.nearest_state(family, cache)
        if key not in self.surfaces:
            return np.zeros(len(operators), dtype=bool)
        design = FAMILIES[family].design(operators, self.chip, key.partition("/")[2])
        return self.surfaces[key].knows(design)

    def measured_groups(self, collectives: Sequence[Collective]) -> NDArray[np.bool_]:
        """Whether the tables have a curve of each collective's group of ranks."""
        found = np.zeros(len(collectives), dtype=bool)
        if not self.borrowed:
            names = np.array([each.name for each in collectives])
            for name in set(names.tolist()):
                places = np.flatnonzero(names == name).tolist()
                found[places] = self.knows(name, [collectives[at] for at in places], "cold")
        return found

    def groups_of(self, operators: Sequence[Operator]) -> set[int]:
        """Groups of operators of one family; what is alike shares one."""
        design = FAMILIES[operators[0].name].design(operators, self.chip, "cold")
        return set(design.group.tolist())

    def _interval(
        self, surface: Surface, design: Design, log_seconds: Floats, half: Floats
    ) -> Prediction:
        """Seconds with the interval and the origin that the distance from the tables allows."""
        outside = ~surface.inside(design)
        half = np.where(outside, half * EXTRAPOLATED_WIDENING, half)
        origin: Ints = np.where(outside, Origin.EXTRAPOLATED.value, Origin.FITTED.value)
        if self.borrowed:
            half = np.hypot(half, ALONE_HALF_WIDTH)
            origin = np.full(len(half), Origin.DATASHEET.value)
        seconds = np.exp(log_seconds)
        return Prediction(seconds, seconds * np.exp(-half), seconds * np.exp(half), origin)

    def looked_up(self, family: str, operators: Sequence[Operator]) -> Prediction:
        """Operators that are answered only where they were measured.

        Raises:
            FitError: One was not.
        """
        classes = {} if self.borrowed else self.measured.get(f"{family}/cold", {})
        rows: list[PredictionRow] = []
        for operator in operators:
            point = measured_point(classes, operator)
            if point is None:
                points = sum(len(each) for each in classes.values())
                raise FitError(
                    f"{self.gpu.sku} has {points} measured points of {family!r}, and none is "
                    f"{operator}; measure it with `bench-run --operators {family}`"
                )
            rows.append((*point, Origin.MEASURED.value))
        return Prediction.from_rows(rows)

    def _evaluate(self, surface: Surface, design: Design) -> tuple[Floats, Floats]:
        """Logarithm of seconds, not below the memory that holds the data, and half-width."""
        ratio, half = surface.log_ratio(design)
        least = np.log(np.maximum(design.floor, TINY_SECONDS))
        return np.maximum(np.log(design.bound) + np.clip(ratio, *LOG_RATIOS), least), half

    def _exact(self, key: str, operators: Sequence[Operator], result: Prediction) -> Prediction:
        """Mark exactly measured shapes; their interval holds the measurement and its rounds."""
        measured = self.measured.get(key, {})
        repeat = self.devices.get(key.partition("/")[0], UNMEASURED).repeat
        for index, operator in enumerate(operators):
            point = measured_point(measured, operator)
            if point is not None:
                _, low, high = point
                seconds = result.seconds[index]
                result.low[index] = min(low, seconds * (1.0 - repeat))
                result.high[index] = max(high, seconds * (1.0 + repeat))
                result.origin[index] = Origin.MEASURED
        return result
