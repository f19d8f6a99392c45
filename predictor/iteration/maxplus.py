"""Streams as a max-plus linear system: when each is free again after a program has run.

The state is the time at which the host and every stream have done all that was queued. The host
queues launches one after another; a stream runs its launches in order, each no sooner than the host
has queued it:

    end[i] = max(queued[i], end[i-1]) + gap + seconds[i]

A launch on a communication stream also waits for the compute stream, a wait makes the compute
stream as late as another, a sync makes the host as late as the compute stream. Every step is a
maximum of sums, so a whole segment is a matrix A with
``state'[i] = max over j of A[i, j] + state[j]`` (Baccelli, Cohen, Olsder, Quadrat: Synchronization
and Linearity, 1992, chapter 2): exact, composed by a product, repeated by a power.

Compute launches in a row are one step. With ``S`` the running sum of ``gap + seconds``, a run of
launches a to b ends at the stream's start plus ``S[b] - S[a-1]``, or at the latest of
``queued[i] + S[b] - S[i-1]``.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from operator import add
from typing import Final

import numpy as np

from predictor.costs.prediction import Floats, Ints
from predictor.iteration.launches import (
    STREAMS,
    Launch,
    Program,
    Section,
    Segment,
    Stream,
    Sync,
    Wait,
)
from predictor.values import frozen

HOST: Final = 0
COMPUTE: Final = 1
NEVER: Final = -np.inf
FEW: Final = 512
"""Numbers up to which one array of all paths is faster than one a place on the way."""


RUN, SEND, JOIN, READ = range(4)
Move = tuple[int, int, int]
"""What a segment does next: a kind and two numbers.

