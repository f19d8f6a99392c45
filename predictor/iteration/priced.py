"""Segments with seconds: every launch of a step priced by the cost functions of a SKU."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from predictor.costs import Costs, Prediction
from predictor.costs.ladder import operator_key
from predictor.costs.power import TENSOR_FAMILIES, Heat
from predictor.costs.prediction import Floats, Ints
from predictor.iteration.collectives import CollectiveCosts
from predictor.iteration.hosts import host_queue
from predictor.iteration.interference import interfered
from predictor.iteration.launches import (
    COMMUNICATION,
    FAMILIES,
    Launch,
    Segment,
    family_of,
)
from predictor.iteration.layout import Layout, Queue
from predictor.operators import Collective, Host, Operator
from predictor.values import frozen

GAP: Final = Host(stack="torch", phase="forward", quantity="gap")
TENSOR: Final = np.array([family in TENSOR_FAMILIES for family in FAMILIES])
REMOTE: Final = FAMILIES.index(COMMUNICATION)


@frozen(eq=False)
class Sheet:
    """Every launch of some segments in columns.

    Attributes:
        queue: The segments, in the order of their launches here, and what they cost the host.
        operators: Every distinct operator.
        operator: Place of each launch's operator among them.
        seconds: Seconds of each launch, alone.
        half: Half-width of its 90 % interval, seconds.
        origin: Where the number comes from.
        family: Place of its family in ``FAMILIES``.
        bandwidth: Share of the datasheet's bandwidth that it reaches.
    """

    queue: Queue
    operators: tuple[Operator, ...]
    operator: Ints
    seconds: Floats
    half: Floats
    origin: Ints
    family: Ints
    bandwidth: Floats

    @property
    def layout(self) -> Layout:
        """The segments, in the order of their launches here."""
        return self.queue.layout

    def settled(self, heat: Heat, clock_hz: float) -> "Sheet":
        """The sheet at the clock that the step settles at as a whole."""
        scale = np.where(
            TENSOR[self.family],
            heat.tensor_factor(clock_hz),
            heat.stream_factor(self.bandwidth, clock_hz),
        )
        scale[self.family == REMOTE] = 1.0
        return replace(self, seconds=self.seconds * scale, half=self.half * scale)

    def slowed(self, factor: float) -> "Sheet":
        """The sheet of a GPU on which work that the clock bounds takes so much longer."""
        return replace(self, seconds=self._slowed(factor))

    def _slowed(self, factor: float) -> Floats:
        return np.asarray(self.seconds * np.where(TENSOR[self.family], factor, 1.0))

    @property
    def communicates(self) -> bool:
        """Whether there is any collective."""
        return bool((self.family == REMOTE).any())

    def matrices(self, gap_seconds: float, *, silent: bool, slowest: float = 1.0) -> Floats:
        """Matrices of every segment, by segment, scenario, row and column.

        Scenarios are the slowest GPU and, if ``silent``, a typical one that waits for none.
        """
        scenarios = [self._slowed(slowest)]
        if silent:
            scenarios.append(np.where(self.family == REMOTE, 0.0, self.seconds))
        return self.queue.matrices(np.array(scenarios), gap_seconds)


def price(segments: Sequence[Segment], costs: Costs, collectives: CollectiveCosts) -> Sheet:
    """Price every launch of some segments, each distinct operator once."""
    each = [segment.launches for segment in segments]
    launches = [launch for mine in each for launch in mine]
    operators, index = _distinct(launches)
    table = _PriceTable(operators, costs, collectives)
    moved = np.array([operator.bytes for operator in operators], dtype=float)[index]
    seconds, half = table.blend(launches, index, moved)
    counts = [len(mine) for mine in each]
    family = [FAMILIES.index(family_of(operator)) for operator in operators]
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    layout = Layout({segment: place for place, segment in enumerate(segments)}, first)
    sheet = Sheet(
        queue=host_queue(layout, costs),
        operators=operators,
        operator=index,
        seconds=seconds,
        half=half,
        origin=table.origin[index],
        family=np.array(family, np.int64)[index],
        bandwidth=moved / costs.gpu.memory_bytes_per_second / seconds,
    )
    slowed = interfered(segments, first, seconds, clusters=costs.gpu.runs_clusters)
    return replace(sheet, seconds=slowed)


def _distinct(launches: Sequence[Launch]) -> tuple[tuple[Operator, ...], Ints]:
    """The distinct operators of some launches, and the place of each launch's own."""
    places: dict[tuple[str, Any], int] = {}
    seen: dict[int, int] = {}  # one object is often launched again
    operators: list[Operator] = []
    index = []
    for launch in launches:
        operator = launch.operator
        place = seen.get(id(operator))
        if place is None:
            key = (operator.name, operator_key(operator))
            place = seen[id(operator)] = places.setdefault(key, len(operators))
            if place == len(operators):
                operators.append(operator)
        index.append(place)
    return tuple(operators), np.array(index, dtype=np.int64)


class _PriceTable:
    """Cold and warm predictions of the distinct operators of a step."""

    def __init__(
        self, operators: Sequence[Operator], costs: Costs, collectives: CollectiveCosts
    ) -> None:
        local, remote = [], []
        for place, operator in enumerate(operators):
            if isinstance(operator, Collective):
                remote.append((place, operator))
            else:
                local.append((place, operator))
        self.origin = np.zeros(len(operators), dtype=np.int64)
        self._cold, self._half = np.zeros(len(operators)), np.zeros(len(operators))
        self._enter([place for place, _ in local], costs.predict([op for _, op in local]))
        if remote:
            self._enter([place for place, _ in remote], collectives([op for _, op in remote]))
        self._warm = np.copy(self._cold)
        streams = [(place, op) for place, op in local if op.name == "memory_bound"]
        if streams:
            warm = costs.predict([operator for _, operator in streams], cache="warm")
            places = [place for place, _ in streams]
            self._warm[places] = np.minimum(warm.seconds, self._cold[places])
        self._l2_bytes = float(costs.gpu.l2_bytes or 0.0)

    def _enter(self, places: list[int], cold: Prediction) -> None:
        self._cold[places], self.origin[places] = cold.seconds, cold.origin
        self._half[places] = (cold.high - cold.low) / 2

    def blend(
        self, launches: Sequence[Launch], index: Ints, moved: Floats
    ) -> tuple[Floats, Floats]:
        """Seconds, and their half-width, by what is still in L2.

        All of it at no distance, none beyond its size.

        Of an operator that moves more than L2 holds, what was written first has gone already: the
        share that fits is taken.
        """
        distance = np.array([launch.bytes_since_production for launch in launches], dtype=float)
        l2_bytes = max(self._l2_bytes, 1.0)
        resident = np.clip(1.0 - distance / l2_bytes, 0.0, 1.0)
        resident *= np.minimum(1.0, l2_bytes / np.maximum(moved, 1.0))
        cold, warm = self._cold[index], self._warm[index]
        seconds = cold + resident * (warm - cold)
        return seconds, self._half[index] * seconds / cold
