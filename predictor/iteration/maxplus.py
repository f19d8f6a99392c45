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
"""

from typing import Final

import numpy as np

from predictor.costs.prediction import Floats
from predictor.iteration.launches import STREAMS, Launch, Program, Segment, Sync, Wait
from predictor.iteration.priced import Sheet

HOST: Final = 0
PLACE: Final = {stream: place + 1 for place, stream in enumerate(STREAMS)}
COMPUTE: Final = PLACE["compute"]
SIZE: Final = len(STREAMS) + 1
NEVER: Final = -np.inf


def identity() -> Floats:
    """Nothing runs."""
    matrix = np.full((SIZE, SIZE), NEVER)
    np.fill_diagonal(matrix, 0.0)
    return matrix


def then(first: Floats, second: Floats) -> Floats:
    """``first``, and after it ``second``."""
    return np.asarray((second[:, :, None] + first[None, :, :]).max(axis=1))


def power(matrix: Floats, times: int) -> Floats:
    """A matrix so many times in a row, by repeated squaring."""
    result, square = None, matrix
    while times:
        if times & 1:
            result = square if result is None else then(result, square)
        times >>= 1
        if times:
            square = then(square, square)
    return identity() if result is None else result


class Matrices:
    """Matrices of segments and programs at the seconds of one sheet."""

    def __init__(self, sheet: Sheet, gap_seconds: float) -> None:
        """Start with none; each is made when asked for and kept."""
        self._sheet, self._gap = sheet, gap_seconds
        self._segments: dict[Segment, Floats] = {}
        self._powers: dict[tuple[Segment, int], Floats] = {}
        self._programs: dict[Program, Floats] = {}

    def program(self, program: Program) -> Floats:
        """The matrix of a program."""
        known = self._programs.get(program)
        if known is None:
            known = identity()
            for segment, times in program:
                known = then(known, self._power(segment, times))
            self._programs[program] = known
        return known

    def _power(self, segment: Segment, times: int) -> Floats:
        key = (segment, times)
        if key not in self._powers:
            self._powers[key] = power(self.segment(segment), times)
        return self._powers[key]

    def segment(self, segment: Segment) -> Floats:
        """The matrix of one repetition of a segment."""
        if segment not in self._segments:
            self._segments[segment] = self._build(segment)
        return self._segments[segment]

    def _build(self, segment: Segment) -> Floats:
        """Runs of compute launches in one go, everything else step by step."""
        sheet = self._sheet
        spans = sheet.seconds[sheet.rows(segment)] + self._gap
        host = float(sheet.host_seconds[sheet.segments[segment]])
        share = host / max(len(spans), 1)
        matrix = identity()
        row = begun = 0
        for step in segment.steps:
            if isinstance(step, Launch) and step.stream == "compute":
                row += 1
                continue
            _run(matrix, spans[begun:row], share)
            if isinstance(step, Wait):
                matrix[COMPUTE] = np.maximum(matrix[COMPUTE], matrix[PLACE[step.stream]])
            elif isinstance(step, Sync):
                matrix[HOST] = np.maximum(matrix[HOST], matrix[COMPUTE])
            else:
                matrix[HOST] += share
                place = PLACE[step.stream]
                ready = np.maximum(matrix[COMPUTE], matrix[HOST])
                matrix[place] = np.maximum(matrix[place], ready) + (spans[row] - self._gap)
                row += 1
            begun = row
        _run(matrix, spans[begun:row], share)
        if not len(spans):
            matrix[HOST] += host
        return matrix


def _run(matrix: Floats, spans: Floats, share: float) -> None:
    """Append compute launches in a row: the later of the stream's pace and the host's.

    With ``C[i]`` the running sum of spans, the last launch ends at the stream's start plus
    ``C[-1]``, or at the latest of ``queued[i] + C[-1] - C[i-1]``.
    """
    count = len(spans)
    if not count:
        return
    remaining = np.cumsum(spans[::-1])[::-1]
    queued = share * np.arange(1, count + 1)
    late = float(np.max(queued + remaining))
    matrix[COMPUTE] = np.maximum(matrix[COMPUTE] + remaining[0], matrix[HOST] + late)
    matrix[HOST] += share * count
