"""From a stack and a stage to the programs that its micro-batches run.

Every chunk of a stage has a forward and a backward program; a schedule that defers weight gradients
has the backward split in two. The first forward pass of a step may gather parameters, the last
backward pass may reduce gradients; both are programs of their own.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from typing import Final

from predictor.iteration.dimensions import Layer
from predictor.iteration.launches import Launch, Program, Segment, Step, Wait
from predictor.iteration.stack import Part, Replicas, Stack
from predictor.iteration.step import ALONE, Block, Chunk, Stage, StepShape
from predictor.values import frozen

FP32_BYTES: Final = 4
REDUCED: Final = "gradient bucket"
GATHERED: Final = "parameter gather"
BUCKETS: Final = frozenset({REDUCED, GATHERED})


@frozen(kw_only=True)
class ChunkPrograms:
    """What a chunk runs.

    Attributes:
        first_forward: Of the first micro-batch of a step.
        forward: Of the others.
        backward: Of a micro-batch that is neither the first nor the last.
        first_backward: Of the first, which accumulates onto nothing.
        last_backward: Of the last, after which gradients are whole; of the only one, if there is
            one.
        weight: Deferred weight gradients; empty where the backward pass makes them.
        last_weight: Of the last micro-batch.
    """

    first_forward: Program
    forward: Program
    first_backward: Program
    backward: Program
    last_backward: Program
    weight: Program = ()
    last_weight: Program = ()

    def programs(self) -> tuple[Program, ...]:
        """All of them, in the order of the fields."""
        return (
            self.first_forward,
            self.forward,
            self.first_backward,
            self.backward,
            self.last_backward,
            self.weight,
            self.last_weight,
        )


@frozen(kw_only=True, eq=False)
class StagePrograms:
    """What a stage runs.

    Attributes:
        chunks: Its chunks.
        reduce: Once the last backward pass has ended: waits for gradients, and what follows.
        step: Once all stages have come so far: the optimizer, and gathers of parameters.
    """

    chunks: tuple[ChunkPrograms, ...]
    reduce: Program
    step: Program

    def programs(self) -> Iterator[Program]:
        """All of them."""
        for chunk in self.chunks:
            yield from chunk.programs()
        yield self.reduce
        yield self.step

    def alone(self) -> tuple[Program, Program, Program, Program]:
        """What it runs in a round of its chunks: the first, each between, the last, the only."""
        first: Program = ()
        between: Program = ()
        last: Program = ()
        only: Program = ()
        for chunk in self.chunks:
            first += chunk.first_forward + chunk.first_backward + chunk.weight
            between += chunk.forward + chunk.backward + chunk.weight
            last += chunk.forward + chunk.last_backward + chunk.last_weight
            only += chunk.first_forward + chunk.last_backward + chunk.last_weight
        ends = self.reduce + self.step
        return first, between, last + ends, only + ends


class Builder:
    """Builds the programs of a step's stages; equal parts share their segments."""

    def __init__(self, stack: Stack, shape: StepShape, *, split_backward: bool) -> None:
        """Name the stack, the sizes, and whether weight gradients are deferred."""
        self._stack, self._shape, self._split = stack, shape, split_backward
        self._parts = cache(self._segments_of_part)
        self._layer: Callable[[Layer], Part] = cache(lambda layer: stack.layer(shape, layer))

    def stages(self, stages: Sequence[Stage]) -> tuple[StagePrograms, ...]:
        """Programs of all stages; those that hold the same share theirs."""
        known: dict[tuple[bool, tuple[Chunk, ...]], StagePrograms] = {}
        for stage in stages:
            held = stage.index == 0, stage.chunks
            if held not in known:
                known[held] = self._stage(stage)
        return tuple(known[stage.index == 0, stage.chunks] for stage in stages)

    def piece(self, label: str, layer: Layer | None = None, *, replayed: bool = False) -> "Piece":
        """The segments of one part: ``layer``, ``embedding`` or ``head and loss``."""
        return self._parts(label, layer, replayed=replayed)

    def _stage(self, stage: Stage) -> StagePrograms:
        alone = self._shape.data.ranks * self._shape.replicas.ranks == 1
        replicas = Replicas() if alone else self._stack.replicas(stage)
        accumulate = self._stack.accumulate(stage)
        chunks = [self._chunk(chunk, replicas, accumulate) for chunk in stage.chunks]
        if replicas.overlap_gather and replicas.aligned_gather:
            chunks = _aligned(chunks, replicas, self._shape)
        return StagePrograms(
            chunks=tuple(chunks),
            reduce=(*self._reduce(stage, replicas), *self._stack.reduced(stage)),
            step=(*self._stack.optimizer(stage), *self._gather(stage, replicas)),
        )

    def _chunk(self, chunk: Chunk, replicas: Replicas, accumulate: Program) -> ChunkPrograms:
        pieces = [self._block(block) for block in chunk.blocks]
        if chunk.embedding:
            pieces.insert(0, (self._parts("embedding", None, replayed=False), 1))
        if chunk.head:
            pieces.append((self._parts("head and loss", None, replayed=False), 1))
        forward = tuple((piece.forward, times) for piece, times in pieces if times)
        backward = tuple((piece.backward, times) for piece, times in reversed(pieces) if times)
        weight: Program = ()
        if self._split:
            weight = tuple((piece.weight, times) for piece, times in reversed(pieces) if times)
        first = forward
        if replicas.overlap_gather and not replicas.aligned_gather and replicas.gather_bytes:
            first = _gathered(forward, replicas, self._shape)
        if self._shape.micro_batches == 1:
            accumulate = ()
        last_backward, last_weight = (*backward, *accumulate), weight
        if replicas.overlap_reduce and replicas.reduce:
            if weight:
                last_weight = _bucketed(weight, replicas, self._shape)
            else:
                last_backward = (*_bucketed(backward, replicas, self._shape), *accumulate)
        return ChunkPrograms(
            first_forward=first,
            forward=forward,
            first_backward=backward,
            backward=(*backward, *accumulate),
            last_backward=last_backward,
            weight=weight,
            last_weight=last_weight,
        )

    def _block(self, block: Block) -> "tuple[Piece, int]":
        return self._parts("layer", block.layer, replayed=block.replayed), block.count

    def _segments_of_part(self, label: str, layer: Layer | None, *, replayed: bool) -> "Piece":
        part = self._part(label, layer)
        steps, host = part.backward, part.backward_host
        name = f"{label} backward"
        if replayed:
            steps = (*part.replay, *steps)
            name = f"{label} replay and backward"
            if host is not None:
                host = (*(part.replay_host or ()), *host)
        steps = (*part.entry, *steps)
        forward = Segment(
            label=f"{label} forward" if label == "layer" else label,
            phase="forward",
            steps=part.forward,
            host=part.forward_host,
            launch_seconds=part.launch_seconds,
            call_seconds=part.call_seconds,
            parameters=part.parameters,
            expert_parameters=part.expert_parameters,
        )
        backward = replace(forward, label=name, phase="backward", steps=steps, host=host)
        if not self._split:
            return Piece(forward, backward, backward)
        deferred = tuple(s for s in steps if isinstance(s, Launch) and s.deferrable)
        kept = tuple(s for s in steps if not (isinstance(s, Launch) and s.deferrable))
        weight = replace(backward, label=f"{label} weight", steps=deferred, host=None)
        return Piece(forward, replace(backward, steps=kept), weight)

    def _part(self, label: str, layer: Layer | None) -> Part:
        if layer is not None:
            return self._layer(layer)
        stack = self._stack
        return (stack.embedding if label == "embedding" else stack.head)(self._shape)

    def _reduce(self, stage: Stage, replicas: Replicas) -> Program:
        """Wait for reductions under way, or run them now."""
        steps: list[Step] = []
        if replicas.reduce and not replicas.overlap_reduce:
            for parameters in _buckets(_held(stage), replicas.bucket_parameters):
                steps += reductions(parameters, replicas, self._shape)
        steps += [Wait("data"), Wait("gather"), Wait("expert")]
        return ((_communication("gradient reduction", "backward", tuple(steps)), 1),)

    def _gather(self, stage: Stage, replicas: Replicas) -> Program:
        """Gather updated parameters before anything else begins: all, or those of one chunk."""
        if not replicas.gather_bytes:
            return ()
        held = _held(stage)
        if replicas.overlap_gather:
            if not replicas.aligned_gather:
                return ()
            held = _held_by(self._chunk(stage.chunks[0], Replicas(), ()).forward)
        launched = gathers(held, replicas, self._shape)
        if not launched:
            return ()
        steps = (*launched, Wait("gather"))
        return ((_communication(GATHERED, "optimizer", steps), 1),)


