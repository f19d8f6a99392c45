"""Gradients that leave, and parameters that arrive, in buckets beside the passes of a step.

A bucket of gradients is reduced as soon as it is full, parameters are gathered one bucket, or one
chunk, ahead of their use; what computes meanwhile is slowed by their company.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from typing import Final

from predictor.dtypes import FP32_BYTES
from predictor.iteration.launches import Launch, Program, Segment, Step, Wait
from predictor.iteration.stack import Replicas
from predictor.iteration.step import ALONE, Stage, StepShape
from predictor.values import frozen

REDUCED: Final = "gradient bucket"
GATHERED: Final = "parameter gather"
BUCKETS: Final = frozenset({REDUCED, GATHERED})


def communication(label: str, phase: str, steps: tuple[Step, ...]) -> Segment:
    """A segment of transfers and waits alone."""
    return Segment(label=label, phase=phase, steps=steps)


@frozen
class HeldParameters:
    """Parameters by the ranks that hold the same: those of attention's mapping and of experts'."""

    dense: int = 0
    experts: int = 0

    @classmethod
    def of_stage(cls, stage: Stage) -> "HeldParameters":
        """All of a stage that is trained."""
        return cls(stage.trained_parameters - stage.expert_parameters, stage.expert_parameters)

    @classmethod
    def of_program(cls, program: Program) -> "HeldParameters":
        """What the segments of a program hold."""
        return cls(
            sum(segment.parameters * times for segment, times in program),
            sum(segment.expert_parameters * times for segment, times in program),
        )


def buckets(held: HeldParameters, bucket: int | None) -> list[HeldParameters]:
    """The buckets that parameters fill, those of each mapping apart."""
    found = [HeldParameters(dense=size) for size in _split(held.dense, bucket)]
    return found + [HeldParameters(experts=size) for size in _split(held.experts, bucket)]


def _split(parameters: int, bucket: int | None) -> list[int]:
    if bucket is None or bucket >= parameters:
        return [parameters]
    whole, rest = divmod(parameters, bucket)
    return [bucket] * whole + ([rest] if rest else [])


def reductions(held: HeldParameters, replicas: Replicas, shape: StepShape) -> list[Step]:
    """Reduction of one bucket: a scatter over the sharding group, then a sum over its replicas.

    A stack that sums whole buckets does so over all of these ranks at once. Gradients of experts
    are summed over the ranks that hold the same ones.
    """
    found = []
    dtype = "fp32" if replicas.gradient_bytes == FP32_BYTES else "bf16"
    groups = [(held.dense, shape.data, shape.replicas)]
    if shape.experts is not None:
        groups.append((held.experts, shape.experts.data, ALONE))
    for parameters, data, others in groups:
        size = replicas.gradient_bytes * parameters
        if replicas.reduce == "reduce_scatter":
            found += [
                data.reduce_scatter(size, dtype),
                others.all_reduce(size / data.ranks, dtype),
            ]
        else:
            found.append(data.times(others).all_reduce(size, dtype))
    return [Launch(each, stream="data") for each in found if each is not None]


def gathers(held: HeldParameters, replicas: Replicas, shape: StepShape) -> list[Step]:
    """Gathers of a bucket's parameters, or a broadcast of each of their owners."""
    found = []
    groups = [(held.dense, shape.data)]
    if shape.experts is not None:
        groups.append((held.experts, shape.experts.data))
    for parameters, data in groups:
        size = replicas.gather_bytes * parameters
        if replicas.owner_parameters is None:
            found.append(data.all_gather(size))
        else:
            owners = max(1, round(parameters / replicas.owner_parameters))
            found += owners * [data.broadcast(size / owners)]
    return [Launch(each, stream="gather") for each in found if each is not None]


