"""Pipelines whose stages run on different GPUs, with layers split so that no stage waits long.

Each stage is priced by the cost functions of its own GPU, at the clock to which that GPU settles in
a pipeline of its own kind, and all stages run on one timeline. Messages and the sum of tied tables
take as long as on the slower of the GPUs, gaps between launches too. Energy is each GPU's mean
power in a pipeline of its own kind times the iteration. The split of layers begins in proportion to
the speed of the stages; then layers move from stage to stage as long as an iteration gets faster
and memory holds.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from predictor.case import Case, load_gpu, resolve
from predictor.costs import load_costs
from predictor.errors import CaseError
from predictor.iteration import estimate
from predictor.iteration.built import memory_of_stages, run_of
from predictor.iteration.implementations import load as load_stack
from predictor.iteration.layout import Layout, Queue
from predictor.iteration.numbering import Numbering
from predictor.iteration.refusing import refuse
from predictor.units import HOUR_SECONDS
from predictor.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from predictor.iteration.run import Run

SCHEDULES: Final = ("1f1b", "gpipe")
MOST_MOVES: Final = 32


@frozen(kw_only=True)
class MixedEstimate:
    """An iteration of a pipeline of several GPUs.

    Attributes:
        case: With ``plan.layers_per_stage``.
        stage_gpus: SKU of each stage.
        iteration_seconds: Of an iteration.
        interval_seconds: 90 % interval, as wide as the widest of its GPUs'.
        memory_reserved_bytes: Of a GPU of each stage.
        fits: Every stage fits its GPU.
        usd_per_iteration: At the datasheets' prices; None where one of them has none.
        joules_per_iteration: Of all GPUs.
    """

    case: Case
    stage_gpus: tuple[str, ...]
    iteration_seconds: float
    interval_seconds: tuple[float, float]
    memory_reserved_bytes: tuple[float, ...]
    fits: bool
    usd_per_iteration: float | None
    joules_per_iteration: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values (``predictor place --stage-gpus ... --json``)."""
        return {
            "case": self.case.to_dict(),
            "stage_gpus": list(self.stage_gpus),
            "layers_per_stage": list(self.case.plan.layers_per_stage),
            "iteration_seconds": self.iteration_seconds,
            "interval_seconds": list(self.interval_seconds),
            "memory_reserved_bytes": list(self.memory_reserved_bytes),
            "fits": self.fits,
            "usd_per_iteration": self.usd_per_iteration,
            "joules_per_iteration": self.joules_per_iteration,
        }


def mixed_estimate(case: Case, *, strict: bool = False) -> MixedEstimate:
    """Estimate a pipeline whose stages run on the GPUs that ``cluster.stage_gpus`` names.

    Args:
        case: With ``plan.layers_per_stage``, or an even split.
        strict: Refuse numbers that are extrapolated or come from a datasheet.

    Raises:
        CaseError: It names none, or the schedule does not fit.
        NotPredictable: As for an estimate.
    """
    return _estimated(_base(case), _skus(case), strict=strict)


def balanced(case: Case) -> MixedEstimate:
    """The same with layers split over the stages so that an iteration is fastest, if it fits.

    Raises:
        CaseError: As for :func:`mixed_estimate`.
    """
    skus, base = _skus(case), _base(case)
    best = _estimated(_with_layers(base, _proportional(base, skus)), skus)
    tried = {best.case.plan.layers_per_stage}
    for _ in range(MOST_MOVES):
        new = [each for each in _moves(best.case.plan.layers_per_stage) if each not in tried]
        tried.update(new)
        options = [_estimated(_with_layers(base, layers), skus) for layers in new]
        better = min([best, *options], key=_rank)
        if better is best:
            break
        best = better
    return best


def _rank(found: MixedEstimate) -> tuple[bool, float]:
    return not found.fits, found.iteration_seconds


def _skus(case: Case) -> tuple[str, ...]:
    if case.cluster.stage_gpus is None:
        raise CaseError("cluster.stage_gpus: needed, a SKU for each pipeline stage")
    return case.cluster.stage_gpus


def _base(case: Case) -> Case:
    """The resolved case on the first stage's GPU; its links stay what they are on all of them."""
    full = resolve(estimate(case.replace(cluster={"stage_gpus": None})).case).case
    plan = full.plan
    if plan.schedule not in SCHEDULES or plan.virtual_pipeline > 1:
        words = ", ".join(SCHEDULES)
        raise CaseError(
            f"plan.schedule = {plan.schedule}: mixed stages run {words}, one chunk each"
        )
    if plan.layers_per_stage is None:
        stages, layers = plan.pipeline_parallel, full.model.num_layers
        return _with_layers(full, _split([1.0] * stages, layers))
    return full