@frozen
class Piece:
    """The segments of one part; ``weight`` matters where the backward pass is split."""

    forward: Segment
    backward: Segment
    weight: Segment


def _communication(label: str, phase: str, steps: tuple[Step, ...]) -> Segment:
    return Segment(label=label, phase=phase, steps=steps)


@frozen
class HeldParameters:
    """Parameters by the ranks that hold the same: those of attention's mapping and of experts'."""

    dense: int = 0
    experts: int = 0


def _held(stage: Stage) -> HeldParameters:
    return HeldParameters(stage.parameters - stage.expert_parameters, stage.expert_parameters)


def _held_by(program: Program) -> HeldParameters:
    """What the segments of a program hold."""
    return HeldParameters(
        sum(segment.parameters * times for segment, times in program),
        sum(segment.expert_parameters * times for segment, times in program),
    )


def _buckets(held: HeldParameters, bucket: int | None) -> list[HeldParameters]:
    """The buckets that parameters fill, those of each mapping apart."""
    found = [HeldParameters(dense=size) for size in _split(held.dense, bucket)]
    return found + [HeldParameters(experts=size) for size in _split(held.experts, bucket)]


def _split(parameters: int, bucket: int | None) -> list[int]:
    if bucket is None or bucket >= parameters:
        return [parameters]
    whole, rest = divmod(parameters, bucket)
    return [bucket] * whole + ([rest] if rest else [])


