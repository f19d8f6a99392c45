"""Segments with seconds: every launch of a step priced by the cost functions of a SKU."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from predictor.costs import Costs, Prediction
from predictor.costs.power import TENSOR_FAMILIES, Heat
from predictor.costs.prediction import Floats, Ints
from predictor.iteration.launches import FAMILIES, Launch, Segment
from predictor.iteration.step import Step
from predictor.operators import Host, Operator

BARE_LAUNCH: Final = Host(stack="torch", phase="forward", quantity="launch")
GAP: Final = Host(stack="torch", phase="forward", quantity="gap")
TENSOR: Final = np.array([family in TENSOR_FAMILIES for family in FAMILIES])


@dataclass(frozen=True, slots=True)
class Priced:
    """One segment with the seconds of its launches.

    Attributes:
        segment: What runs.
        seconds: Seconds of each launch of one repetition.
        half: Half-width of each launch's 90 % interval, seconds.
        origin: Where each number comes from.
        operator: Place of each launch's operator among those of the step.
        family: Place of each launch's family in ``FAMILIES``.
        bandwidth: Share of the datasheet's bandwidth that each launch reaches.
        host_seconds: Host seconds of one repetition.
    """

    segment: Segment
    seconds: Floats
    half: Floats
    origin: Ints
    operator: Ints
    family: Ints
    bandwidth: Floats
    host_seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class PricedStep:
    """A step with seconds.

    Attributes:
        micro_batch: Forward and backward of one micro-batch.
        accumulate: What every micro-batch after the first adds.
        optimizer: Once a step.
        operators: Every distinct operator of the step.
    """

    micro_batch: tuple[Priced, ...]
    accumulate: Priced
    optimizer: Priced
    operators: tuple[Operator, ...]

    @property
    def parts(self) -> tuple[Priced, ...]:
        """All segments, each once."""
        return (*self.micro_batch, self.accumulate, self.optimizer)


def price(step: Step, costs: Costs) -> PricedStep:
    """Price every launch of a step, each distinct operator once."""
    segments = (*step.micro_batch, step.accumulate, step.optimizer)
    table = _PriceTable([launch for segment in segments for launch in segment.launches], costs)
    *micro_batch, accumulate, optimizer = _price(segments, table, costs)
    return PricedStep(tuple(micro_batch), accumulate, optimizer, tuple(table.index))


def _price(segments: Sequence[Segment], table: "_PriceTable", costs: Costs) -> tuple[Priced, ...]:
    priced = []
    for segment in segments:
        index = np.array([table.index[launch.operator] for launch in segment.launches], np.int64)
        seconds, half = table.blend(segment.launches, index)
        host = sum(times * costs.host_seconds(activity) for activity, times in segment.host)
        if segment.host_launches:
            host += segment.host_launches * costs.host_seconds(BARE_LAUNCH)
        moved = np.array([launch.operator.bytes for launch in segment.launches], dtype=float)
        priced.append(
            Priced(
                segment=segment,
                seconds=seconds,
                half=half,
                origin=table.cold.origin[index],
                operator=index,
                family=np.array([FAMILIES.index(x.family) for x in segment.launches], np.int64),
                bandwidth=moved / costs.gpu.memory_bytes_per_second / seconds,
                host_seconds=host,
            )
        )
    return tuple(priced)


class _PriceTable:
    """Cold and warm predictions of the distinct operators of a step."""

    def __init__(self, launches: Iterable[Launch], costs: Costs) -> None:
        operators = list(dict.fromkeys(launch.operator for launch in launches))
        self.index: Mapping[Operator, int] = {op: i for i, op in enumerate(operators)}
        self.cold: Prediction = costs.predict(operators)
        self._warm = np.copy(self.cold.seconds)
        streams = [i for i, op in enumerate(operators) if op.name == "memory_bound"]
        if streams:
            warm = costs.predict([operators[i] for i in streams], cache="warm")
            self._warm[streams] = np.minimum(warm.seconds, self.cold.seconds[streams])
        self._l2_bytes = float(costs.gpu.l2_bytes or 0.0)

    def blend(self, launches: Sequence[Launch], index: Ints) -> tuple[Floats, Floats]:
        """Seconds by what is still in L2: all of it at no distance, none beyond its size."""
        distance = np.array([launch.bytes_since_production for launch in launches], dtype=float)
        resident = np.clip(1.0 - distance / max(self._l2_bytes, 1.0), 0.0, 1.0)
        cold, warm = self.cold.seconds[index], self._warm[index]
        seconds = cold + resident * (warm - cold)
        width = (self.cold.high[index] - self.cold.low[index]) / 2
        return seconds, width * seconds / cold


def settled(step: PricedStep, heat: Heat, clock_hz: float) -> PricedStep:
    """The step at the clock that it settles at as a whole."""
    *micro_batch, accumulate, optimizer = (_settled(p, heat, clock_hz) for p in step.parts)
    return PricedStep(tuple(micro_batch), accumulate, optimizer, step.operators)


def _settled(part: Priced, heat: Heat, clock_hz: float) -> Priced:
    scale = np.where(
        TENSOR[part.family],
        heat.tensor_factor(clock_hz),
        heat.stream_factor(part.bandwidth, clock_hz),
    )
    return Priced(
        segment=part.segment,
        seconds=part.seconds * scale,
        half=part.half * scale,
        origin=part.origin,
        operator=part.operator,
        family=part.family,
        bandwidth=part.bandwidth,
        host_seconds=part.host_seconds,
    )