Compute launches in a row (their place among all runs, how many), a launch on a communication stream
(its row, the stream's place in the state), the compute stream waits for a stream (its place), or
the host waits for the compute stream.
"""


@frozen(eq=False, slots=False)
class Layout:
    """The steps of some segments, without seconds.

    Attributes:
        segments: The segments and their places.
        first: Row of each segment's first launch, and the number of rows at the end.
    """

    segments: Mapping[Segment, int]
    first: Ints

    @cached_property
    def streams(self) -> tuple[Stream, ...]:
        """Streams that anything is launched on, compute first; a state has the host before them."""
        used = {launch.stream for segment in self.segments for launch in segment.launches}
        return tuple(stream for stream in STREAMS if stream in used or stream == "compute")

    @property
    def size(self) -> int:
        """Numbers of a state."""
        return len(self.streams) + 1

    @cached_property
    def counts(self) -> Ints:
        """Launches of each segment."""
        return np.diff(self.first)

    @cached_property
    def _walk(self) -> tuple[list[list[Move]], Ints, Ints]:
        """Moves of each segment; first row, and row behind the last, of each run."""
        place = {stream: index + 1 for index, stream in enumerate(self.streams)}
        moves: list[list[Move]] = []
        bounds: list[tuple[int, int]] = []
        row = 0
        for segment in self.segments:
            mine: list[Move] = []
            begun = row
            for step in (*segment.steps, None):
                if isinstance(step, Section):  # the host is another, the streams' work is not
                    continue
                if isinstance(step, Launch) and step.stream == "compute":
                    row += 1
                    continue
                if row > begun:
                    mine.append((RUN, len(bounds), row - begun))
                    bounds.append((begun, row))
                if isinstance(step, Launch):
                    mine.append((SEND, row, place[step.stream]))
                    row += 1
                elif isinstance(step, Sync):
                    mine.append((READ, 0, 0))
                elif isinstance(step, Wait) and step.stream in place:
                    mine.append((JOIN, place[step.stream], 0))
                begun = row
            moves.append(mine)
        begins, ends = np.array(bounds, dtype=np.int64).reshape(-1, 2).T
        return moves, begins, ends

    @cached_property
    def moves(self) -> list[list[Move]]:
        """What each segment does, in order."""
        return self._walk[0]

    @cached_property
    def used(self) -> list[set[int]]:
        """Places of a state that each segment reads or changes."""
        return [
            {HOST, COMPUTE}
            | {stream for kind, _, stream in moves if kind == SEND}
            | {stream for kind, stream, _ in moves if kind == JOIN}
            for moves in self.moves
        ]

    def even(self, host_seconds: Floats) -> Floats:
        """Host seconds of each row where all launches of a segment cost the host the same."""
        return np.repeat(host_seconds / np.maximum(self.counts, 1), self.counts)

    def queueing(self, queue_seconds: Floats) -> Floats:
        """Host seconds of each run."""
        _, begins, ends = self._walk
        queued = np.concatenate([[0.0], np.cumsum(queue_seconds)])
        return np.asarray(queued[ends] - queued[begins])

    @cached_property
    def _bounds(self) -> tuple[Ints, Ints]:
        """First row of the run of each row; first row, and row behind the last, of each run."""
        _, begins, ends = self._walk
        start = np.zeros(self.first[-1], dtype=np.int64)
        start[begins] = begins
        return np.maximum.accumulate(start), np.stack([begins, ends], axis=1).ravel()

    def runs(self, spans: Floats, queue_seconds: Floats) -> tuple[Floats, Floats]:
        """Seconds of each run from the stream's start, and from the host's; by scenario and run.

        Args:
            spans: Gap and seconds of each row, by scenario.
            queue_seconds: Host seconds of each row.
        """
        _, begins, ends = self._walk
        if not len(begins):
            nothing = np.zeros((len(spans), 0))
            return nothing, nothing
        start, bounds = self._bounds
        total, queued = np.zeros((2, len(spans), len(start) + 1))
        np.cumsum(spans, axis=1, out=total[:, 1:])
        host = np.concatenate([[0.0], np.cumsum(queue_seconds)])
        queued[:, :-1] = host[1:] - host[start] - total[:, :-1]
        queued[:, -1] = NEVER
        latest = np.maximum.reduceat(queued, bounds, axis=1)[:, ::2]
        return total[:, ends] - total[:, begins], total[:, ends] + latest


def identity(size: int) -> Floats:
    """Nothing runs."""
    matrix = np.full((size, size), NEVER)
    matrix.ravel()[:: size + 1] = 0.0
    return matrix


def then(first: Floats, second: Floats) -> Floats:
    """``first``, and after it ``second``; leading axes are scenarios."""
    if first.size <= FEW:
        return np.asarray((second[..., :, :, None] + first[..., None, :, :]).max(axis=-2))
    result = second[..., :, :1] + first[..., :1, :]
    for between in range(1, first.shape[-1]):
        through = second[..., :, between : between + 1] + first[..., between : between + 1, :]
        np.maximum(result, through, out=result)
    return np.asarray(result)


def chain(matrices: Sequence[Floats]) -> Floats:
    """One matrix after another."""
    result = matrices[0]
    for matrix in matrices[1:]:
        result = then(result, matrix)
    return result


def power(matrix: Floats, times: int) -> Floats:
    """A matrix at least once in a row, by repeated squaring."""
    result, square = None, matrix
    while times:
        if times & 1:
            result = square if result is None else then(result, square)
        times >>= 1
        if times:
            square = then(square, square)
    if result is None:
        return np.broadcast_to(identity(matrix.shape[-1]), matrix.shape)
    return result


def essential(matrices: Floats) -> Ints:
    """Places of a state that programs must be told apart by; leading axes are programs.

    A stream that every program leaves no later than the compute stream, and that no program minds
    more than the compute stream, is as good as free whenever that is: every launch on it waits for
    the compute stream anyway. Host and compute stream are always kept.
    """
    kept = [HOST, COMPUTE]
    for stream in range(2, matrices.shape[-1]):
        minds = matrices[..., :, stream] > matrices[..., :, COMPUTE]
        minds[..., stream] = False
        late = matrices[..., stream, :].copy()
        late[..., COMPUTE] = np.maximum(late[..., COMPUTE], late[..., stream])
        late[..., stream] = NEVER
        if minds.any() or (late > matrices[..., COMPUTE, :]).any():
            kept.append(stream)
    return np.array(kept)


class Matrices:
    """Matrices of segments and programs at the seconds of some scenarios.

    Attributes:
        size: Numbers of a state.
        scenarios: Sets of seconds.
    """

    def __init__(
        self,
        layout: Layout,
        seconds: Floats,
        host_seconds: Floats,
        gap_seconds: float,
        queue_seconds: Floats | None = None,
    ) -> None:
        """Start with none; each is made when asked for and kept.

        Args:
            layout: Of the segments.
            seconds: Of each row, by scenario.
            host_seconds: Of one repetition of each segment.
            gap_seconds: Idle seconds of the compute stream before each launch.
            queue_seconds: Host seconds of each row; None: a segment's in equal parts.
        """
        self.size, self.scenarios = layout.size, len(seconds)
        self._layout, self._seconds = layout, seconds.tolist()
        self._host = host_seconds.tolist()
        self._counts = layout.counts.tolist()
        queue = layout.even(host_seconds) if queue_seconds is None else queue_seconds
        self._queue, self._queueing = queue.tolist(), layout.queueing(queue).tolist()
        runs = layout.runs(seconds + gap_seconds, queue)
        self._runs = list(zip(*(each.tolist() for each in runs), strict=True))
        self._units = identity(self.size)
        self._segments: dict[Segment, Floats] = {}
        self._powers: dict[tuple[Segment, int], Floats] = {}
        self._programs: dict[Program, Floats] = {}

    def program(self, program: Program) -> Floats:
        """The matrices of a program, one for each scenario."""
        known = self._programs.get(program)
        if known is None:
            parts = [self._power(segment, times) for segment, times in program]
            shape = (self.scenarios, self.size, self.size)
            known = chain(parts) if parts else np.broadcast_to(self._units, shape)
            self._programs[program] = known
        return known

    def segment(self, segment: Segment) -> Floats:
        """The matrices of one repetition of a segment: where each single stream's delay leads."""
        known = self._segments.get(segment)
        if known is None:
            units = self._units.tolist()
            used = self._layout.used[self._layout.segments[segment]]
            columns = [
                [
                    self._walked(segment, scenario, unit) if stream in used else unit
                    for stream, unit in enumerate(units)
                ]
                for scenario in range(self.scenarios)
            ]
            known = np.array(columns).swapaxes(1, 2)
            self._segments[segment] = known
        return known

    def state(self, program: Program, scenario: int, state: list[float]) -> list[float]:
        """The state behind a program that runs once: less work than its matrix."""
        for segment, times in program:
            if times == 1:
                state = self._walked(segment, scenario, state)
            else:
                matrix = self._power(segment, times)[scenario].tolist()
                state = [max(map(add, row, state)) for row in matrix]
        return state

    def _power(self, segment: Segment, times: int) -> Floats:
        key = (segment, times)
        if key not in self._powers:
            self._powers[key] = power(self.segment(segment), times)
        return self._powers[key]

    def _walked(self, segment: Segment, scenario: int, state: list[float]) -> list[float]:
        """The state behind one repetition of a segment, in plain numbers: they are few."""
        place = self._layout.segments[segment]
        alone, queued = self._runs[scenario]
        seconds = self._seconds[scenario]
        free = list(state)
        host, compute = free[HOST], free[COMPUTE]
        if not self._counts[place]:
            host += self._host[place]
        for kind, one, other in self._layout.moves[place]:
            if kind == RUN:
                compute += alone[one]
                latest = host + queued[one]
                if latest > compute:  # noqa: PLR1730 - half the time of a call
                    compute = latest
                host += self._queueing[one]
            elif kind == SEND:
                host += self._queue[one]
                free[other] = max(compute, host, free[other]) + seconds[one]
            elif kind == JOIN:
                if free[one] > compute:  # noqa: PLR1730
                    compute = free[one]
            elif compute > host:
                host = compute
        free[HOST], free[COMPUTE] = host, compute
        return free
