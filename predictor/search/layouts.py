"""Layouts of a space with the cuts of the model that they use, and what their stages hold."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from itertools import product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from predictor.case import Model
from predictor.costs.prediction import Ints
from predictor.iteration.dimensions import adapters_of, layers_of
from predictor.iteration.implementations import load as load_stack
from predictor.iteration.layer import Layer
from predictor.iteration.layer_parts import Adapters
from predictor.iteration.shape import held_by, replays_of
from predictor.iteration.stack import Stack
from predictor.iteration.step import Block, Chunk
from predictor.search.cuts import Cut, StageCut, cut_of
from predictor.search.shapes import Shapes, distinct
from predictor.search.space import Space

DEGREES: Final = ("tensor_parallel", "expert_parallel", "expert_tensor_parallel")
CUTTING: Final = ("pipeline_parallel", "virtual_pipeline", "schedule", "recompute")
ROLES: Final = ((False, False), (True, False), (False, True), (True, True))
"""Whether a stage holds the input table, and the head."""


@lru_cache(maxsize=1024)
def kinds_of(
    model: Model,
    tensor: int = 1,
    expert: int = 1,
    expert_tensor: int = 1,
    *,
    adapters: Adapters | None = None,
) -> tuple[Layer, ...]:
    """The kinds of layers that a rank has, from the bottom."""
    row = layers_of(
        model,
        tensor_parallel=tensor,
        expert_parallel=expert,
        expert_tensor_parallel=expert_tensor,
        adapters=adapters,
    )
    return tuple(dict.fromkeys(row))


@dataclass(frozen=True, slots=True)
class Held:
    """What a rank of each layout's distinct stages holds; by layout and stage.

    Attributes:
        dense: Parameters outside routed experts.
        experts: Parameters of routed experts.
        tensors: Parameter tensors that have gradients.
        trained: Parameters outside routed experts that have gradients.
        owned: Parameters whose optimizer states the rank keeps.
    """

    dense: Ints
    experts: Ints
    tensors: Ints
    trained: Ints
    owned: Ints

    def take(self, places: tuple[Ints, Ints]) -> "Held":
        """That of some layouts and stages."""
        return Held(*(getattr(self, each.name)[places] for each in fields(self)))


@dataclass(frozen=True)
class CutTable:
    """All cuts of some layouts, with as many stages each: beyond its own, a cut has its first.

    Attributes:
        cuts: The cuts.
        kinds: Kinds of layers of the model.
    """

    cuts: tuple[Cut, ...]
    kinds: int

    @cached_property
    def stages(self) -> list[list[StageCut]]:
        """Distinct stages by cut."""
        most = max(len(cut.holds) for cut in self.cuts)
        return [[*cut.holds, *[cut.holds[0]] * (most - len(cut.holds))] for cut in self.cuts]

    @cached_property
    def role(self) -> Ints:
        """Place in ``ROLES``, by cut and stage."""
        return np.array([[ROLES.index((s.embedding, s.head)) for s in row] for row in self.stages])

    @cached_property
    def parts(self) -> Ints:
        """Layers of each kind, and a one in the place of the role; by cut and stage."""
        counts = np.zeros((*self.role.shape, self.kinds + len(ROLES)), dtype=np.int64)
        for row, stages in zip(counts, self.stages, strict=True):
            for found, stage in zip(row, stages, strict=True):
                for chunk in stage.chunks:
                    for piece in chunk.pieces:
                        found[piece.kind] += piece.count
        counts[(*np.indices(self.role.shape), self.kinds + self.role)] = 1
        return counts


@dataclass(frozen=True)
class Layouts:
    """Layouts with the cuts of the model that they use.

    Stages of a layout beyond those that its cut tells apart are copies of the first.
    """

    space: Space
    stack: Stack
    shapes: Shapes
    table: CutTable
    cut: Ints

    def __len__(self) -> int:
        return len(self.space)

    def take(self, rows: Any) -> "Layouts":  # noqa: ANN401 - places or a mask
        """Some of the layouts."""
        return replace(self, space=self.space.take(rows), cut=self.cut[rows])

    def column(self, name: str) -> Ints:
        """One column of the space."""
        return self.space.columns[name]

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """Cuts by number."""
        return self.table.cuts

    @cached_property
    def role(self) -> Ints:
        """Place in ``ROLES``, by layout and stage."""
        return self.table.role[self.cut]

    @cached_property
    def shards(self) -> tuple[Ints, Ints]:
        """Ranks that split the states outside experts, and those in experts."""
        sharded = ~self.space.is_("sharding", "none")
        split = self.column("data_parallel") * self.column("context_parallel")
        group = self.space.case.plan.sharding_group
        split = split if group is None else np.minimum(split, group)
        stage = self.space.case.cluster.num_gpus // self.column("pipeline_parallel")
        folded = self.column("expert_parallel") * self.column("expert_tensor_parallel")
        return np.where(sharded, split, 1), np.where(sharded, stage // folded, 1)

    @cached_property
    def _matters(self) -> tuple[NDArray[np.bool_], ...]:
        """Where each overlap makes a difference: sums, gathers, messages."""
        several = self.column("data_parallel") * self.column("context_parallel") > 1
        several &= ~self.space.is_("sharding", "parameters")
        split = several & ~self.space.is_("sharding", "none")
        return several, split, self.column("pipeline_parallel") > 1

    def varied(self, chosen: Sequence[bool | None]) -> NDArray[np.bool_]:
        """Layouts for which these overlaps differ from those that came before."""
        wanted = np.ones(len(self), dtype=bool)
        flags = self.space.flags.values()
        for value, values, matters in zip(chosen, flags, self._matters, strict=True):
            if value != values[0]:
                wanted &= matters
        return wanted

    @cached_property
    def variants(self) -> Ints:
        """Plans of each layout: combinations of overlaps that make a difference."""
        chosen = product(*self.space.flags.values())
        total: Ints = np.sum([self.varied(each) for each in chosen], axis=0)
        return total

    @cached_property
    def held(self) -> Held:
        """What each layout's stages hold: sums over layers, priced once for each kind."""
        first, which = distinct([self.column(name) for name in DEGREES])
        units = np.array([self._units(int(row)) for row in first])  # degrees, parts, 3
        rows, pair = distinct([self.cut, which])
        parts = self.table.parts[self.cut[rows]]
        held = np.einsum("njp,npq->njq", parts, units[which[rows]])[pair]
        dense, experts, tensors, trained = np.moveaxis(held, 2, 0)
        shards, expert_shards = (each[:, None] for each in self.shards)
        owned = -(-trained // shards) - (-experts // expert_shards)
        return Held(dense, experts, tensors, trained, owned)

    def kinds(self, row: int) -> tuple[Layer, ...]:
        """The kinds of layers that a rank of a layout has."""
        case, degrees = self.space.case, (int(self.column(name)[row]) for name in DEGREES)
        return kinds_of(case.model, *degrees, adapters=adapters_of(case.training))

    def _units(self, row: int) -> list[tuple[int, ...]]:
        """What one layer of each kind holds, and the tables and norms of each role."""
        shape = self.shapes.of(self.space, row)
        layers = [(Block(layer=kind, count=1),) for kind in self.kinds(row)]
        chunks = [Chunk(blocks=blocks, embedding=False, head=False) for blocks in layers]
        chunks += [Chunk(blocks=(), embedding=first, head=last) for first, last in ROLES]
        parts = [held_by(self.space.case.model, shape, (chunk,)) for chunk in chunks]
        return [(part.dense, part.experts, part.tensors, part.trained) for part in parts]


def layouts_of(space: Space, shapes: Shapes | None = None) -> Layouts:
    """Lay the model over the stages of every layout; shapes of the case that are known serve."""
    case = space.case
    stack = load_stack(str(case.implementation))
    shapes = shapes or Shapes(case, stack.vocab_multiple)
    first, which = distinct([space.columns[name] for name in CUTTING])
    cuts: dict[tuple[Any, ...], int] = {}
    number = []
    for row in first:
        stages, chunks, schedule, recompute = (int(space.columns[name][row]) for name in CUTTING)
        kind = space.values["recompute"][recompute]
        replays = replays_of(case, recompute=kind, stages=stages)
        key = stages, chunks, space.values["schedule"][schedule], replays
        number.append(cuts.setdefault(key, len(cuts)))
    table = CutTable(
        tuple(cut_of(case, *key) for key in cuts),
        len(kinds_of(case.model, adapters=adapters_of(case.training))),
    )
    return Layouts(space, stack, shapes, table, np.array(number, dtype=np.int64)[which])
