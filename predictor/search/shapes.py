"""Sizes of a micro-batch for many layouts: :func:`step_shape`, called once for alike ones."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, cast

import numpy as np

from predictor.case import Case, domain_gpus, load_gpu, with_expert_exchange
from predictor.costs.prediction import Ints
from predictor.iteration.groups import Group
from predictor.iteration.moe.mapping import expert_plan
from predictor.iteration.places import Places
from predictor.iteration.shape import recomputed_modules, step_shape
from predictor.iteration.step import StepShape
from predictor.search.space import Space

SIZED: Final = (
    "micro_batch_size",
    "num_microbatches",
    "virtual_pipeline",
    "recompute",
    "tp_overlap",
    "pipeline_parallel",
)
"""What a shape has beside the degrees that cut a layer."""

SEVERAL: Final = 2
"""Micro-batches and chunks that stand for more: a layer knows one from several alone."""

TABLE_ROWS: Final = 4
"""Entries of a table for each row of a column, beyond which sorting is faster."""


def distinct(columns: Sequence[Ints]) -> tuple[Ints, Ints]:
    """First row of each distinct combination of some columns, and the combination of each row."""
    code = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        values, place = _numbered(np.asarray(column).astype(np.int64))
        code = code * len(values) + place
        if len(values) > 1:
            code = _numbered(code)[1]
    _, first, which = np.unique(code, return_index=True, return_inverse=True)
    return first, which


def _numbered(column: Ints) -> tuple[Ints, Ints]:
    """Values of a column, rising, and the place of each row's: by a table where that is short."""
    least, most = (int(np.min(column)), int(np.max(column))) if len(column) else (0, 0)
    if least < 0 or most > TABLE_ROWS * len(column):
        values, place = np.unique(column, return_inverse=True)
        return values, place
    there = np.zeros(most + 1, dtype=np.int64)
    there[column] = 1
    return np.flatnonzero(there), (np.cumsum(there) - 1)[column]


class Shapes:
    """Shapes of the layouts of a space, made when asked for and kept."""

    def __init__(self, case: Case, vocab_multiple: int) -> None:
        """Start with none."""
        self._case, self._vocab = case, vocab_multiple
        self.node = domain_gpus(load_gpu(case.cluster.gpu), case.cluster.gpus_per_node)
        self._known: dict[tuple[object, ...], tuple[Case, StepShape]] = {}
        self._exchanges: dict[tuple[object, ...], tuple[Case, Mapping[str, Group]]] = {}
        self._shapes: dict[tuple[object, ...], StepShape] = {}

    def of(self, space: Space, row: int) -> StepShape:
        """The shape of one layout.

        Pipeline degrees count only where parameters are sharded: nothing else in a layer depends on
        how many replicas there are.
        """
        at = {name: int(column[row]) for name, column in space.columns.items()}
        sharding = space.values["sharding"][at["sharding"]]
        whole = sharding == "parameters"
        stages = at["pipeline_parallel"] if whole else 1
        names = ("tensor_parallel", "sequence_parallel", "context_parallel", "expert_parallel")
        key = (*(at[name] for name in names), at["expert_tensor_parallel"], stages, whole)
        at["virtual_pipeline"], at["num_microbatches"] = (
            min(at[name], SEVERAL) for name in ("virtual_pipeline", "num_microbatches")
        )
        sized = (*key, *(at[name] for name in SIZED))
        if sized not in self._shapes:
            if key not in self._known:
                self._known[key] = self._made(at, stages, sharding if whole else "optimizer")
            self._shapes[sized] = self._sized(space, at, key)
        return self._shapes[sized]

    def _sized(self, space: Space, at: dict[str, int], key: tuple[object, ...]) -> StepShape:
        shape = self._known[key][1]
        shape = replace(
            shape,
            batch=at["micro_batch_size"],
            recomputed=recomputed_modules(
                self._case.training,
                selective=space.values["recompute"][at["recompute"]] == "selective",
            ),
            tp_overlap=space.values["tp_overlap"][at["tp_overlap"]],
            stages=at["pipeline_parallel"],
            stages_apart=at["pipeline_parallel"] > 1 and shape.world.ranks > self.node,
            micro_batches=at["num_microbatches"],
        )
        if shape.experts is None:
            return shape
        case, groups = self._exchange(key, at["virtual_pipeline"])
        return replace(shape, experts=expert_plan(case, tokens=shape.shard_tokens, groups=groups))

    def _exchange(self, key: tuple[object, ...], chunks: int) -> tuple[Case, Mapping[str, Group]]:
        """A case that knows how its experts are reached, and its groups."""
        if (key, chunks) not in self._exchanges:
            case = with_expert_exchange(self._known[key][0], virtual_pipeline=chunks)
            self._exchanges[key, chunks] = case, Places.of(case).groups(case)
        return self._exchanges[key, chunks]

    def _made(self, at: dict[str, int], stages: int, sharding: str) -> tuple[Case, StepShape]:
        case = self._case
        ranks = at["tensor_parallel"] * at["context_parallel"] * stages
        replicas = case.cluster.num_gpus // ranks
        plan = replace(
            case.plan,
            tensor_parallel=at["tensor_parallel"],
            sequence_parallel=bool(at["sequence_parallel"]),
            context_parallel=at["context_parallel"],
            expert_parallel=at["expert_parallel"],
            expert_tensor_parallel=at["expert_tensor_parallel"],
            pipeline_parallel=stages,
            virtual_pipeline=1,
            data_parallel=replicas,
            sharding=cast("Any", sharding),
        )
        training = replace(case.training, micro_batch_size=1, global_batch_size=replicas)
        made = replace(case, plan=plan, training=training)
        return made, step_shape(made, vocab_multiple=self._vocab)
