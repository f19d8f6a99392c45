"""A step's stages in their schedule: which program each pass runs, and how long the whole takes."""

from dataclasses import replace
from functools import lru_cache
from typing import Final

import numpy as np

from predictor.costs.prediction import Floats
from predictor.iteration.launches import Program
from predictor.iteration.maxplus import COMPUTE, after, essential, power
from predictor.iteration.numbering import Numbering
from predictor.iteration.programs import ChunkPrograms, StagePrograms
from predictor.iteration.schedules import SEARCHED, UNIT, Order, PassSeconds, order_of
from predictor.iteration.schedules.order import B, F, W
from predictor.iteration.step import StepShape
from predictor.iteration.timeline import Passes, Timeline, Which, run
from predictor.values import frozen

SWEPT_GROUPS: Final = 4
"""Micro-batches, in groups of the stages, up to which a pipeline is swept in full; a longer one
repeats a group in its middle."""

SWEPT_GROUPS_BLOCKING: Final = 3
"""The same with one chunk a stage, where messages stop both ends and so never queue."""

PERIODIC: Final = frozenset({"1f1b", "interleaved"})
"""Schedules whose order repeats from group to group, with a forward and a backward pass each."""

FIRST_AND_LAST: Final = 2
RATIO_DIGITS: Final = 2
"""Digits of the ratios that a search sees: the same schedule for nearly the same stage."""

FIRST_F, NEXT_F, FIRST_B, NEXT_B, LAST_B, NEXT_W, LAST_W = range(7)
"""Places in ``ChunkPrograms.programs()``."""


