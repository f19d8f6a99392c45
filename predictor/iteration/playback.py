"""A step played launch by launch: what runs on every stream of every stage, and when.

The same matrices, order and seconds that an estimate rests on, with the single launches kept: for
people who want to look at a step. Costs grow with launches; an estimate never needs it.
"""

from collections.abc import Iterator

import numpy as np

from predictor.costs.prediction import Floats
from predictor.iteration.launches import Launch, Segment, Sync, Wait
from predictor.iteration.maxplus import COMPUTE, HOST, after
from predictor.iteration.pipeline import Pipeline
from predictor.iteration.priced import Sheet
from predictor.iteration.schedules import order_of
from predictor.iteration.schedules.order import Order
from predictor.values import frozen

KINDS = ("forward", "backward", "weight")


@frozen
class Event:
    """Something that takes time on a stream of a stage.

    Attributes:
        stage: Pipeline stage.
        stream: ``passes``, ``host`` or the name of a stream.
        name: What it is.
        start_seconds: Since the step began.
        seconds: How long.
        micro_batch: Whose; -1 after the last.
    """

    stage: int
    stream: str
    name: str
    start_seconds: float
    seconds: float
    micro_batch: int = -1


@frozen
class Message:
    """A message between stages: from the end of one pass to the start of another.

    Attributes:
        sender_stage: Stage that sends.
        receiver_stage: Stage that needs it.
        sent_seconds: Length of the pass at whose end it leaves.
        left_seconds: When that pass ends, since the step began.
        taken_seconds: When the pass that needs it starts.
    """

    sender_stage: int
    receiver_stage: int
    sent_seconds: float
    left_seconds: float
    taken_seconds: float