def reductions(held: HeldParameters, replicas: Replicas, shape: StepShape) -> list[Step]:
    """Reduction of one bucket over the sharding group, then over its replicas.

    Gradients of experts are summed over the ranks that hold the same ones.
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
            found += [data.all_reduce(size, dtype), others.all_reduce(size, dtype)]
    return [Launch(each, stream="data") for each in found if each is not None]


def gathers(held: HeldParameters, replicas: Replicas, shape: StepShape) -> list[Step]:
    """Gathers of a bucket's parameters."""
    found = [shape.data.all_gather(replicas.gather_bytes * held.dense)]
    if shape.experts is not None:
        found.append(shape.experts.data.all_gather(replicas.gather_bytes * held.experts))
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


def _bucketed(backward: Program, replicas: Replicas, shape: StepShape) -> Program:
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
    return _communication(REDUCED, "backward", steps)


def _gathered(forward: Program, replicas: Replicas, shape: StepShape) -> Program:
    """A forward program whose parameters arrive in buckets, one bucket ahead of their use."""
    parts = list(_fillings(forward, replicas.bucket_parameters))
    arriving = cache(lambda first, following: _arriving(first, following, replicas, shape))
    result: list[tuple[Segment, int]] = []
    for index, (part, held) in enumerate(parts):
        following = parts[index + 1][1] if index + 1 < len(parts) else None
        result.append((arriving(None if index else held, following), 1))
        result += part
    return _accompanied(result)


def _aligned(
    chunks: Sequence[ChunkPrograms], replicas: Replicas, shape: StepShape
) -> list[ChunkPrograms]:
    """Chunks whose parameters arrive beside the chunk before; the first one's are there."""
    result = []
    following: list[ChunkPrograms | None] = [*chunks[1:], None]
    for index, (chunk, after) in enumerate(zip(chunks, following, strict=True)):
        steps: list[Step] = [Wait("gather")] if index else []
        if after is not None:
            steps += gathers(_held_by(after.forward), replicas, shape)
        arriving = _communication(GATHERED, "forward", tuple(steps))
        first = _accompanied([(arriving, 1), *chunk.forward]) if steps else chunk.forward
        result.append(replace(chunk, first_forward=first))
    return result


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
    return _communication(GATHERED, "forward", tuple(steps))