@frozen(eq=False)
class Pipeline:
    """Everything about a step that does not depend on seconds.

    Attributes:
        numbering: Programs of each stage, and their numbers.
        schedule: Name of the schedule.
        chunks: Chunks of a stage.
        micro_batches: Of one replica in a step.
        overlapped: Messages run beside computation.
        agrees: No stage steps before all have come to their gradients' norm; else a stage begins
            the next iteration as soon as it has stepped.
        pass_seconds: Relative seconds of passes, for schedules that are found by search.
    """

    numbering: Numbering
    schedule: str
    chunks: int
    micro_batches: int
    overlapped: bool
    agrees: bool = True
    pass_seconds: PassSeconds = UNIT

    @property
    def stages(self) -> tuple[StagePrograms, ...]:
        """Programs of each stage."""
        return self.numbering.stages

    def order(self, micro_batches: int | None = None) -> Order:
        """The schedule's order for so many micro-batches, by default all.

        Raises:
            NotPredictable: A rule of the schedule is broken.
        """
        count = self.micro_batches if micro_batches is None else micro_batches
        searched = {"seconds": self.pass_seconds} if self.schedule in SEARCHED else {}
        return order_of(self.schedule, len(self.stages), count, self.chunks, **searched)

    def tuned(self, programs: Floats, message_seconds: float) -> "Pipeline":
        """The pipeline with the seconds that a search needs: those of a stage in the middle."""
        if self.schedule not in SEARCHED or self.chunks > 1:  # which its order refuses
            return self
        (slots,) = self.numbering.slots[len(self.stages) // 2]
        passes = programs[slots[[NEXT_F, NEXT_B, NEXT_W]], 0, COMPUTE, COMPUTE]
        forward, backward, weight = passes.tolist()
        ratios = PassSeconds(
            backward=round(backward / forward, RATIO_DIGITS),
            weight=round(weight / forward, RATIO_DIGITS),
            message=round(message_seconds / forward, RATIO_DIGITS),
        )
        return replace(self, pass_seconds=ratios)

    @property
    def rounds(self) -> int:
        """Micro-batches that each chunk runs: half of them where they go both ways."""
        return self.micro_batches // (2 if self.schedule == "dualpipe" else 1)

    @property
    def swept(self) -> int:
        """Micro-batches of the sweep that the step's seconds follow from."""
        groups = SWEPT_GROUPS_BLOCKING if self.chunks == 1 and not self.overlapped else SWEPT_GROUPS
        return _swept(self.schedule, len(self.stages), self.micro_batches, groups)

    def counted(self, stage: int) -> list[tuple[Program, int]]:
        """Every program of a stage and how often a step runs it."""
        mine = self.stages[stage]
        found: list[tuple[Program, int]] = [(mine.reduce, 1), (mine.step, 1)]
        for chunk in mine.chunks:
            found += _counted(chunk, self.rounds)
        return found

    def alone(self, stage: int, programs: Floats) -> Floats:
        """Seconds of a stage that never waits for another, by scenario."""
        first, between, last, only = programs[self.numbering.alone[stage]]
        if self.rounds == 1:
            return np.asarray(only.max(axis=(1, 2)))
        state = first.max(axis=-1)
        if self.rounds > FIRST_AND_LAST:
            state = after(power(between, self.rounds - FIRST_AND_LAST), state)
        return np.asarray(after(last, state).max(axis=-1))

    def seconds(self, programs: Floats, messages: Floats, tied_seconds: Floats) -> Floats:
        """Seconds of the step, by scenario.

        Args:
            programs: Matrices of the programs, by number and scenario.
            messages: Seconds of a message by scenario, direction and sending stage.
            tied_seconds: Seconds of the tied tables' gradient sum, by scenario.
        """
        if len(self.stages) == 1:
            return self.alone(0, programs)
        more = (self.micro_batches - self.swept) // len(self.stages)
        timeline = self.sweep(programs, messages, self.order(self.swept), more)
        return self._finished(timeline, programs, tied_seconds)

    def sweep(self, programs: Floats, messages: Floats, order: Order, more: int = 0) -> Timeline:
        """Run every pass of an order once, and ``more`` groups of micro-batches in its middle."""
        whole = programs[: self.numbering.passes].swapaxes(0, 1)
        kept = essential(whole)
        matrix = whole[:, :, kept[:, None], kept]
        passes = Passes(order, matrix, self.which(order), messages, self.overlapped)
        timeline = run(passes, more)
        state = np.repeat(timeline.state[:, :, COMPUTE, None], whole.shape[-1], axis=2)
        state[:, :, kept] = timeline.state
        return replace(timeline, state=state)

    def which(self, order: Order) -> Which:
        """Number of the program that each pass runs."""
        return _which(self.numbering, order)

    def _finished(self, timeline: Timeline, programs: Floats, tied_seconds: Floats) -> Floats:
        """After the last pass: gradients are summed, ranks agree on their norm, all step."""
        reduce, step = programs[self.numbering.ends.T].swapaxes(1, 2)
        state = after(reduce, timeline.state)
        if not self.agrees:
            state = after(step, state)
            begun = timeline.start.reshape(len(state), len(self.stages), -1)[:, :, 0]
            return np.asarray((state.max(axis=2) - begun).max(axis=1))
        ends = state[:, [0, -1], COMPUTE].max(axis=1) + tied_seconds
        agreed = np.maximum(state[:, :, COMPUTE].max(axis=1), ends)
        state[:, :, COMPUTE] = np.maximum(state[:, :, COMPUTE], agreed[:, None])
        return np.asarray(after(step, state).max(axis=(1, 2)))


def _swept(schedule: str, stages: int, micro_batches: int, groups: int = SWEPT_GROUPS) -> int:
    if schedule not in PERIODIC or micro_batches <= groups * stages:
        return micro_batches
    return micro_batches % stages + groups * stages


def in_flight(shape: StepShape, stage: int) -> tuple[int, ...]:
    """Most micro-batches whose activations each chunk of a stage holds at one time.

    Raises:
        NotPredictable: A rule of the schedule is broken.
    """
    if shape.stages == 1 and shape.schedule != "dualpipe":  # which its order refuses
        return (1,)
    count = _swept(shape.schedule, shape.stages, shape.micro_batches)
    most = order_of(shape.schedule, shape.stages, count, shape.chunks).in_flight
    return tuple(most[stage].tolist())


def _counted(chunk: ChunkPrograms, micro_batches: int) -> list[tuple[Program, int]]:
    between = max(micro_batches - 2, 0)
    return [
        (chunk.first_forward, 1),
        (chunk.forward, micro_batches - 1),
        (chunk.first_backward, min(micro_batches - 1, 1)),
        (chunk.backward, between),
        (chunk.last_backward, 1),
        (chunk.weight, micro_batches - 1),
        (chunk.last_weight, 1),
    ]


@lru_cache(maxsize=32)
def _which(numbering: Numbering, order: Order) -> Which:
    route = order.route_of[order.micro_batch]
    batches = [np.flatnonzero(order.route_of == r) for r in range(len(order.routes))]
    first = np.array([mine[0] for mine in batches])[route] == order.micro_batch
    last = np.array([mine[-1] for mine in batches])[route] == order.micro_batch
    slot = np.select(
        [order.kind == F, order.kind == B, order.kind == W],
        [
            np.where(first, FIRST_F, NEXT_F),
            np.where(last, LAST_B, np.where(first, FIRST_B, NEXT_B)),
            np.where(last, LAST_W, NEXT_W),
        ],
    )
    stage = np.arange(order.stages)[:, None]
    return Which(numbering.slots[stage, order.chunk, slot].ravel())
