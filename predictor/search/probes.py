"""Distinct stages of layouts, by what replicas add to a step: one stands for all alike ones."""

from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from predictor.iteration.places import Places
from predictor.iteration.stack import Replicas
from predictor.iteration.step import Block, Chunk, Stage, StepShape
from predictor.search.layouts import ROLES, Layouts
from predictor.search.shapes import distinct

if TYPE_CHECKING:
    from predictor.costs.prediction import Ints


class Probes:
    """Distinct stages of some layouts.

    Attributes:
        layouts: Whose stages they are.
        stages: The distinct ones.
        which: Place among them, by layout and stage.
    """

    def __init__(self, layouts: Layouts) -> None:
        """Tell the stages apart."""
        self.layouts = layouts
        held = layouts.held
        shape = held.dense.shape
        names = ("tensor_parallel", "context_parallel", "pipeline_parallel", "sharding")
        experts = ("expert_parallel", "expert_tensor_parallel")
        rows = [layouts.column(name) for name in (*names, *experts)]
        keys = [np.repeat(row, shape[1]) for row in rows]
        keys += [held.dense.ravel(), held.experts.ravel(), layouts.role.ravel()]
        first, which = distinct(keys)
        self.which: Ints = which.reshape(shape)
        self.stages = [self._of(*divmod(int(place), shape[1])) for place in first]

    def take(self, rows: Any) -> "Probes":  # noqa: ANN401 - places or a mask
        """Those of some layouts; stages keep their places."""
        taken = copy(self)
        taken.layouts, taken.which = self.layouts.take(rows), self.which[rows]
        return taken

    def overlapped(self, reduce: bool | None, gather: bool | None) -> tuple[Any, Any]:  # noqa: FBT001
        """Which layouts and stages run their sums and gathers beside passes, under some flags."""
        layouts = self.layouts
        depths = [layouts.column(name) for name in ("pipeline_parallel", "virtual_pipeline")]
        keys = [layouts.column("sharding"), *(depth == 1 for depth in depths)]
        first, which = distinct(keys)
        found = np.zeros((len(first), 2), dtype=bool)
        for place, row in enumerate(first):
            shape = replace(
                layouts.shapes.of(layouts.space, int(row)),
                sharding=layouts.space.values["sharding"][int(keys[0][row])],
                stages=int(depths[0][row]),
                chunks=int(depths[1][row]),
                overlap_grad_reduce=reduce,
                overlap_param_gather=gather,
            )
            answer = layouts.stack.replicas(self._stage(int(row), 0, shape))
            found[place] = answer.overlap_reduce, answer.overlap_gather
        return found[which, 0], found[which, 1]

    def aligned(self, chunks: int) -> bool:
        """Whether so many chunks' parameters, if any are gathered, arrive beside the chunk before.

        Chunks are of those that shard the optimizer alone; other layouts gather none this way.
        """
        probe = self.stages[0]
        shape = replace(probe.shape, chunks=chunks, sharding="optimizer")
        return self.layouts.stack.replicas(replace(probe, shape=shape)).aligned_gather

    def replicas(self, stage: Stage, *, overlapped: bool) -> Replicas:
        """How one of the stages agrees with its replicas, beside its passes or behind them."""
        shape = replace(
            stage.shape, overlap_grad_reduce=overlapped, overlap_param_gather=overlapped
        )
        if shape.data.ranks * shape.replicas.ranks == 1:
            return Replicas()
        return self.layouts.stack.replicas(replace(stage, shape=shape))

    def _of(self, row: int, stage: int) -> Stage:
        layouts, case = self.layouts, self.layouts.space.case
        places = Places.of(case)
        at = {name: int(column[row]) for name, column in layouts.space.columns.items()}
        shape = layouts.shapes.of(layouts.space, row)
        tp, split = at["tensor_parallel"], at["data_parallel"] * at["context_parallel"]
        shards = case.plan.sharding_group or split
        experts = shape.experts
        if experts is not None:
            folded = at["expert_parallel"] * at["expert_tensor_parallel"]
            ranks = case.cluster.num_gpus // at["pipeline_parallel"] // folded
            experts = replace(experts, data=places.group(ranks, folded))
        shape = replace(
            shape,
            sharding=layouts.space.values["sharding"][at["sharding"]],
            data=places.group(shards, tp),
            replicas=places.group(split // shards, tp * shards),
            experts=experts,
        )
        return self._stage(row, stage, shape)

    def _stage(self, row: int, stage: int, shape: StepShape) -> Stage:
        layouts, held = self.layouts, self.layouts.held
        at = (row, stage)
        layer = layouts.kinds(row)[-1]
        count = max(1, round((held.dense[at] + held.experts[at]) / layer.parameters))
        embedding, head = ROLES[layouts.role[at]]
        chunk = Chunk(blocks=(Block(layer=layer, count=count),), embedding=embedding, head=head)
        return Stage(
            index=0 if embedding else 1,
            shape=shape,
            chunks=(chunk,),
            parameters=int(held.dense[at] + held.experts[at]),
            expert_parameters=int(held.experts[at]),
            trained_parameters=int(held.trained[at] + held.experts[at]),
            owned_parameters=int(held.owned[at]),
            tensors=int(held.tensors[at]),
        )
