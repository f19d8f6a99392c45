"""All cost functions of one SKU: from operators to seconds, an interval and an origin.

Predicting is a few array operations on what :mod:`predictor.costs.loading` read. What was borrowed
from another SKU is marked ``datasheet`` and its interval is wider; what a SKU's tables lack,
families or passes, is ``transferred`` (:mod:`predictor.costs.transfer`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from operator import attrgetter
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from predictor.case import Gpu
from predictor.costs.block_scales import BLOCK_SCALED, block_scaled_products
from predictor.costs.composed import COMPOSED, composed, four_bit_products
from predictor.costs.devices import Differences
from predictor.costs.fabric import Fabric
from predictor.costs.families import COLLECTIVES, FAMILIES
from predictor.costs.ladder import Classes
from predictor.costs.own import OwnTables
from predictor.costs.power import Heat
from predictor.costs.prediction import Origin, Prediction, PredictionRow
from predictor.costs.products import product_design
from predictor.costs.surface import Surface
from predictor.costs.transfer import (
    TRANSFERRED_FAMILIES,
    Correction,
    forward_sizes,
    transferred,
    twin,
    without_twin,
)
from predictor.costs.two_rates import STREAMING_FAMILIES, between, told
from predictor.operators import (
    OPERATORS,
    Collective,
    Gemm,
    GroupedGemm,
    Host,
    Operator,
    field_names,
)
from predictor.values import frozen

COLUMN_CHUNK: Final = 65536
"""Products answered at once: fewer are mostly calls, more leave the cache."""
MEMORY: Final = 100_000

_DERIVED: Final = {"fp4": (Gemm.name,), BLOCK_SCALED: (Gemm.name, GroupedGemm.name)}
"""Families whose products of a number format are told by those of another."""

AnyOperator = TypeVar("AnyOperator", bound=Operator)


_KEYS: Final = {name: attrgetter(*field_names(name)) for name in OPERATORS}


def operator_key(operator: Operator) -> tuple[Any, ...]:
    """An operator's fields, in order."""
    key: tuple[Any, ...] = _KEYS[operator.name](operator)
    return key