class Playback:
    """One step of a pipeline at the seconds of a sheet."""

    def __init__(
        self, pipeline: Pipeline, sheet: Sheet, gap_seconds: float, messages: Floats, tied: float
    ) -> None:
        """Run every pass once.

        Args:
            pipeline: What runs.
            sheet: Seconds of every launch.
            gap_seconds: Idle seconds of the compute stream before each launch.
            messages: Seconds of a message by direction and sending stage.
            tied: Seconds of the sum of tied tables' gradients.
        """
        self._pipeline, self._sheet, self._gap, self._tied = pipeline, sheet, gap_seconds, tied
        self._streams = sheet.layout.streams
        self.order = self._order()
        words = pipeline.numbering.words(sheet.layout)
        self._programs = words.products(sheet.matrices(gap_seconds, silent=False))
        self._timeline = pipeline.sweep(self._programs, messages[None], self.order)

    def _order(self) -> Order:
        if len(self._pipeline.stages) == 1:
            return order_of("1f1b", 1, self._pipeline.micro_batches, 1)
        return self._pipeline.order()

    @property
    def launches(self) -> int:
        """Launches of all passes of all stages."""
        programs = self._pipeline.numbering.programs
        sizes = np.array([sum(len(s.launches) * n for s, n in p) for p in programs])
        return int(sizes[self._pipeline.which(self.order).number].sum())

    def messages(self) -> Iterator[Message]:
        """Every message between stages."""
        timeline, order = self._timeline, self.order
        start, end = timeline.start[0], timeline.end[0]
        for receiver in np.flatnonzero(order.remote):
            left = int(order.needs[receiver])
            yield Message(
                sender_stage=int(order.source[receiver]) // order.passes,
                receiver_stage=int(receiver) // order.passes,
                sent_seconds=float(end[left] - start[left]),
                left_seconds=float(end[left]),
                taken_seconds=float(start[receiver]),
            )

    def events(self, *, launches: bool) -> Iterator[Event]:
        """Everything that runs, pass by pass; single launches too, if asked for."""
        states = []
        for stage in range(self.order.stages):
            state = [0.0] * (len(self._streams) + 1)
            for place in range(self.order.passes):
                yield from self._pass(stage, place, state, launches=launches)
            if not launches:
                state = self._timeline.state[0, stage].tolist()
            reduce = int(self._pipeline.numbering.ends[stage, 0])
            yield from self._program(stage, reduce, -1, state, launches=launches)
            states.append(state)
        agreed = max(state[COMPUTE] for state in states)
        ends = max(states[0][COMPUTE], states[-1][COMPUTE]) + self._tied
        for stage, state in enumerate(states):
            if self._pipeline.agrees:
                state[COMPUTE] = max(agreed, ends if len(states) > 1 else agreed)
            step = int(self._pipeline.numbering.ends[stage, 1])
            yield from self._program(stage, step, -1, state, launches=launches)
            if not launches:
                yield Event(stage, "host", "queueing", 0.0, state[HOST])

    def _pass(
        self, stage: int, place: int, state: list[float], *, launches: bool
    ) -> Iterator[Event]:
        order, timeline = self.order, self._timeline
        number = stage * order.passes + place
        start, end = (float(each[0, number]) for each in (timeline.start, timeline.end))
        sent = place > 0 and order.target[number - 1] >= 0
        if not self._pipeline.overlapped and (order.remote[number] or sent):
            state[HOST] = max(state[HOST], start)
        state[COMPUTE] = start
        micro_batch, chunk = int(order.micro_batch[stage, place]), int(order.chunk[stage, place])
        name = f"{KINDS[order.kind[stage, place]]} {micro_batch}"
        if order.chunks > 1:
            name += f" chunk {chunk}"
        yield Event(stage, "passes", name, start, end - start, micro_batch)
        if launches:
            program = int(self._pipeline.which(order).number[number])
            yield from self._program(stage, program, micro_batch, state, launches=True)

    def _program(
        self, stage: int, number: int, micro_batch: int, state: list[float], *, launches: bool
    ) -> Iterator[Event]:
        """Play the program of a number from a state, which it moves on."""
        program = self._pipeline.numbering.programs[number]
        if not launches:
            behind = after(self._programs[number, 0], np.array(state))
            name = program[0][0].label if program else "nothing"
            if behind[COMPUTE] > state[COMPUTE]:
                seconds = float(behind[COMPUTE]) - state[COMPUTE]
                yield Event(stage, "passes", name, state[COMPUTE], seconds, micro_batch)
            state[:] = behind.tolist()
            return
        for segment, times in program:
            for _ in range(times):
                yield from self._segment(stage, segment, micro_batch, state)

    def _segment(
        self, stage: int, segment: Segment, micro_batch: int, state: list[float]
    ) -> Iterator[Event]:
        layout = self._sheet.layout
        place = layout.segments[segment]
        row = int(layout.first[place])
        count = int(layout.first[place + 1]) - row
        host = float(self._sheet.queue.host_seconds[place])
        if host:
            yield Event(stage, "host", segment.label, state[HOST], host, micro_batch)
        if not count:
            state[HOST] += host
        for step in segment.steps:
            if isinstance(step, Launch):
                state[HOST] += float(self._sheet.queue.queue_seconds[row])
                seconds = float(self._sheet.seconds[row])
                row += 1
                stream = self._streams.index(step.stream) + 1
                if step.stream == "compute":
                    start = max(state[COMPUTE], state[HOST]) + self._gap
                else:
                    start = max(state[stream], state[COMPUTE], state[HOST])
                state[stream] = start + seconds
                yield Event(stage, step.stream, _name(step), start, seconds, micro_batch)
            elif isinstance(step, Sync):
                state[HOST] = max(state[HOST], state[COMPUTE])
            elif isinstance(step, Wait) and step.stream in self._streams:
                stream = self._streams.index(step.stream) + 1
                state[COMPUTE] = max(state[COMPUTE], state[stream])


def _name(launch: Launch) -> str:
    operator = launch.operator
    return str(getattr(operator, "kernel", None) or getattr(operator, "kind", operator.name))
