"""What a resolved case launches and holds, built and priced once a process.

Cases that launch the same share all of it: an estimate, a search and a study ask for thousands.
"""

from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

from predictor.case import Case
from predictor.costs import Costs
from predictor.iteration.building import Builder
from predictor.iteration.collectives import collective_costs
from predictor.iteration.implementations import load as load_stack
from predictor.iteration.launches import Segment, distinct
from predictor.iteration.links import Links
from predictor.iteration.memory import Memory
from predictor.iteration.numbering import Numbering
from predictor.iteration.pipeline import Pipeline, in_flight
from predictor.iteration.places import Places
from predictor.iteration.priced import Sheet, price
from predictor.iteration.run import Run
from predictor.iteration.schedules import SPLIT_BACKWARD
from predictor.iteration.shape import micro_batches_of, stages_of, step_shape
from predictor.iteration.stack import Stack
from predictor.iteration.step import Stage, StepShape
from predictor.values import frozen

FEW_MICRO_BATCHES: Final = 2
"""Whether there is more than one decides what each launches; how many, the pipeline counts."""

UNHEARD: Final[dict[str, Any]] = {"overlap_p2p": None}
"""Fields of a plan that change no launch, as the case that stands for all alike ones has them."""


@frozen(eq=False)
class BuiltStep:
    """What a case's stages hold and launch; no seconds."""

    stack: Stack
    stages: tuple[Stage, ...]
    pipeline: Pipeline
    segments: tuple[Segment, ...]


def _stages(case: Case) -> tuple[Stage, ...]:
    """What the stages of a resolved case hold."""
    held = _held(_alike(case))
    shape = replace(
        held[0].shape, micro_batches=micro_batches_of(case), overlap_p2p=case.plan.overlap_p2p
    )
    return tuple(replace(stage, shape=shape) for stage in held)


@lru_cache(maxsize=256)
def _held(alike: Case) -> tuple[Stage, ...]:
    """The same of a case that stands for all alike ones."""
    stack = load_stack(str(alike.implementation))
    return stages_of(alike, step_shape(alike, vocab_multiple=stack.vocab_multiple))


def _overlapped(stack: Stack, shape: StepShape) -> bool:
    """Whether messages run beside computation; of split passes, only a receiver waits."""
    return shape.schedule in SPLIT_BACKWARD or stack.overlap_p2p(shape)


@lru_cache(maxsize=256)
def built_step(case: Case) -> BuiltStep:
    """Build the launches of a resolved case, once a process."""
    stack, stages = load_stack(str(case.implementation)), _stages(case)
    shape = stages[0].shape
    builder = Builder(stack, shape, split_backward=shape.schedule in SPLIT_BACKWARD)
    pipeline = Pipeline(
        numbering=Numbering.of(builder.stages(stages)),
        schedule=str(case.plan.schedule),
        chunks=case.plan.virtual_pipeline,
        micro_batches=shape.micro_batches,
        overlapped=_overlapped(stack, shape),
        agrees=stack.agrees(shape),
    )
    programs = [program for stage in pipeline.stages for program in stage.programs()]
    return BuiltStep(stack, stages, pipeline, tuple(distinct(programs)))


@lru_cache(maxsize=256)
def _sheet(built: BuiltStep, case: Case, costs: Costs) -> Sheet:
    """The launches of a resolved case with their seconds, priced once a process.

    A segment equals itself alone, so what was built again needs a sheet of its own.
    """
    return price(built.segments, costs, collective_costs(case, costs))


@lru_cache(maxsize=256)
def _links(case: Case, costs: Costs) -> Links:
    """The messages of a resolved case with their seconds, priced once a process."""
    built = built_step(case)
    shape = built.stages[0].shape
    tied = None
    if shape.tied_embeddings and shape.stages > 1 and not shape.layer.adapters:
        table = Places.of(case).ends(shape.stages)
        tied = table.all_reduce(shape.gradient_bytes * shape.vocab * shape.hidden)
    collectives = collective_costs(case, costs)
    size = built.stack.message_bytes(shape)
    messages = [(*before, size) for before in built.stack.announcements(shape)]
    return Links(case, messages, built.stack.message_wait(shape), tied, collectives)


def run_of(case: Case, costs: Costs, *, strict: bool = False) -> Run:
    """A resolved case on its timeline.

    Raises:
        NotPredictable: A schedule's rule is broken, or ``strict`` forbids a number.
    """
    alike = _alike(case)
    built, links = built_step(alike), _links(alike, costs)
    shape = replace(built.stages[0].shape, overlap_p2p=case.plan.overlap_p2p)
    pipeline = replace(
        built.pipeline,
        micro_batches=micro_batches_of(case),
        overlapped=_overlapped(built.stack, shape),
    )
    return Run(case, pipeline, _sheet(built, alike, costs), links, costs, strict=strict)


@lru_cache(maxsize=256)
def _alike(case: Case) -> Case:
    """A resolved case that launches the same: its batch cut to two micro-batches if it has more.

    The pipeline alone counts them, and knows what its messages run beside; cases that differ in
    these share programs and their prices.
    """
    count, training = micro_batches_of(case), case.training
    if count > FEW_MICRO_BATCHES:
        batch = training.global_batch_size // count * FEW_MICRO_BATCHES
        training = replace(training, global_batch_size=batch)
    return replace(case, training=training, plan=replace(case.plan, **UNHEARD))


@lru_cache(maxsize=256)
def memory_of_stages(case: Case) -> tuple[Memory, ...]:
    """Peak memory of a rank of each pipeline stage of a resolved case."""
    stack = load_stack(str(case.implementation))
    return tuple(
        stack.memory(stage, in_flight(stage.shape, stage.index)) for stage in _stages(case)
    )


def peak_memory(case: Case) -> Memory:
    """Memory of the fullest stage."""
    alone = case.plan.pipeline_parallel == 1  # one stage holds one micro-batch, however many run
    stages = memory_of_stages(_alike(case) if alone else case)
    return max(stages, key=lambda peak: peak.reserved_bytes)