@frozen(kw_only=True, eq=False)
class Costs:
    """Cost functions of one SKU.

    Attributes:
        gpu: Its datasheet.
        surfaces: By family and cache state (``gemm/cold``).
        measured: Exactly measured shapes of each of them: seconds, low, high.
        host: Measured host seconds by fields.
        heat: Power and clock.
        devices: What devices of the SKU differ by.
        borrowed: The fit belongs to another SKU.
        reference: Borrowed cost functions for what this SKU's tables lack.
        pair: Two SKUs whose streaming kernels tell this one's.
    """

    gpu: Gpu
    surfaces: Mapping[str, Surface]
    measured: Mapping[str, Classes]
    host: Mapping[Host, float]
    heat: Heat
    devices: Differences
    borrowed: bool = False
    reference: "Costs | None" = None
    pair: "tuple[Costs, Costs] | None" = None
    _own: OwnTables = field(init=False)
    _known: Mapping[str, dict[Operator, PredictionRow]] = field(init=False)

    def __post_init__(self) -> None:
        """Start with nothing predicted."""
        own = OwnTables(
            gpu=self.gpu,
            surfaces=self.surfaces,
            measured=self.measured,
            devices=self.devices,
            borrowed=self.borrowed,
        )
        object.__setattr__(self, "_own", own)
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
            known.update(
                zip(chosen, self._own_or_transferred(family, chosen, cache).rows(), strict=True)
            )
        return Prediction.from_rows([known[operator] for operator in operators])

    def predict_products(self, **columns: Any) -> Prediction:  # noqa: ANN401 - one or many
        """Seconds of many matrix products at once, without an object each.

        Args:
            columns: Fields of :class:`~predictor.operators.Gemm`; ``m``, ``n`` and ``k`` (and
                ``dtype`` and ``kind``) may be arrays of one length, any other field is one value
                for all or absent.

        Raises:
            FitError: The SKU has no cost function for products.
        """
        if self.reference is not None and "gemm/cold" not in self.surfaces:
            borrowed = self.reference.predict_products(**columns)
            nothing = np.zeros(len(borrowed.seconds))
            return transferred(borrowed, Correction(nothing, nothing > 0), self._foreign)
        surface = self._own.surface("gemm/cold")
        lengths = [np.size(value) for value in columns.values()]
        parts = []
        for begin in range(0, max(lengths), COLUMN_CHUNK):
            part = {
                name: value if np.ndim(value) == 0 else value[begin : begin + COLUMN_CHUNK]
                for name, value in columns.items()
            }
            parts.append(self._products(surface, part))
        joined = zip(*((p.seconds, p.low, p.high, p.origin) for p in parts), strict=True)
        seconds, low, high, origin = (np.concatenate(each) for each in joined)
        return Prediction(seconds, low, high, origin)

    def _products(self, surface: Surface, columns: Mapping[str, Any]) -> Prediction:
        design = product_design(columns, self._own.chip)
        if self.reference is not None and not surface.knows(design).all():
            return self._transferred_products(surface, columns, surface.knows(design))
        return self._own.products(columns, design)

    def _transferred_products(
        self, surface: Surface, columns: Mapping[str, Any], known: NDArray[np.bool_]
    ) -> Prediction:
        """Products of which some were never measured here: each of its own, or by its twin."""
        assert self.reference is not None  # noqa: S101 - asked by the only caller
        sizes = forward_sizes(*(columns.get(name, "forward") for name in ("kind", "m", "n", "k")))
        twins = dict(zip(("m", "n", "k"), sizes, strict=True)) | {
            "dtype": columns.get("dtype", "bf16")
        }
        twin_design = product_design(twins, self._own.chip)
        by_twin = np.broadcast_to(surface.knows(twin_design), known.shape)
        own = np.log(self._own.products(twins, twin_design).seconds)
        other = np.log(self.reference.predict_products(**twins).seconds)
        factor = np.where(by_twin, np.broadcast_to(own - other, known.shape), 0.0)
        borrowed = self.reference.predict_products(**columns)
        result = transferred(borrowed, Correction(factor, by_twin), self._foreign)
        if not known.any():
            return result
        chosen = {
            name: value if np.ndim(value) == 0 else value[known] for name, value in columns.items()
        }
        mine = self._products(surface, chosen)
        for name in ("seconds", "low", "high", "origin"):
            getattr(result, name)[known] = getattr(mine, name)
        return result

    @property
    def _foreign(self) -> Origin:
        """Origin of what another SKU's tables say."""
        return Origin.DATASHEET if self.borrowed else Origin.TRANSFERRED

    def measured_groups(self, collectives: Sequence[Collective]) -> NDArray[np.bool_]:
        """Whether this SKU's tables have a curve of each collective's group of ranks."""
        found = np.zeros(len(collectives), dtype=bool)
        if not self.borrowed:
            names = np.array([each.name for each in collectives])
            for name in set(names.tolist()):
                places = np.flatnonzero(names == name).tolist()
                found[places] = self._own.knows(name, [collectives[at] for at in places], "cold")
        return found

    def groups_of(self, operators: Sequence[Operator]) -> set[int]:
        """Groups of operators of one family; what is alike shares one."""
        return self._own.groups_of(operators)

    def _own_or_transferred(
        self, family: str, operators: Sequence[Operator], cache: str
    ) -> Prediction:
        """What was measured here from here, the rest from other SKUs."""
        for dtype, answer in (("fp4", self._four_bit), (BLOCK_SCALED, self._block_scaled)):
            if family not in _DERIVED[dtype]:
                continue
            derived = np.array([getattr(each, "dtype", "") == dtype for each in operators])
            if derived.any():

                def others(chosen: Sequence[Operator]) -> Prediction:
                    return self._own_or_transferred(family, chosen, cache)

                return self.merge(operators, derived, answer, others)
        if self.pair is not None and family in STREAMING_FAMILIES:
            pair = self.pair

            def streamed(chosen: Sequence[Operator]) -> Prediction:
                return self._streamed(pair, chosen, cache)

            def alone(chosen: Sequence[Operator]) -> Prediction:
                return self._unpaired(family, chosen, cache)

            chosen = told(self.gpu, pair[0].gpu, pair[1].gpu, operators)
            return self.merge(operators, chosen, streamed, alone)
        return self._unpaired(family, operators, cache)

    def _unpaired(self, family: str, operators: Sequence[Operator], cache: str) -> Prediction:
        """What was measured here from here, the rest from another SKU's share of its rates."""
        if self.reference is None or family not in TRANSFERRED_FAMILIES:
            return self._family(family, operators, cache)

        def own(chosen: Sequence[Operator]) -> Prediction:
            return self._family(family, chosen, cache)

        def other(chosen: Sequence[Operator]) -> Prediction:
            assert self.reference is not None  # noqa: S101 - returned above
            borrowed = self.reference.predict(chosen, cache=cache)
            return transferred(borrowed, self._correction(chosen, cache), self._foreign)

        return self.merge(operators, self._own.knows(family, operators, cache), own, other)

    def _four_bit(self, products: Sequence[Operator]) -> Prediction:
        return four_bit_products(products, self.gpu, self.predict)

    def _block_scaled(self, products: Sequence[Operator]) -> Prediction:
        return block_scaled_products(products, self.gpu, self.predict, self._foreign)

    def _streamed(
        self, pair: "tuple[Costs, Costs]", operators: Sequence[Operator], cache: str
    ) -> Prediction:
        """Eq. 24 from two measured SKUs, at the clocks that they were measured at."""
        one, other = (
            (
                replace(each.gpu, boost_clock_hz=each.heat.max_clock_hz),
                each.predict(operators, cache=cache),
            )
            for each in pair
        )
        found = between(self.gpu, one, other)
        return without_twin(found.seconds, found, self._foreign)

    def _family(self, family: str, operators: Sequence[Operator], cache: str) -> Prediction:
        key = self._own.nearest_state(family, cache)
        if family in COLLECTIVES and (self.borrowed or key not in self.surfaces):
            return self._fabric(operators)
        if family not in FAMILIES:
            return self._own.looked_up(family, operators)
        if family in COMPOSED and key not in self.surfaces:
            return composed(operators, lambda parts: self.predict(parts, cache=cache))
        surface = self._own.surface(key)
        design = FAMILIES[family].design(operators, self._own.chip, key.partition("/")[2])
        known = surface.knows(design)
        if family in COLLECTIVES and not known.all():
            return self.merge(operators, known, self._family_known, self._fabric)
        if cache == "warm" and not known.all():
            return self.merge(operators, known, self._warm, self._cold)
        return self._own.answer(key, operators, design)

    def merge(
        self,
        operators: Sequence[AnyOperator],
        first: NDArray[np.bool_],
        one: Callable[[Sequence[AnyOperator]], Prediction],
        other: Callable[[Sequence[AnyOperator]], Prediction],
    ) -> Prediction:
        """Answers of ``one`` where ``first`` and of ``other`` elsewhere, in order."""
        rows: list[PredictionRow] = [(0.0, 0.0, 0.0, 0)] * len(operators)
        for answer, wanted in ((one, first), (other, ~first)):
            places = np.flatnonzero(wanted).tolist()
            if places:
                answered = answer([operators[place] for place in places]).rows()
                for place, row in zip(places, answered, strict=True):
                    rows[place] = row
        return Prediction.from_rows(rows)

    def _warm(self, operators: Sequence[Operator]) -> Prediction:
        return self.predict(operators, cache="warm")

    def _cold(self, operators: Sequence[Operator]) -> Prediction:
        """Kernels that were only measured cold are as slow when warm."""
        return self.predict(operators, cache="cold")

    def _family_known(self, operators: Sequence[Operator]) -> Prediction:
        return self._family(operators[0].name, operators, "cold")

    def _fabric(self, operators: Sequence[Operator]) -> Prediction:
        """Collectives over groups that nobody measured here: links of the GPU's usual machine."""
        return Fabric.usual(self.gpu).predict(
            [op for op in operators if isinstance(op, Collective)]
        )

    def _correction(self, operators: Sequence[Operator], cache: str) -> Correction:
        """What this SKU's own measurements say of the operators' twins."""
        assert self.reference is not None  # noqa: S101 - asked by the only caller
        factor, by_twin = np.zeros(len(operators)), np.zeros(len(operators), dtype=bool)
        twins = {at: found for at, op in enumerate(operators) if (found := twin(op)) is not None}
        known = self._own.knows(operators[0].name, list(twins.values()), cache) if twins else ()
        at = [place for place, take in zip(twins, known, strict=True) if take]
        if at:
            chosen = [twins[place] for place in at]
            own = self.predict(chosen, cache=cache).seconds
            factor[at] = np.log(own / self.reference.predict(chosen, cache=cache).seconds)
            by_twin[at] = True
        return Correction(factor, by_twin)

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
