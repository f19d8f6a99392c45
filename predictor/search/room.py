"""What the stages of every layout hold, and the memory of the fullest one.

Memory is the stack's own formula over arrays: layouts whose micro-batches differ in number and size
alone share a call, one element for each layout and distinct stage.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from itertools import product
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from predictor.case import Model
from predictor.costs.prediction import Floats, Ints
from predictor.iteration.dimensions import layers_of
from predictor.iteration.groups import Group
from predictor.iteration.layer import Layer
from predictor.iteration.shape import held_by
from predictor.iteration.stack import Stack
from predictor.iteration.step import Block, Chunk, Stage, StepShape
from predictor.search.cuts import Cut, StageCut
from predictor.search.flight import in_flight
from predictor.search.menu import MENUS
from predictor.search.shapes import Shapes, distinct
from predictor.search.space import Space

DEGREES: Final = ("tensor_parallel", "expert_parallel", "expert_tensor_parallel")
ALIKE: Final = (*DEGREES, "sequence_parallel", "recompute")
STATES: Final = ("parameters", "gradients", "optimizer states")
ROLES: Final = ((False, False), (True, False), (False, True), (True, True))
"""Whether a stage holds the input table, and the head."""


@lru_cache(maxsize=1024)
def kinds_of(model: Model, tensor: int, expert: int, expert_tensor: int) -> tuple[Layer, ...]:
    """The kinds of layers that a rank has, from the bottom."""
    row = layers_of(
        model, tensor_parallel=tensor, expert_parallel=expert, expert_tensor_parallel=expert_tensor
    )
    return tuple(dict.fromkeys(row))


@dataclass(frozen=True, slots=True)
class Held:
    """What a rank of each layout's distinct stages holds; by layout and stage.

    Attributes:
        dense: Parameters outside routed experts.
        experts: Parameters of routed experts.
        tensors: Parameter tensors.
        owned: Parameters whose optimizer states the rank keeps.
    """

    dense: Ints
    experts: Ints
    tensors: Ints
    owned: Ints

    def take(self, places: tuple[Ints, Ints]) -> "Held":
        """That of some layouts and stages."""
        return Held(*(getattr(self, each.name)[places] for each in fields(self)))


@dataclass(frozen=True)
class Layouts:
    """Layouts with the cuts of the model that they use.

    Stages of a layout beyond those that its cut tells apart are copies of the first.
    """

    space: Space
    stack: Stack
    shapes: Shapes
    cuts: Sequence[Cut]
    cut: Ints

    def __len__(self) -> int:
        return len(self.space)

    def take(self, rows: Any) -> "Layouts":  # noqa: ANN401 - places or a mask
        """Some of the layouts."""
        return replace(self, space=self.space.take(rows), cut=self.cut[rows])

    def column(self, name: str) -> Ints:
        """One column of the space."""
        return self.space.columns[name]

    @cached_property
    def most(self) -> int:
        """Distinct stages of the cut that has the most."""
        return max(len(cut.holds) for cut in self.cuts)

    @cached_property
    def role(self) -> Ints:
        """Place in ``ROLES`` of the distinct stages, by cut."""
        return np.array(
            [[ROLES.index((s.embedding, s.head)) for s in self._stages(cut)] for cut in self.cuts]
        )

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
        counts = np.array([[self._parts(s) for s in self._stages(cut)] for cut in self.cuts])
        rows, pair = distinct([self.cut, which])
        held = np.einsum("njp,npq->njq", counts[self.cut[rows]], units[which[rows]])[pair]
        dense, experts, tensors = np.moveaxis(held, 2, 0)
        shards, expert_shards = (each[:, None] for each in self.shards)
        owned = -(-dense // shards) - (-experts // expert_shards)
        return Held(dense, experts, tensors, owned)

    def kinds(self, row: int) -> tuple[Layer, ...]:
        """The kinds of layers that a rank of a layout has."""
        return kinds_of(self.space.case.model, *(int(self.column(name)[row]) for name in DEGREES))

    def _stages(self, cut: Cut) -> list[StageCut]:
        return [*cut.holds, *[cut.holds[0]] * (self.most - len(cut.holds))]

    def _parts(self, stage: StageCut) -> list[int]:
        """Layers of each kind, and a one in the place of the role."""
        kinds = len(self.kinds(0))
        counts = [0] * (kinds + len(ROLES))
        for chunk in stage.chunks:
            for piece in chunk.pieces:
                counts[piece.kind] += piece.count
        counts[kinds + ROLES.index((stage.embedding, stage.head))] = 1
        return counts

    def _units(self, row: int) -> list[tuple[int, int, int]]:
        """What one layer of each kind holds, and the tables and norms of each role."""
        shape = self.shapes.of(self.space, row)
        chunks = [_chunk((Block(layer=kind, count=1),), *ROLES[0]) for kind in self.kinds(row)]
        chunks += [_chunk((), *role) for role in ROLES]
        parts = [held_by(self.space.case.model, shape, (chunk,)) for chunk in chunks]
        return [(part.dense, part.experts, part.tensors) for part in parts]


@dataclass(frozen=True, slots=True)
class Room:
    """Peak memory of the fullest rank of every layout, bytes.

    Attributes:
        allocated: The allocator's peak.
        reserved: With fragmentation, context and buffers: what has to fit.
        states: Of the peak, weights, gradients and optimizer states.
    """

    allocated: Floats
    reserved: Floats
    states: Floats

    def take(self, rows: Any) -> "Room":  # noqa: ANN401 - places or a mask
        """That of some layouts."""
        return Room(self.allocated[rows], self.reserved[rows], self.states[rows])

    @classmethod
    def joined(cls, parts: "Sequence[Room]", rows: Sequence[Ints]) -> "Room":
        """That of all layouts, from parts of them and the rows of each."""
        order = np.argsort(np.concatenate(rows))
        columns = [[getattr(part, each.name) for part in parts] for each in fields(cls)]
        return cls(*(np.concatenate(column)[order] for column in columns))


def room_of(layouts: Layouts) -> Room:
    """Peak memory of every layout."""
    alone = layouts.column("pipeline_parallel") == 1
    several = alone & (layouts.column("num_microbatches") > 1) & MENUS[layouts.stack.name].holds
    split = np.where(
        layouts.space.is_("sharding", "none", "optimizer"), -1, layouts.column("sharding")
    )
    which = distinct([*(layouts.column(name) for name in ALIKE), several, split])[1]
    order = np.argsort(which, kind="stable")
    kept, held = _layers_in_flight(layouts), layouts.held
    found = np.zeros((3, len(layouts)))
    for rows in np.split(order, np.flatnonzero(np.diff(which[order])) + 1):
        found[:, rows] = _fullest(layouts, rows, held, kept)
    return Room(*found)


def _fullest(layouts: Layouts, rows: Ints, held: Held, kept: Floats) -> Floats:
    """Allocated, reserved and states' bytes of the fullest stage of some alike layouts."""
    role = layouts.role[layouts.cut[rows]]
    found = np.zeros((3, *role.shape))
    step, layers = layouts.shapes.of(layouts.space, int(rows[0])), layouts.kinds(int(rows[0]))
    for place in range(len(ROLES)):
        at, stage = np.nonzero(role == place)
        if len(at):
            mine = rows[at]
            alike = replace(
                step,
                batch=cast("int", layouts.column("micro_batch_size")[mine]),
                context=Group(cast("int", layouts.column("context_parallel")[mine])),
            )
            found[:, at, stage] = _stage_memory(
                layouts.stack,
                (alike, layers),
                ROLES[place],
                held.take((mine, stage)),
                kept[mine, stage],
            )
    fullest = np.argmax(found[1], axis=1)
    return np.asarray(found[:, np.arange(len(rows)), fullest])