def _fillings(program: Program, bucket: int | None) -> Iterator[tuple[Program, HeldParameters]]:
    """Parts of a program and their parameters: each fills a bucket, the last need not.

    Each mapping has its own buckets, and here both leave when one is full.
    """
    size = math.inf if bucket is None else bucket
    part: list[tuple[Segment, int]] = []
    dense = experts = 0
    for segment, times in program:
        more, more_experts, left = segment.parameters, segment.expert_parameters, times
        while left:
            full = [(size - dense) / more] if more else []
            full += [(size - experts) / more_experts] if more_experts else []
            repeats = max(1, math.ceil(min([left, *full])))
            part.append((segment, repeats))
            left -= repeats
            dense, experts = dense + repeats * more, experts + repeats * more_experts
            if max(dense, experts) >= size:
                yield tuple(part), HeldParameters(dense, experts)
                part, dense, experts = [], 0, 0
    if part:
        yield tuple(part), HeldParameters(dense, experts)


def reduced_in_buckets(backward: Program, replicas: Replicas, shape: StepShape) -> Program:
    """A backward program whose gradients leave in buckets as soon as these are full."""
    result: list[tuple[Segment, int]] = []
    leaving = cache(lambda held: _leaving(held, replicas, shape))
    for part, held in _fillings(backward, replicas.bucket_parameters):
        result += part
        if held != HeldParameters():
            result.append((leaving(held), 1))
    return _accompanied(result)


def _accompanied(program: Sequence[tuple[Segment, int]]) -> Program:
    """Every bucket in the company of what runs between it and the next one."""
    result: list[tuple[Segment, int]] = []
    bucket: Segment | None = None
    for at, (segment, times) in enumerate(program):
        if segment.label in BUCKETS:
            bucket = segment
            runs = itertools.takewhile(lambda one: one[0].label not in BUCKETS, program[at + 1 :])
            repeats = sum(count for _, count in runs)
        elif bucket is not None:
            segment = _beside(segment, bucket, 1.0 / repeats)  # noqa: PLW2901
        result.append((segment, times))
    return tuple(result)


@lru_cache(maxsize=1024)
def _beside(segment: Segment, bucket: Segment, share: float) -> Segment:
    return replace(segment, company=((bucket, share),))


@lru_cache(maxsize=1024)
def _leaving(held: HeldParameters, replicas: Replicas, shape: StepShape) -> Segment:
    steps = tuple(reductions(held, replicas, shape))
    return communication(REDUCED, "backward", steps)


def gathered_in_buckets(forward: Program, replicas: Replicas, shape: StepShape) -> Program:
    """A forward program whose parameters arrive in buckets, one bucket ahead of their use."""
    parts = list(_fillings(forward, replicas.bucket_parameters))
    arriving = cache(lambda first, following: _arriving(first, following, replicas, shape))
    result: list[tuple[Segment, int]] = []
    for index, (part, held) in enumerate(parts):
        following = parts[index + 1][1] if index + 1 < len(parts) else None
        result.append((arriving(None if index else held, following), 1))
        result += part
    return _accompanied(result)


def first_forward(
    shape: StepShape,
    forward: Program,
    awaited: tuple[HeldParameters, ...],
    replicas: Replicas,
    *,
    waits: bool,
) -> Program:
    """A forward program that waits for its own parameters and has others arrive beside it."""
    steps: list[Step] = [Wait("gather")] if waits else []
    for held in awaited:
        steps += gathers(held, replicas, shape)
    arriving = communication(GATHERED, "forward", tuple(steps))
    return _accompanied([(arriving, 1), *forward]) if steps else forward


@lru_cache(maxsize=1024)
def _arriving(
    first: HeldParameters | None,
    following: HeldParameters | None,
    replicas: Replicas,
    shape: StepShape,
) -> Segment:
    """Wait for a bucket, launched here if it is the first, and launch the one that follows."""
    steps = gathers(first, replicas, shape) if first is not None else []
    steps.append(Wait("gather"))
    if following is not None:
        steps += gathers(following, replicas, shape)
    return communication(GATHERED, "forward", tuple(steps))
