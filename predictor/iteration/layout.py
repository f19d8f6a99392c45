"""The moves of segments: what streams and host do, step by step, as max-plus matrices.

The host queues launches one after another; a stream runs its launches in order, each no sooner than
the host has queued it:

    end[i] = max(queued[i], end[i-1]) + gap + seconds[i]

A launch on a communication stream also waits for the compute stream, a wait makes the compute
stream as late as another, a sync makes the host as late as the compute stream. Each of these moves
is a matrix (:mod:`predictor.iteration.maxplus`), and a segment is the product of its own.

Compute launches in a row are one move. With ``S`` the running sum of ``gap + seconds``, a run of
launches a to b ends at the stream's start plus ``S[b] - S[a-1]``, or at the latest of
``queued[i] + S[b] - S[i-1]``.
"""

from collections.abc import Mapping
from functools import cached_property
from itertools import pairwise

import numpy as np

from predictor.costs.prediction import Floats, Ints
from predictor.iteration.launches import (
    STREAMS,
    Launch,
    Segment,
    Step,
    Stream,
    Sync,
    Wait,
)
from predictor.iteration.maxplus import COMPUTE, HOST, NEVER, Words, identity
from predictor.values import frozen

RUN, SEND, JOIN, READ, REST = range(5)
Move = tuple[int, int, int]
"""What a segment does next: a kind and two numbers.

Compute launches in a row (their place among all runs), a launch on a communication stream (its row,
the stream's place in the state), the compute stream waits for a stream (its place), the host waits
for the compute stream, or the host spends the seconds of a segment (its place) without launches.
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
        at = {stream: index + 1 for index, stream in enumerate(self.streams)}
        found: list[list[Move]] = []
        bounds: list[tuple[int, int]] = []
        row = 0
        for place, segment in enumerate(self.segments):
            mine: list[Move] = [] if segment.launches else [(REST, place, 0)]
            begun = row
            for step in (*segment.steps, None):
                if isinstance(step, Launch) and step.stream == "compute":
                    row += 1
                    continue
                if step is not None and not _moves(step, at):
                    continue
                if row > begun:
                    mine.append((RUN, len(bounds), 0))
                    bounds.append((begun, row))
                if isinstance(step, Launch):
                    mine.append((SEND, row, at[step.stream]))
                    row += 1
                elif isinstance(step, Sync):
                    mine.append((READ, 0, 0))
                elif isinstance(step, Wait):
                    mine.append((JOIN, at[step.stream], 0))
                begun = row
            found.append(mine)
        begins, ends = np.array(bounds, dtype=np.int64).reshape(-1, 2).T
        return found, begins, ends

    @cached_property
    def moves(self) -> list[tuple[Ints, Ints, Ints]]:
        """Moves of all segments by kind: their numbers, and the two numbers of each."""
        every = np.array([move for mine in self._walk[0] for move in mine]).reshape(-1, 3)
        numbers = [np.flatnonzero(every[:, 0] == kind) for kind in range(REST + 1)]
        return [(at, every[at, 1], every[at, 2]) for at in numbers]

    @cached_property
    def words(self) -> Words:
        """Every segment as the product of its moves."""
        ends = np.cumsum([0, *(len(mine) for mine in self._walk[0])]).tolist()
        return Words.of([range(*bounds) for bounds in pairwise(ends)], ends[-1])

    def even(self, host_seconds: Floats) -> Floats:
        """Host seconds of each row where all launches of a segment cost the host the same."""
        return np.repeat(host_seconds / np.maximum(self.counts, 1), self.counts)

    @property
    def runs(self) -> tuple[Ints, Ints]:
        """First row, and row behind the last, of each run."""
        return self._walk[1], self._walk[2]

    @cached_property
    def begun(self) -> Ints:
        """First row of the run of each row."""
        begins, _ = self.runs
        start = np.zeros(self.first[-1], dtype=np.int64)
        start[begins] = begins
        return np.maximum.accumulate(start)

    @cached_property
    def bounds(self) -> Ints:
        """First row, and row behind the last, of run after run."""
        return np.stack(self.runs, axis=1).ravel()


def _moves(step: Step, at: Mapping[Stream, int]) -> bool:
    """Whether a step moves any stream that anything is launched on."""
    return isinstance(step, Launch | Sync) or (isinstance(step, Wait) and step.stream in at)


@frozen(eq=False, slots=False)
class Queue:
    """A layout at the seconds of its host, which no clock of a GPU changes.

    Attributes:
        layout: The moves.
        host_seconds: Of one repetition of each segment.
        queue_seconds: Of each row.
    """

    layout: Layout
    host_seconds: Floats
    queue_seconds: Floats

    @cached_property
    def _queued(self) -> Floats:
        """Host seconds of all rows before each."""
        return np.concatenate([[0.0], np.cumsum(self.queue_seconds)])

    @cached_property
    def _lead(self) -> Floats:
        """Host seconds of each run up to each of its rows."""
        return np.asarray(self._queued[1:] - self._queued[self.layout.begun])

    @cached_property
    def _moves(self) -> Floats:
        """Matrices of all moves as if launches took no time, by column, row and move."""
        layout = self.layout
        runs, sends, joins, reads, rests = layout.moves
        unit = identity(layout.size).T
        found = np.repeat(unit[..., None], layout.words.letters, axis=-1)
        begins, ends = layout.runs
        found[HOST, HOST, runs[0]] = self._queued[ends] - self._queued[begins]
        for stream in (HOST, sends[2]):
            found[HOST, stream, sends[0]] = self.queue_seconds[sends[1]]
        found[COMPUTE, sends[2], sends[0]] = 0.0
        found[joins[1], COMPUTE, joins[0]] = 0.0
        found[COMPUTE, HOST, reads[0]] = 0.0
        found[HOST, HOST, rests[0]] = self.host_seconds[rests[1]]
        return found

    def matrices(self, seconds: Floats, gap_seconds: float) -> Floats:
        """Matrices of one repetition of every segment.

        Args:
            seconds: Of each row, by scenario.
            gap_seconds: Idle seconds of the compute stream before each launch.

        Returns:
            By segment, scenario, row and column of the matrix.
        """
        layout, moves = self.layout, self._moves
        runs, sends, *_ = layout.moves
        found = np.repeat(moves[:, :, None], len(seconds), axis=2)
        if len(runs[0]):
            alone, queued = self._ran(seconds + gap_seconds)
            found[COMPUTE, COMPUTE][:, runs[0]] = alone
            found[HOST, COMPUTE][:, runs[0]] = queued
        if len(sends[0]):
            at, row, stream = sends
            found[:, stream, :, at] += seconds.T[row][:, None]
        return layout.words.products(found.T)

    def _ran(self, spans: Floats) -> tuple[Floats, Floats]:
        """Seconds of each run from the stream's start, and from the host's; by scenario and run.

        Args:
            spans: Gap and seconds of each row, by scenario.
        """
        begins, ends = self.layout.runs
        total = np.zeros((len(spans), spans.shape[1] + 1))
        spans.cumsum(axis=1, out=total[:, 1:])
        queued = np.full_like(total, NEVER)
        np.subtract(self._lead, total[:, :-1], out=queued[:, :-1])
        latest = np.maximum.reduceat(queued, self.layout.bounds, axis=1)[:, ::2]
        done = total[:, ends]
        return done - total[:, begins], done + latest
