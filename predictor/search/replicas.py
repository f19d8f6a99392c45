"""What replicas add to a step: sums of gradients, gathers of parameters, the optimizer.

Collectives of a bucket are those that :mod:`predictor.iteration.buckets` names, each distinct one
priced once. Programs whose kernels walk over all parameters (accumulation, the gradients' norm, the
optimizer) are those of the stack, priced together for all distinct stages.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from predictor.costs import Costs
from predictor.costs.prediction import Floats, Ints
from predictor.iteration.buckets import HeldParameters, gathers, reductions
from predictor.iteration.collectives import collective_costs
from predictor.iteration.implementations.fully_sharded import WEIGHT_BYTES
from predictor.iteration.launches import Program
from predictor.iteration.maxplus import COMPUTE, HOST
from predictor.iteration.places import Places
from predictor.iteration.priced import GAP, price
from predictor.iteration.stack import Replicas
from predictor.iteration.step import Block, Chunk, Stage
from predictor.search.layouts import ROLES, Layouts
from predictor.search.shapes import distinct


@dataclass(frozen=True, slots=True)
class Exchange:
    """One kind of traffic among replicas; by layout and stage.

    Attributes:
        seconds: Of all of it.
        buckets: How many leave one after another; 0 where all leaves at the end of a pass.
    """

    seconds: Floats
    buckets: Floats

    def take(self, places: Ints) -> "Exchange":
        """That of some layouts and stages."""
        return Exchange(self.seconds[places], self.buckets[places])


@dataclass(frozen=True, slots=True)
class Tail:
    """What a step adds to its passes; by layout and stage.

    Attributes:
        blocking: Seconds of sums of gradients that wait for the passes, bucket by bucket.
        reduce: Sums of gradients that leave as soon as a bucket's layers are done.
        gather: Gathers of parameters beside passes.
        fetch: Seconds of a gather of all parameters at once.
        accumulate: Of every micro-batch after the first: seconds, and those of the host.
        update: From summed gradients to new parameters, gathers left out.
    """

    blocking: Floats
    reduce: Exchange
    gather: Exchange
    fetch: Floats
    accumulate: Floats
    update: Floats


class Tails:
    """Traffic and updates of the stages of all layouts."""

    def __init__(self, layouts: Layouts, costs: Costs) -> None:
        """Name the layouts and the cost functions of their GPU."""
        self._layouts, self._costs = layouts, costs
        self._case = layouts.space.case
        self._places = Places.of(self._case)
        self._first, self._which = self._stages()

    def take(self, rows: Any) -> "Tails":  # noqa: ANN401 - places or a mask
        """Those of some layouts; what is priced stays so."""
        taken = copy(self)
        taken._layouts, taken._which = self._layouts.take(rows), self._which[rows]  # noqa: SLF001
        return taken

    def tail(self) -> Tail:
        """Of every layout and stage."""
        tail, which = self._priced_tail, self._which
        return Tail(
            tail.blocking[which],
            tail.reduce.take(which),
            tail.gather.take(which),
            tail.fetch[which],
            tail.accumulate[which],
            tail.update[which],
        )

    @cached_property
    def _priced_tail(self) -> Tail:
        """Of every distinct stage."""
        replicas = [self._replicas(stage, overlapped=True) for stage in self._probes]
        stopping = [self._replicas(stage, overlapped=False) for stage in self._probes]
        held = [_held(stage) for stage in self._probes]
        buckets = np.array([_buckets(*pair) for pair in zip(self._probes, replicas, strict=True)])
        shares = [_share(each, max(n, 1)) for each, n in zip(held, buckets.tolist(), strict=True)]
        triples = list(zip(shares, replicas, self._probes, strict=True))
        reduced = [reductions(h, r, s.shape) if r.reduce else [] for h, r, s in triples]
        gathered = [gathers(h, r, s.shape) if r.gather_bytes else [] for h, r, s in triples]
        triples = list(zip(held, replicas, self._probes, strict=True))
        at_once = [gathers(h, r, s.shape) if r.gather_bytes else [] for h, r, s in triples]
        full, whole = [], []
        for each, replica, stage in zip(held, stopping, self._probes, strict=True):
            for one in (HeldParameters(dense=each.dense), HeldParameters(experts=each.experts)):
                most = replica.bucket_parameters or max(one.dense, one.experts)
                part = HeldParameters(min(one.dense, most), min(one.experts, most))
                full.append(reductions(part, replica, stage.shape) if replica.reduce else [])
                whole.append(max(one.dense, one.experts) / max(part.dense, part.experts, 1))
        sums, fetches, fetch, ones = self._priced([reduced, gathered, at_once, full])
        blocking = (ones * np.array(whole)).reshape(-1, 2).sum(axis=1)
        times = np.maximum(buckets, 1)
        stack = self._layouts.stack
        accumulate = self._program_seconds([(stack.accumulate(each),) for each in self._probes])
        update = self._program_seconds(
            [(stack.reduced(each), stack.optimizer(each)) for each in self._probes]
        )
        return Tail(
            blocking,
            Exchange(sums * times, buckets),
            Exchange(fetches * times, buckets),
            fetch,
            accumulate,
            update.max(axis=-1),
        )

    def in_turns(self, times: int, reductions_: int) -> Floats:
        """Seconds of so many gathers and reductions of all of a stage, layer after layer."""
        spent, layers = [], []
        for stage in self._probes:
            count = stage.chunks[0].blocks[0].count
            share = _share(_held(stage), count)
            asked = Replicas(
                reduce="reduce_scatter",
                gradient_bytes=stage.shape.gradient_bytes,
                gather_bytes=WEIGHT_BYTES,
            )
            steps = times * gathers(share, asked, stage.shape)
            spent.append(steps + reductions_ * reductions(share, asked, stage.shape))
            layers.append(count)
        (seconds,) = self._priced([spent])
        return np.asarray((seconds * layers)[self._which])

    def overlapped(self, reduce: bool | None, gather: bool | None) -> tuple[Any, Any]:  # noqa: FBT001
        """Which layouts and stages run their sums and gathers beside passes, under some flags."""
        layouts = self._layouts
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
        probe = self._probes[0]
        shape = replace(probe.shape, chunks=chunks, sharding="optimizer")
        return self._layouts.stack.replicas(replace(probe, shape=shape)).aligned_gather

    def _stages(self) -> tuple[Ints, Ints]:
        """First (layout, stage) of each distinct stage, flat, and the number of each."""
        layouts, held = self._layouts, self._layouts.held
        shape = held.dense.shape
        names = ("tensor_parallel", "context_parallel", "pipeline_parallel", "sharding")
        experts = ("expert_parallel", "expert_tensor_parallel")
        rows = [layouts.column(name) for name in (*names, *experts)]
        keys = [np.repeat(row, shape[1]) for row in rows]
        keys += [held.dense.ravel(), held.experts.ravel(), layouts.role.ravel()]
        first, which = distinct(keys)
        self._probes = [self._probe(*divmod(int(place), shape[1])) for place in first]
        return first, which.reshape(shape)

    def _probe(self, row: int, stage: int) -> Stage:
        layouts = self._layouts
        at = {name: int(column[row]) for name, column in layouts.space.columns.items()}
        shape = layouts.shapes.of(layouts.space, row)
        tp, split = at["tensor_parallel"], at["data_parallel"] * at["context_parallel"]
        shards = self._case.plan.sharding_group or split
        experts = shape.experts
        if experts is not None:
            folded = at["expert_parallel"] * at["expert_tensor_parallel"]
            ranks = self._case.cluster.num_gpus // at["pipeline_parallel"] // folded
            experts = replace(experts, data=self._places.group(ranks, folded))
        shape = replace(
            shape,
            sharding=layouts.space.values["sharding"][at["sharding"]],
            data=self._places.group(shards, tp),
            replicas=self._places.group(split // shards, tp * shards),
            experts=experts,
        )
        return self._stage(row, stage, shape)

    def _stage(self, row: int, stage: int, shape: Any) -> Stage:  # noqa: ANN401
        layouts, held = self._layouts, self._layouts.held
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
            owned_parameters=int(held.owned[at]),
            tensors=int(held.tensors[at]),
        )

    def _replicas(self, stage: Stage, *, overlapped: bool) -> Replicas:
        shape = replace(
            stage.shape, overlap_grad_reduce=overlapped, overlap_param_gather=overlapped
        )
        if shape.data.ranks * shape.replicas.ranks == 1:
            return Replicas()
        return self._layouts.stack.replicas(replace(stage, shape=shape))

    def _priced(self, launches: list[list[list[Any]]]) -> list[Floats]:
        """Seconds of lists of launches on one stream, each distinct collective priced once."""
        flat = [launch.operator for kind in launches for each in kind for launch in each]
        known: dict[Any, int] = {}
        places = [known.setdefault(operator, len(known)) for operator in flat]
        predict = collective_costs(self._case, self._costs)
        seconds = predict(list(known)).seconds if known else np.zeros(0)
        spent = iter(seconds[places].tolist() if places else [])
        return [np.array([sum(next(spent) for _ in each) for each in kind]) for kind in launches]

    def _program_seconds(self, several: Sequence[Sequence[Program]]) -> Floats:
        """Seconds and host seconds of lists of programs, priced together; by list."""
        entries = [
            (place, segment, times)
            for place, programs in enumerate(several)
            for program in programs
            for segment, times in program
            if segment.launches
        ]
        found = np.zeros((len(several), 2))
        if not entries:
            return found
        places, segments, times = zip(*entries, strict=True)
        sheet = price(segments, self._costs, collective_costs(self._case, self._costs))
        gap = self._costs.host_seconds(GAP)
        matrices = sheet.queue.matrices(sheet.seconds[None], gap)
        for column, stream in enumerate((COMPUTE, HOST)):
            spent = matrices[:, 0, stream, stream] * times
            found[:, column] = np.bincount(places, spent, minlength=len(several))
        return found


def _held(stage: Stage) -> HeldParameters:
    return HeldParameters(stage.parameters - stage.expert_parameters, stage.expert_parameters)


def _share(held: HeldParameters, count: int) -> HeldParameters:
    """One of so many equal parts."""
    return HeldParameters(round(held.dense / count), round(held.experts / count))


def _buckets(stage: Stage, replicas: Replicas) -> int:
    """Buckets that a stage's gradients leave in; 0 without buckets."""
    limit = replicas.bucket_parameters
    if limit is None:
        return 0
    block = stage.chunks[0].blocks[0]
    fullest = max(block.layer.dense_parameters, block.layer.expert_parameters)
    layers = -(-limit // max(fullest, 1))
    return max(1, round(stage.parameters / (layers * block.layer.parameters)))
