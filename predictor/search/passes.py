"""Seconds of the passes of every stage, composed from the parts of its chunks."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby
from typing import Any

import numpy as np

from predictor.costs.prediction import Floats, Ints
from predictor.iteration.maxplus import COMPUTE, HOST, chain, essential, power, then
from predictor.iteration.schedules import SPLIT_BACKWARD
from predictor.search.cuts import ChunkCut, Cut
from predictor.search.pieces import BACKWARD, FORWARD, LONE, REPLAYED, WEIGHT, Pieces

Entries = Sequence[tuple[int, int, int]]
"""Parts, the kind of their pass, and how often each runs."""

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
        lone: What the first forward and the last backward pass take longer, as nothing runs beside
            them that would hide their experts' exchanges: from rest, and the device alone, on a
            last axis.
    """

    forward: Floats
    backward: Floats
    weight: Floats
    period: Floats
    queue: Floats
    queued: Floats
    families: Floats
    lone: Floats

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
    """Composes chunks out of parts, for all groups at once; powers, chunks and stages are kept."""

    def __init__(self, pieces: Pieces) -> None:
        """Take the parts of all groups."""
        kept = essential(pieces.matrix) if len(pieces.matrix) else np.array([0, 1])
        self._pieces = pieces
        self._matrix = np.ascontiguousarray(pieces.matrix[:, :, kept[:, None], kept].T).T
        self._powers: dict[tuple[int, int, int], Floats] = {}
        self._chunks: dict[tuple[ChunkCut, bool], _Chunk] = {}

    def passes(self, cuts: Sequence[Cut], groups: Sequence[Ints]) -> StagePasses:
        """Seconds of the stages of some cuts, each for some groups, one cut's after another's.

        The cuts are of one schedule and have as many distinct stages.
        """
        split = cuts[0].schedule in SPLIT_BACKWARD
        columns = []
        for place in range(len(cuts[0].holds)):
            pairs = zip((cut.holds[place].chunks for cut in cuts), groups, strict=True)
            found = [self._stage(chunks, mine, split=split) for chunks, mine in pairs]
            rates = _rates(np.concatenate([whole.T for whole, _ in found], axis=-1).T)
            summed = [np.concatenate(each) for each in zip(*(s for _, s in found), strict=True)]
            columns.append([*summed[:3], *rates, *summed[3:]])
        return StagePasses(*(np.stack(each, axis=1) for each in zip(*columns, strict=True)))

    def _stage(
        self, chunks: tuple[ChunkCut, ...], groups: Ints, *, split: bool
    ) -> tuple[Floats, list[Floats]]:
        """What a stage runs for a micro-batch, and the other fields of :class:`StagePasses`."""
        alike = [(self._chunk(chunk, split=split), len([*same])) for chunk, same in groupby(chunks)]
        whole = chain([power(_side_by_side(chunk.matrix, groups), n) for chunk, n in alike])
        summed = [
            sum(n * value[groups] for value, n in each)
            for each in zip(
                *([(value, n) for value in chunk.values] for chunk, n in alike), strict=True
            )
        ]
        return whole, summed

    def _chunk(self, chunk: ChunkCut, *, split: bool) -> "_Chunk":
        key = chunk, split
        if key not in self._chunks:
            self._chunks[key] = self._composed(chunk, split=split)
        return self._chunks[key]

    def _composed(self, chunk: ChunkCut, *, split: bool) -> "_Chunk":
        order = self._order(chunk)
        back = [(part, REPLAYED if again else BACKWARD, n) for part, again, n in reversed(order)]
        kinds = [[(part, FORWARD, n) for part, _, n in order], back]
        if split:
            kinds.append([(part, WEIGHT, n) for part, _, n in reversed(order)])
        matrices = [self._chained(entries) for entries in kinds]
        seconds = [_from_rest(matrix) for matrix in matrices]
        if chunk.head:  # its backward pass follows at once: no message is waited for in between
            seconds[1] = _from_rest(then(*matrices[:2])) - seconds[0]
        alone = [matrix[..., COMPUTE, COMPUTE] for matrix in matrices]
        if not split:
            seconds.append(np.zeros_like(seconds[0]))
            alone.append(seconds[-1])
        families = self._families([entry for entries in kinds for entry in entries])
        values = [*seconds, np.stack(alone, axis=-1), families, self._waiting(kinds[:2], matrices)]
        return _Chunk(chain(matrices), values)

    def _waiting(self, kinds: Sequence[Entries], matrices: Sequence[Floats]) -> Floats:
        """What forward and backward passes take longer where nothing hides what they wait for."""
        longer = np.zeros((*matrices[0].shape[:2], 2))
        for entries, usual in zip(kinds, matrices, strict=False):
            lone = [(part, LONE + kind, n) for part, kind, n in entries]
            if self._differ(entries, lone):
                waiting = self._chained(lone)
                longer[..., 0] += _from_rest(waiting) - _from_rest(usual)
                longer[..., 1] += waiting[..., COMPUTE, COMPUTE] - usual[..., COMPUTE, COMPUTE]
        return longer

    def _differ(self, some: Entries, others: Entries) -> bool:
        place = self._pieces.place
        pairs = zip(some, others, strict=True)
        return any(
            (place[:, part, kind] != place[:, part, other]).any()
            for (part, kind, _), (_, other, _) in pairs
        )

    def _order(self, chunk: ChunkCut) -> list[tuple[int, bool, int]]:
        parts = self._pieces.place.shape[1]
        order = [(piece.kind, piece.replayed, piece.count) for piece in chunk.pieces]
        if chunk.embedding:
            order.insert(0, (parts - 2, False, 1))
        if chunk.head:
            order.append((parts - 1, False, 1))
        return [entry for entry in order if entry[2]]

    def _chained(self, entries: Entries) -> Floats:
        if not entries:
            return power(_side_by_side(self._matrix, self._pieces.place[:, 0, FORWARD]), 0)
        return chain([self._power(*entry) for entry in entries])

    def _power(self, part: int, kind: int, times: int) -> Floats:
        key = (part, kind, times)
        if key not in self._powers:
            self._powers[key] = power(
                _side_by_side(self._matrix, self._pieces.place[:, part, kind]), times
            )
        return self._powers[key]

    def _families(self, entries: Entries) -> Floats:
        place, families = self._pieces.place, self._pieces.families
        total = np.zeros((len(place), *families.shape[1:]))
        for part, kind, count in entries:
            total += count * families[place[:, part, kind]]
        return total


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A chunk of every group.

    Attributes:
        matrix: Of its passes, one after another.
        values: Seconds of its forward, backward and deferred passes from rest; those of the device
            alone, on a last axis; seconds by operator family, on a last axis; what lone passes take
            longer.
    """

    matrix: Floats
    values: list[Floats]


def _side_by_side(matrices: Floats, places: Ints) -> Floats:
    """Some matrices, laid so that an operation on one entry of all of them reads on in memory."""
    return matrices.T.take(places, axis=-1).T


def _from_rest(matrix: Floats) -> Floats:
    """Seconds until the compute stream is done, host and streams idle before."""
    return np.asarray(matrix[..., COMPUTE, :].max(axis=-1))


def _rates(whole: Floats) -> tuple[Floats, Floats]:
    """Seconds that a repetition adds to the compute stream and to the host, once settled."""
    once = power(whole, ROUNDS)
    more = then(once, once) - np.where(np.isfinite(once), once, 0.0)
    return more[..., COMPUTE, COMPUTE] / ROUNDS, more[..., HOST, HOST] / ROUNDS
