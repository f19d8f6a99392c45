"""How a model's layers lie on the stages of a pipeline, the same for all layouts of as many.

Stages that hold the same are told once, with how many there are and where the first and the last
of them stand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, cast

import numpy as np

from predictor.case import Case, Model
from predictor.costs.prediction import Ints
from predictor.iteration.dimensions import adapters_of, layers_of
from predictor.iteration.layer import Layer
from predictor.iteration.layer_parts import Adapters
from predictor.iteration.shape import chunks_of


@dataclass(frozen=True, slots=True)
class Piece:
    """Layers of one kind in a row: place of the kind, whether they replay, and how many."""

    kind: int
    replayed: bool
    count: int


@dataclass(frozen=True, slots=True)
class ChunkCut:
    """What one chunk runs, from the bottom."""

    pieces: tuple[Piece, ...]
    embedding: bool
    head: bool


@dataclass(frozen=True, slots=True)
class StageCut:
    """Stages that hold the same.

    Attributes:
        chunks: What they run.
        first: Place of the first of them in the pipeline.
        last: Place of the last of them.
        count: How many there are.
    """

    chunks: tuple[ChunkCut, ...]
    first: int
    last: int
    count: int

    @property
    def embedding(self) -> bool:
        """They hold the input table."""
        return any(chunk.embedding for chunk in self.chunks)

    @property
    def head(self) -> bool:
        """They hold the head."""
        return any(chunk.head for chunk in self.chunks)


@dataclass(frozen=True, slots=True)
class Cut:
    """One way to lay a model over stages.

    Attributes:
        stages: Of the pipeline.
        chunks: Of a stage.
        schedule: Order of the passes.
        holds: The distinct stages, in the order of their first places.
    """

    stages: int
    chunks: int
    schedule: str
    holds: tuple[StageCut, ...]


@dataclass(frozen=True, slots=True)
class Cuts:
    """The cuts of some layouts, all of one schedule and with as many distinct stages.

    Attributes:
        schedule: Of all of them; with one chunk a stage, or of all with several.
        stages: By layout.
        chunks: Of a stage, by layout.
        count: By layout and distinct stage, how many there are.
        first: Place of the first of them in the pipeline.
        last: Place of the last of them.
    """

    schedule: str
    stages: Ints
    chunks: Ints
    count: Ints
    first: Ints
    last: Ints

    @classmethod
    def of(cls, cuts: Sequence[Cut], which: Ints) -> "Cuts":
        """Columns of the cut of each layout."""
        table = np.array([(cut.stages, cut.chunks) for cut in cuts])[which]
        holds = [[(h.count, h.first, h.last) for h in cut.holds] for cut in cuts]
        columns = np.moveaxis(np.array(holds)[which], 2, 0)
        return cls(cuts[0].schedule, *table.T, *columns)

    @property
    def alone(self) -> bool:
        """There is one stage: nobody waits for another."""
        return bool(self.stages[0] == 1)


@lru_cache(maxsize=1024)
def cut_of(case: Case, stages: int, chunks: int, schedule: str, replays: int) -> Cut:
    """Lay the model of a resolved case over stages as the framework does.

    Args:
        case: The case; its own plan and recomputation do not count.
        stages: Of the pipeline.
        chunks: Of a stage.
        schedule: Order of the passes.
        replays: Layers of a chunk that run again in the backward pass, from its first one on.
    """
    both_ways = schedule == "dualpipe"
    if 0 < replays < len(layers_of(case.model)):
        held = _laid(case, stages, chunks, both_ways=both_ways, replays=replays)
    else:
        held = _laid(case, stages, chunks, both_ways=both_ways)
        held = _replayed(held) if replays else held
    found: dict[tuple[ChunkCut, ...], list[int]] = {}
    for index, mine in enumerate(held):
        found.setdefault(mine, []).append(index)
    holds = [StageCut(held, places[0], places[-1], len(places)) for held, places in found.items()]
    return Cut(stages, chunks, schedule, tuple(holds))


@lru_cache(maxsize=256)
def _laid(
    case: Case, stages: int, chunks: int, *, both_ways: bool, replays: int = 0
) -> tuple[tuple[ChunkCut, ...], ...]:
    """Chunks of every stage."""
    plan = replace(
        case.plan,
        pipeline_parallel=stages,
        virtual_pipeline=chunks,
        schedule=cast("Any", "dualpipe" if both_ways else None),
        data_parallel=case.cluster.num_gpus // stages,
    )
    training = replace(
        case.training,
        recompute=cast("Any", "full" if replays else "none"),
        recompute_layers=cast("Any", replays or None),
        global_batch_size=case.cluster.num_gpus // stages,
    )
    kinds = _kinds(case.model, adapters_of(case.training))
    return tuple(
        tuple(
            ChunkCut(
                tuple(Piece(kinds[b.layer], b.replayed, b.count) for b in chunk.blocks),
                chunk.embedding,
                chunk.head,
            )
            for chunk in mine
        )
        for mine in chunks_of(replace(case, plan=plan, training=training))
    )


@lru_cache(maxsize=256)
def _kinds(model: Model, adapters: Adapters | None) -> Mapping[Layer, int]:
    """Kinds of layers of a model and their places."""
    row = layers_of(model, adapters=adapters)
    return {kind: place for place, kind in enumerate(dict.fromkeys(row))}


def _replayed(held: tuple[tuple[ChunkCut, ...], ...]) -> tuple[tuple[ChunkCut, ...], ...]:
    return tuple(
        tuple(
            ChunkCut(
                tuple(Piece(piece.kind, replayed=True, count=piece.count) for piece in each.pieces),
                each.embedding,
                each.head,
            )
            for each in mine
        )
        for mine in held
    )
