"""A step's stages in their schedule: which program each pass runs, and how long the whole takes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from predictor.costs.prediction import Floats, Ints
from predictor.iteration.launches import Program
from predictor.iteration.maxplus import COMPUTE, Matrices, identity, power, then
from predictor.iteration.programs import ChunkPrograms, StagePrograms
from predictor.iteration.schedules import Order, order_of
from predictor.iteration.schedules.order import B, F, W
from predictor.iteration.timeline import Passes, Timeline, run

SWEPT_GROUPS: Final = 8
"""Micro-batches, in groups of the stages, up to which a pipeline is swept in full; a longer one
repeats its steady state."""

STEADY_GROUPS: Final = 5
"""Groups of micro-batches after which a longer pipeline is taken to be in its steady state."""

FIRST_F, NEXT_F, FIRST_B, NEXT_B, LAST_B, NEXT_W, LAST_W = range(7)


@dataclass(frozen=True, slots=True, eq=False)
class Pipeline:
    """Everything about a step that does not depend on seconds.

    Attributes:
        stages: Programs of each stage.
        schedule: Name of the schedule.
        chunks: Chunks of a stage.
        micro_batches: Of one replica in a step.
        overlapped: Messages run beside computation.
    """

    stages: tuple[StagePrograms, ...]
    schedule: str
    chunks: int
    micro_batches: int
    overlapped: bool
    _programs: tuple[Program, ...] = field(init=False)
    _slots: Ints = field(init=False)

    def __post_init__(self) -> None:
        """Number the distinct programs of passes."""
        index: dict[Program, int] = {}
        slots = [
            [[index.setdefault(p, len(index)) for p in _slots(chunk)] for chunk in stage.chunks]
            for stage in self.stages
        ]
        object.__setattr__(self, "_programs", tuple(index))
        object.__setattr__(self, "_slots", np.array(slots, dtype=np.int64))

    def order(self, micro_batches: int | None = None) -> Order:
        """The schedule's order for so many micro-batches, by default all.

        Raises:
            NotPredictable: A rule of the schedule is broken.
        """
        count = self.micro_batches if micro_batches is None else micro_batches
        return order_of(self.schedule, len(self.stages), count, self.chunks)

    def swept(self) -> tuple[int, ...]:
        """Micro-batches of the sweeps that the step's seconds follow from."""
        group, count = len(self.stages), self.micro_batches
        if count <= SWEPT_GROUPS * group:
            return (count,)
        first = count % group + STEADY_GROUPS * group
        return (first, first + group)

    def in_flight(self, stage: int) -> tuple[int, ...]:
        """Most micro-batches whose activations each chunk of a stage holds at one time."""
        if len(self.stages) == 1:
            return (1,)
        most = self.order(self.swept()[-1]).in_flight()
        return tuple(int(count) for count in most[stage])

    def counted(self, stage: int) -> list[tuple[Program, int]]:
        """Every program of a stage and how often a step runs it."""
        mine = self.stages[stage]
        found: list[tuple[Program, int]] = [(mine.reduce, 1), (mine.step, 1)]
        for chunk in mine.chunks:
            found += _counted(chunk, self.micro_batches)
        return found

    def alone(self, stage: int, matrices: Matrices) -> float:
        """Seconds of a stage that never waits for another."""
        mine = self.stages[stage]
        head, rest, tail = identity(), identity(), identity()
        for chunk in mine.chunks:
            one = matrices.program
            weight, last_weight = one(chunk.weight), one(chunk.last_weight)
            first, last = one(chunk.first_backward), one(chunk.last_backward)
            if self.micro_batches == 1:
                tail = _chain(tail, one(chunk.first_forward), last, last_weight)
                continue
            head = _chain(head, one(chunk.first_forward), first, weight)
            rest = _chain(rest, one(chunk.forward), one(chunk.backward), weight)
            tail = _chain(tail, one(chunk.forward), last, last_weight)
        rest = power(rest, max(self.micro_batches - 2, 0))
        ends = matrices.program(mine.reduce), matrices.program(mine.step)
        whole = _chain(head, rest, tail, *ends)
        return float(np.max(whole))

    def seconds(self, sheets: Sequence[Matrices], messages: Floats, tied_seconds: Floats) -> Floats:
        """Seconds of the step for several scenarios at once.

        Args:
            sheets: Matrices of each scenario.
            messages: Seconds of a message by scenario, direction and sending stage.
            tied_seconds: Seconds of the tied tables' gradient sum, by scenario.
        """
        if len(self.stages) == 1:
            return np.array([self.alone(0, matrices) for matrices in sheets])
        totals = [
            self._finished(self.sweep(sheets, messages, count), sheets, tied_seconds)
            for count in self.swept()
        ]
        if len(totals) == 1:
            return totals[0]
        first, second = self.swept()
        periods = (self.micro_batches - second) / (second - first)
        return np.asarray(totals[1] + periods * (totals[1] - totals[0]))

    def sweep(self, sheets: Sequence[Matrices], messages: Floats, micro_batches: int) -> Timeline:
        """Run every pass of a step with so many micro-batches."""
        order = self.order(micro_batches)
        matrix = np.stack([[sheet.program(p) for p in self._programs] for sheet in sheets])
        return run(Passes(order, matrix, self.which(order), messages, self.overlapped))

    def which(self, order: Order) -> Ints:
        """Number of the program that each pass runs."""
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
        return np.asarray(self._slots[stage, order.chunk, slot].ravel())

    def _finished(
        self, timeline: Timeline, sheets: Sequence[Matrices], tied_seconds: Floats
    ) -> Floats:
        """After the last pass: gradients are summed, ranks agree on their norm, all step."""
        reduce, step = (
            np.array([[m.program(p) for p in programs] for m in sheets])
            for programs in (
                [stage.reduce for stage in self.stages],
                [stage.step for stage in self.stages],
            )
        )
        state = (reduce + timeline.state[:, :, None, :]).max(axis=3)
        ends = state[:, [0, -1], COMPUTE].max(axis=1) + tied_seconds
        agreed = np.maximum(state[:, :, COMPUTE].max(axis=1), ends)
        state[:, :, COMPUTE] = np.maximum(state[:, :, COMPUTE], agreed[:, None])
        state = (step + state[:, :, None, :]).max(axis=3)
        return np.asarray(state.max(axis=(1, 2)))


def _slots(chunk: ChunkPrograms) -> tuple[Program, ...]:
    return (
        chunk.first_forward,
        chunk.forward,
        chunk.first_backward,
        chunk.backward,
        chunk.last_backward,
        chunk.weight,
        chunk.last_weight,
    )


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


def _chain(*matrices: Floats) -> Floats:
    result = matrices[0]
    for matrix in matrices[1:]:
        result = then(result, matrix)
    return result
