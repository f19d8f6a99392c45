"""The memory of the fullest stage of every layout.

Memory is the stack's own formula over arrays: layouts whose micro-batches differ in number and size
alone share a call, one element for each layout and distinct stage.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, cast

import numpy as np

from predictor.costs.prediction import Floats, Ints
from predictor.iteration.groups import Group
from predictor.iteration.layer import Layer
from predictor.iteration.stack import Stack
from predictor.iteration.step import Block, Chunk, Stage, StepShape
from predictor.search.flight import in_flight
from predictor.search.layouts import DEGREES, ROLES, CutTable, Held, Layouts
from predictor.search.menu import MENUS
from predictor.search.shapes import distinct

ALIKE: Final = (*DEGREES, "sequence_parallel", "recompute")
STATES: Final = ("parameters", "gradients", "optimizer states")


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
    role = layouts.role[rows]
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
        trained_parameters=cast("int", held.trained + held.experts),
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
    """Layers whose activations a stage keeps at once: by layout, stage, kind and replay.

    They depend on the cut and on how many micro-batches there are, of which a space has few.
    """
    counts, which = np.unique(layouts.column("num_microbatches"), return_inverse=True)
    return np.asarray(_kept(layouts.table, counts)[layouts.cut, which])


def _kept(table: CutTable, micro_batches: Ints) -> Floats:
    """The same by cut, number of micro-batches, stage, kind and replay."""
    shape = len(micro_batches), table.role.shape[1], table.kinds, 2
    kept = np.zeros((len(table.cuts), *shape))
    for found, cut, stages in zip(kept, table.cuts, table.stages, strict=True):
        for place, stage in enumerate(stages):
            layers = np.zeros((len(stage.chunks), table.kinds, 2))
            for chunk, each in zip(layers, stage.chunks, strict=True):
                for piece in each.pieces:
                    chunk[piece.kind, int(piece.replayed)] += piece.count
            flight = in_flight(cut.schedule, cut.stages, cut.chunks, stage.first, micro_batches)
            found[:, place] = np.tensordot(flight, layers, axes=1)
    return kept
