"""Seconds of the passes of every stage, composed from the parts of its chunks."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from predictor.costs.prediction import Floats, Ints
from predictor.iteration.maxplus import COMPUTE, HOST, chain, essential, power, then
from predictor.iteration.schedules import SPLIT_BACKWARD
from predictor.search.cuts import ChunkCut, Cut
from predictor.search.pieces import BACKWARD, FORWARD, REPLAYED, WEIGHT, Pieces

ROUNDS = 16
"""Micro-batches from which a stage's steady state is read."""


@dataclass(frozen=True, slots=True)
class StagePasses:
    """Seconds of the passes of a cut's distinct stages: by group, stage and clock.

    A stage's chunks are added up. ``forward``, ``backward`` and ``weight`` begin with an idle
    device whose host has nothing queued; ``queued`` has the same of passes that the host queued
    while the stage waited.

    Attributes:
        forward: Of one micro-batch.
        backward: Of one micro-batch.
        weight: Deferred weight gradients; zero where the backward pass makes them.
        period: What a micro-batch adds to a stage that never waits, its host running ahead.
        queue: What it adds to the host.
        queued: Forward, backward and weight seconds of the device alone, on a last axis.
        families: Seconds of a micro-batch by operator family, on a last axis.
    """

    forward: Floats
    backward: Floats
    weight: Floats
    period: Floats
    queue: Floats
    queued: Floats
    families: Floats

    def run_ahead(self) -> "StagePasses":
        """The passes of a stage whose host never waits for another stage."""
        forward, backward, weight = np.moveaxis(self.queued, -1, 0)
        return replace(self, forward=forward, backward=backward, weight=weight)

    def accumulating(self, seconds: Floats, host_seconds: Floats) -> "StagePasses":
        """With what every micro-batch adds to its backward pass, by layout and stage."""
        seconds, host_seconds = seconds[:, :, None], host_seconds[:, :, None]
        period = np.maximum(self.period + seconds, self.queue + host_seconds)
        queued = self.queued + seconds[..., None] * np.array([0.0, 1.0, 0.0])
        return replace(self, backward=self.backward + seconds, period=period, queued=queued)

    def take(self, groups: Any) -> "StagePasses":  # noqa: ANN401 - places or a mask
        """Those of some groups, in their order."""
        return StagePasses(*(getattr(self, each.name)[groups] for each in fields(self)))


class Composer:
    """Composes chunks out of parts; powers and chunks are kept."""

    def __init__(self, pieces: Pieces) -> None:
        """Take the parts of all groups."""
        kept = essential(pieces.matrix) if len(pieces.matrix) else np.array([0, 1])
        self._pieces = pieces
        self._matrix = np.ascontiguousarray(pieces.matrix[:, :, kept[:, None], kept])
        self._powers: dict[tuple[int, int, int], Floats] = {}

    def passes(self, cut: Cut, groups: Ints) -> StagePasses:
        """Seconds of a cut's stages for some groups."""
        split = cut.schedule in SPLIT_BACKWARD
        known: dict[ChunkCut, tuple[Floats, ...]] = {}
        columns: list[list[Floats]] = [[] for _ in fields(StagePasses)]
        for stage in cut.holds:
            mine = []
            for chunk in stage.chunks:
                if chunk not in known:
                    known[chunk] = self._chunk(chunk, groups, split=split)
                mine.append(known[chunk])
            whole = chain([matrix for each in mine for matrix in each[4:]])
            values = [sum(each[place] for each in mine) for place in range(3)]
            values += [*_rates(whole), sum(each[3] for each in mine)]
            values.append(self._families(stage.chunks, groups, split=split))
            for column, value in zip(columns, values, strict=True):
                column.append(np.asarray(value))
        return StagePasses(*(np.stack(column, axis=1) for column in columns))

    def _chunk(self, chunk: ChunkCut, groups: Ints, *, split: bool) -> tuple[Floats, ...]:
        """Seconds of a chunk's passes from rest, those of the device alone, and their matrices."""
        order = self._order(chunk)
        forward = self._chained([(part, FORWARD, count) for part, _, count in order], groups)
        back = [(part, REPLAYED if again else BACKWARD, n) for part, again, n in reversed(order)]
        backward = self._chained(back, groups)
        matrices = [forward, backward]
        if split:
            matrices.append(
                self._chained([(part, WEIGHT, count) for part, _, count in reversed(order)], groups)
            )
        seconds = [matrix[..., COMPUTE, :].max(axis=-1) for matrix in matrices]
        alone = [matrix[..., COMPUTE, COMPUTE] for matrix in matrices]
        if not split:
            seconds.append(np.zeros_like(seconds[0]))
            alone.append(seconds[-1])
        return (*seconds, np.stack(alone, axis=-1), *matrices)

    def _order(self, chunk: ChunkCut) -> list[tuple[int, bool, int]]:
        parts = self._pieces.place.shape[1]
        order = [(piece.kind, piece.replayed, piece.count) for piece in chunk.pieces]
        if chunk.embedding:
            order.insert(0, (parts - 2, False, 1))
        if chunk.head:
            order.append((parts - 1, False, 1))
        return [entry for entry in order if entry[2]]

    def _chained(self, entries: Sequence[tuple[int, int, int]], groups: Ints) -> Floats:
        if not entries:
            size = self._matrix.shape[-1]
            return power(np.zeros((len(groups), self._matrix.shape[1], size, size)), 0)
        return chain([self._power(*entry)[groups] for entry in entries])

    def _power(self, part: int, kind: int, times: int) -> Floats:
        key = (part, kind, times)
        if key not in self._powers:
            self._powers[key] = power(self._matrix[self._pieces.place[:, part, kind]], times)
        return self._powers[key]

    def _families(self, chunks: Sequence[ChunkCut], groups: Ints, *, split: bool) -> Floats:
        place, families = self._pieces.place[groups], self._pieces.families
        total = np.zeros((len(groups), *families.shape[1:]))
        for chunk in chunks:
            for part, again, count in self._order(chunk):
                kinds = [FORWARD, REPLAYED if again else BACKWARD, *([WEIGHT] if split else [])]
                for kind in kinds:
                    total += count * families[place[:, part, kind]]
        return total


def _rates(whole: Floats) -> tuple[Floats, Floats]:
    """Seconds that a repetition adds to the compute stream and to the host, once settled."""
    once = power(whole, ROUNDS)
    more = then(once, once) - np.where(np.isfinite(once), once, 0.0)
    return more[..., COMPUTE, COMPUTE] / ROUNDS, more[..., HOST, HOST] / ROUNDS
