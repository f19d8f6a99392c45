"""What replicas add to a step: sums of gradients, gathers of parameters, the optimizer.

Collectives of a bucket are those that :mod:`predictor.iteration.buckets` names, each distinct one
priced once. Programs whose kernels walk over all parameters (accumulation, the gradients' norm, the
optimizer) are those of the stack, priced together for all distinct stages.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from predictor.costs import Costs
from predictor.costs.prediction import Floats, Ints
from predictor.dtypes import BF16_BYTES
from predictor.iteration.buckets import HeldParameters, gathers, reductions
from predictor.iteration.collectives import collective_costs
from predictor.iteration.launches import Program, Step
from predictor.iteration.maxplus import COMPUTE, HOST
from predictor.iteration.priced import GAP, price
from predictor.iteration.stack import Replicas
from predictor.iteration.step import Stage
from predictor.search.layouts import Layouts
from predictor.search.probes import Probes


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
    """Traffic and updates of the stages of all layouts.

    Attributes:
        probes: The distinct stages.
    """

    def __init__(self, layouts: Layouts, costs: Costs) -> None:
        """Name the layouts and the cost functions of their GPU."""
        self._stack, self._case, self._costs = layouts.stack, layouts.space.case, costs
        self.probes = Probes(layouts)

    def take(self, rows: Any) -> "Tails":  # noqa: ANN401 - places or a mask
        """Those of some layouts; what is priced stays so."""
        taken = copy(self)
        taken.probes = self.probes.take(rows)
        return taken

    def tail(self) -> Tail:
        """Of every layout and stage."""
        tail, which = self._priced_tail, self.probes.which
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
        probes, stages, stack = self.probes, self.probes.stages, self._stack
        sent = [probes.replicas(stage, overlapped=True) for stage in stages]
        held = [HeldParameters.of_stage(stage) for stage in stages]
        buckets = np.array([_buckets(*pair) for pair in zip(stages, sent, strict=True)])
        shares = [_share(each, max(n, 1)) for each, n in zip(held, buckets.tolist(), strict=True)]
        stopping, repeats = self._stopping()
        sums, fetches, fetch, ones = self._priced(
            [
                list(map(_reductions, shares, sent, stages)),
                list(map(_gathers, shares, sent, stages)),
                list(map(_gathers, held, sent, stages)),
                stopping,
            ]
        )
        times = np.maximum(buckets, 1)
        update = self._program_seconds(
            [(stack.reduced(each), stack.optimizer(each)) for each in stages]
        )
        return Tail(
            blocking=(ones * repeats).reshape(-1, 2).sum(axis=1),
            reduce=Exchange(sums * times, buckets),
            gather=Exchange(fetches * times, buckets),
            fetch=fetch,
            accumulate=self._program_seconds([(stack.accumulate(each),) for each in stages]),
            update=update.max(axis=-1),
        )

    def _stopping(self) -> tuple[list[list[Step]], Floats]:
        """Sums that wait for the passes: those of one bucket, and how many buckets there are.

        Two of each stage: of what stands outside experts, and of experts.
        """
        launches, repeats = [], []
        for stage in self.probes.stages:
            sent = self.probes.replicas(stage, overlapped=False)
            held = HeldParameters.of_stage(stage)
            for one in (HeldParameters(dense=held.dense), HeldParameters(experts=held.experts)):
                most = sent.bucket_parameters or max(one.dense, one.experts)
                part = HeldParameters(min(one.dense, most), min(one.experts, most))
                launches.append(_reductions(part, sent, stage))
                repeats.append(max(one.dense, one.experts) / max(part.dense, part.experts, 1))
        return launches, np.array(repeats)

    def in_turns(self, times: int, reductions_: int) -> Floats:
        """Seconds of so many gathers and reductions of all of a stage, layer after layer."""
        spent, layers = [], []
        for stage in self.probes.stages:
            count = stage.chunks[0].blocks[0].count
            share = _share(HeldParameters.of_stage(stage), count)
            asked = Replicas(
                reduce="reduce_scatter",
                gradient_bytes=stage.shape.gradient_bytes,
                gather_bytes=BF16_BYTES,
            )
            steps = times * gathers(share, asked, stage.shape)
            spent.append(steps + reductions_ * reductions(share, asked, stage.shape))
            layers.append(count)
        (seconds,) = self._priced([spent])
        return np.asarray((seconds * layers)[self.probes.which])

    def _priced(self, launches: list[list[list[Any]]]) -> list[Floats]:
        """Seconds of lists of launches on one stream."""
        flat = [launch.operator for kind in launches for each in kind for launch in each]
        spent = iter(collective_costs(self._case, self._costs)(flat).seconds.tolist())
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


def _reductions(held: HeldParameters, sent: Replicas, stage: Stage) -> list[Step]:
    """Sums of the gradients of so many parameters, where there are any."""
    return reductions(held, sent, stage.shape) if sent.reduce else []


def _gathers(held: HeldParameters, sent: Replicas, stage: Stage) -> list[Step]:
    """Gathers of so many parameters, where there are any."""
    return gathers(held, sent, stage.shape) if sent.gather_bytes else []


def _share(held: HeldParameters, count: int) -> HeldParameters:
    """One of so many equal parts."""
    return HeldParameters(round(held.dense / count), round(held.experts / count))


def _buckets(stage: Stage, replicas: Replicas) -> int:
    """Buckets that a stage's gradients leave in; 0 without buckets."""
    limit = replicas.bucket_parameters
    if limit is None:
        return 0
    layer = stage.chunks[0].blocks[0].layer
    fullest = max(layer.trained_parameters, layer.expert_parameters)
    layers = -(-limit // max(fullest, 1))
    each = layer.trained_parameters + layer.expert_parameters
    return max(1, round(stage.trained_parameters / (layers * each)))