def _estimated(case: Case, skus: tuple[str, ...], *, strict: bool = False) -> MixedEstimate:
    cases = {sku: _on(case, sku) for sku in skus}
    for each in cases.values():
        refuse(each, load_stack(str(each.implementation)))
    runs = {sku: run_of(each, load_costs(sku), strict=strict) for sku, each in cases.items()}
    seconds = _seconds(runs, skus)
    reserved = tuple(
        memory_of_stages(cases[sku])[stage].reserved_bytes for stage, sku in enumerate(skus)
    )
    compared = load_stack(str(case.implementation)).compared
    width = max(
        run.half_seconds(compared=compared) / run.iteration_seconds for run in runs.values()
    )
    share = case.cluster.num_gpus / len(skus)
    prices = [load_gpu(sku).usd_per_gpu_hour for sku in skus]
    known = [price for price in prices if price is not None]
    watts = sum(runs[sku].joules() / runs[sku].iteration_seconds for sku in skus) / len(skus)
    return MixedEstimate(
        case=case.replace(cluster={"stage_gpus": list(skus)}),
        stage_gpus=skus,
        iteration_seconds=seconds,
        interval_seconds=(seconds * (1.0 - width), seconds * (1.0 + width)),
        memory_reserved_bytes=reserved,
        fits=all(
            used <= load_gpu(sku).memory_bytes for used, sku in zip(reserved, skus, strict=True)
        ),
        usd_per_iteration=(
            share * sum(known) * seconds / HOUR_SECONDS if len(known) == len(skus) else None
        ),
        joules_per_iteration=watts * seconds,
    )


def _seconds(runs: dict[str, Run], skus: tuple[str, ...]) -> float:
    """All stages on one timeline."""
    sheets = [run.slowest_sheet for run in runs.values()]
    queue = Queue(
        reduce(_joined, (sheet.layout for sheet in sheets)),
        np.concatenate([sheet.queue.host_seconds for sheet in sheets]),
        np.concatenate([sheet.queue.queue_seconds for sheet in sheets]),
    )
    seconds = np.concatenate([sheet.seconds for sheet in sheets])
    gap_seconds = max(run.gap_seconds for run in runs.values())
    stages = tuple(runs[sku].pipeline.stages[stage] for stage, sku in enumerate(skus))
    pipeline = replace(runs[skus[0]].pipeline, numbering=Numbering.of(stages))
    messages = np.stack([run.links.messages for run in runs.values()]).max(axis=0)
    tied = max(run.links.tied_seconds for run in runs.values())
    programs = pipeline.numbering.words(queue.layout).products(
        queue.matrices(seconds[None], gap_seconds)
    )
    return float(pipeline.seconds(programs, messages[None], np.array([tied]))[0])


def _joined(one: Layout, other: Layout) -> Layout:
    moved = {segment: len(one.segments) + place for segment, place in other.segments.items()}
    first = np.concatenate([one.first[:-1], one.first[-1] + other.first])
    return Layout({**one.segments, **moved}, first)


def _on(case: Case, sku: str) -> Case:
    return case if sku == case.cluster.gpu else case.replace(cluster={"gpu": sku})


def _with_layers(case: Case, layers: tuple[int, ...]) -> Case:
    return case.replace(plan={"layers_per_stage": list(layers)})


def _proportional(case: Case, skus: tuple[str, ...]) -> tuple[int, ...]:
    """Layers in proportion to the speed of each GPU in a pipeline of its own kind."""
    speeds = {sku: 1.0 / run_of(_on(case, sku), load_costs(sku)).iteration_seconds for sku in skus}
    return _split([speeds[sku] for sku in skus], case.model.num_layers)


def _split(weights: Sequence[float], layers: int) -> tuple[int, ...]:
    """Whole layers in proportion, the largest remainders rounded up."""
    shares = layers * np.array(weights) / sum(weights)
    counts = np.floor(shares).astype(int)
    for place in np.argsort(counts - shares, kind="stable")[: layers - counts.sum()]:
        counts[place] += 1
    return tuple(int(count) for count in counts)


def _moves(layers: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Every split that differs by one layer of one stage given to another."""
    for giver, count in enumerate(layers):
        for taker in range(len(layers)):
            if count > 0 and taker != giver:
                moved = list(layers)
                moved[giver] -= 1
                moved[taker] += 1
                yield tuple(moved)
