"""Layouts whose parts are the same: what a micro-batch's launches depend on."""

from functools import cached_property, partial
from typing import Final

import numpy as np

from predictor.costs.prediction import Ints
from predictor.iteration.launches import Segment
from predictor.iteration.layer import Layer
from predictor.iteration.parts import Parts, parts_of
from predictor.iteration.schedules import SPLIT_BACKWARD
from predictor.iteration.step import StepShape
from predictor.search.layouts import Layouts
from predictor.search.menu import MENUS
from predictor.search.shapes import distinct

GROUPED: Final = (
    "tensor_parallel",
    "sequence_parallel",
    "context_parallel",
    "micro_batch_size",
)
EXPERTS: Final = ("expert_parallel", "expert_tensor_parallel")
OF_LAYERS: Final = 2
"""What only layers depend on: overlap of tensor-parallel transfers, what they replay apart."""

Key = tuple[object, ...]


def groups_of(layouts: Layouts) -> tuple[Ints, Ints]:
    """First layout of each group, and the group of each layout."""
    return distinct(keys_of(layouts))


def keys_of(layouts: Layouts) -> list[Ints]:
    """What a micro-batch's launches depend on: of experts first, of layers next, ranks last."""
    space = layouts.space
    of_experts = [layouts.column(name) for name in EXPERTS]
    if space.case.model.moe is not None:  # exchanges over nodes may run beside other chunks
        across = of_experts[0] * of_experts[1] > layouts.shapes.node
        of_experts[1] = 2 * of_experts[1] + (across & (layouts.column("virtual_pipeline") > 1))
    of_layers = [layouts.column("tp_overlap"), space.is_("recompute", "selective")]
    rest = [layouts.column(name) for name in GROUPED]
    split = space.is_("schedule", *SPLIT_BACKWARD)
    stages, sharding = layouts.column("pipeline_parallel"), layouts.column("sharding")
    apart = MENUS[layouts.stack.name].apart & (stages > 1)
    whole = space.is_("sharding", "parameters", "gradients")
    ranks = np.where(whole, stages * (1 + sharding), 0)
    return [*of_experts, *of_layers, *rest, split, apart, ranks]


class Group:
    """Layouts whose parts are the same: one of them, and what tells it from others.

    Attributes:
        layers: Kinds of layers, from the bottom.
        replays: Some of the layouts run layers again.
        split: Weight gradients are deferred.
    """

    def __init__(self, layouts: Layouts, row: int, key: Key, *, replays: bool) -> None:
        """Take one of them, what its parts depend on, and whether any of them replays layers."""
        self.layers = layouts.kinds(row)
        self.replays = replays
        self.split = bool(layouts.space.is_("schedule", *SPLIT_BACKWARD)[row])
        self._layouts, self._row, self._key = layouts, row, key

    def key(self, part: Layer | str) -> Key:
        """What tells a part from those of other groups; split parameters name their ranks."""
        name = self.layers.index(part) if isinstance(part, Layer) else part
        if (isinstance(part, Layer) and part.experts) or self._key[-1]:
            return (name, *self._key)
        begin = len(EXPERTS) + (0 if isinstance(part, Layer) else OF_LAYERS)
        return (name, *self._key[begin:])

    @cached_property
    def _shape(self) -> StepShape:
        return self._layouts.shapes.of(self._layouts.space, self._row)

    @cached_property
    def _parts(self) -> Parts:
        return parts_of(self._layouts.stack, self._shape.of_parts(), split_backward=self.split)

    def waits(self, layer: Layer) -> bool:
        """Whether a lone pass of a layer waits for exchanges that others hide."""
        experts = self._shape.experts
        return layer.experts is not None and experts is not None and experts.overlap is True

    def named(self, part: Layer | str, *, lone: bool) -> list[Segment]:
        """Forward, backward, replayed and deferred segments of a part; it may lack the latter."""
        if isinstance(part, str):
            piece = self._parts.piece(part)
            return [piece.forward, piece.backward, piece.backward, piece.weight]
        made = partial(self._parts.piece, "layer", part, lone=lone)
        piece = made()
        again = made(replayed=True) if self.replays else piece
        return [piece.forward, piece.backward, again.backward, piece.weight]