def _stage_memory(
    stack: Stack,
    alike: tuple[StepShape, tuple[Layer, ...]],
    role: tuple[bool, bool],
    held: Held,
    counts: Floats,
) -> Floats:
    """Allocated, reserved and states' bytes of stages of one role, alike but for counts."""
    shape, layers = alike
    blocks = []
    for kind, layer in enumerate(layers):
        for replayed in (False, True):
            count = counts[:, kind, int(replayed)]
            if count.any():
                blocks.append(Block(layer=layer, count=cast("int", count), replayed=replayed))
    stage = Stage(
        index=0 if role[0] else 1,
        shape=shape,
        chunks=(_chunk(tuple(blocks), *role),),
        parameters=cast("int", held.dense + held.experts),
        expert_parameters=cast("int", held.experts),
        owned_parameters=cast("int", held.owned),
        tensors=cast("int", held.tensors),
    )
    memory = stack.memory(stage, (1,))
    states = sum(memory.parts[name] for name in STATES)
    sizes = (memory.allocated_bytes, memory.reserved_bytes, states)
    return np.stack([np.broadcast_to(size, held.dense.shape) for size in sizes])


def _chunk(blocks: tuple[Block, ...], embedding: bool, head: bool) -> Chunk:  # noqa: FBT001
    return Chunk(blocks=blocks, embedding=embedding, head=head)


def _layers_in_flight(layouts: Layouts) -> Floats:
    """Layers whose activations a stage keeps at once: by layout, stage, kind and replay."""
    kinds = len(layouts.kinds(0))
    kept = np.zeros((len(layouts), layouts.most, kinds, 2))
    for number, cut in enumerate(layouts.cuts):
        rows = np.flatnonzero(layouts.cut == number)
        if not len(rows):
            continue
        for place in range(layouts.most):
            stage = cut.holds[place] if place < len(cut.holds) else cut.holds[0]
            counts = np.zeros((len(stage.chunks), kinds, 2))
            for chunk, each in zip(counts, stage.chunks, strict=True):
                for piece in each.pieces:
                    chunk[piece.kind, int(piece.replayed)] += piece.count
            batches = layouts.column("num_microbatches")[rows]
            flight = in_flight(cut.schedule, cut.stages, cut.chunks, stage.first, batches)
            kept[rows, place] = np.tensordot(flight, counts, axes=1)
    return kept
