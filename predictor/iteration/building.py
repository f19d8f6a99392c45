"""From a stack and a stage to the programs that its micro-batches run."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial

from predictor.iteration.buckets import (
    GATHERED,
    HeldParameters,
    buckets,
    communication,
    first_forward,
    gathered_in_buckets,
    gathers,
    reduced_in_buckets,
    reductions,
)
from predictor.iteration.launches import Program, Step, Wait
from predictor.iteration.parts import parts_of
from predictor.iteration.programs import ChunkPrograms, StagePrograms
from predictor.iteration.stack import Replicas, Stack
from predictor.iteration.step import Chunk, Stage, StepShape


class Builder:
    """Builds the programs of a step's stages; equal parts share their segments."""

    def __init__(self, stack: Stack, shape: StepShape, *, split_backward: bool) -> None:
        """Name the stack, the sizes, and whether weight gradients are deferred."""
        self._stack, self._shape, self._split = stack, shape.of_parts(), split_backward
        self._first_forward = cache(partial(first_forward, self._shape))
        self._parts = parts_of(stack, self._shape, split_backward=split_backward)

    def stages(self, stages: Sequence[Stage]) -> tuple[StagePrograms, ...]:
        """Programs of all stages; those that hold the same share theirs."""
        known: dict[tuple[bool, tuple[Chunk, ...]], StagePrograms] = {}
        for stage in stages:
            held = stage.index == 0, stage.chunks
            if held not in known:
                known[held] = self._stage(stage)
        return tuple(known[stage.index == 0, stage.chunks] for stage in stages)

    def _stage(self, stage: Stage) -> StagePrograms:
        alone = self._shape.data.ranks * self._shape.replicas.ranks == 1
        replicas = Replicas() if alone else self._stack.replicas(stage)
        accumulate = self._stack.accumulate(stage)
        alike = cache(lambda chunk: self._chunk(chunk, replicas, accumulate))
        chunks = [alike(chunk) for chunk in stage.chunks]
        if replicas.overlap_gather and replicas.aligned_gather:
            chunks = self._aligned(chunks, replicas)
        return StagePrograms(
            chunks=tuple(chunks),
            reduce=(*self._reduce(stage, replicas), *self._stack.reduced(stage)),
            step=(*self._stack.optimizer(stage), *self._gather(stage, replicas)),
        )

    def _aligned(self, chunks: Sequence[ChunkPrograms], replicas: Replicas) -> list[ChunkPrograms]:
        """Chunks whose parameters arrive beside the chunk before; the first one's are there."""
        result = []
        following: list[ChunkPrograms | None] = [*chunks[1:], None]
        for index, (chunk, after) in enumerate(zip(chunks, following, strict=True)):
            awaited = () if after is None else (HeldParameters.of_program(after.forward),)
            first = self._first_forward(chunk.first_forward, awaited, replicas, waits=index > 0)
            result.append(replace(chunk, first_forward=first))
        return result

    def _chunk(self, chunk: Chunk, replicas: Replicas, accumulate: Program) -> ChunkPrograms:
        forward, backward, weight = passes = self._passes(chunk, lone=False)
        first, last, _ = self._passes(chunk, lone=True) if self._parts.apart else passes
        if replicas.overlap_gather and not replicas.aligned_gather and replicas.gather_bytes:
            first = gathered_in_buckets(first, replicas, self._shape)
        if self._shape.micro_batches == 1:
            accumulate = ()
        last_weight = weight
        if replicas.overlap_reduce and replicas.reduce:
            if weight:
                last_weight = reduced_in_buckets(weight, replicas, self._shape)
            else:
                last = reduced_in_buckets(last, replicas, self._shape)
        return ChunkPrograms(
            first_forward=first,
            forward=forward,
            first_backward=backward,
            backward=(*backward, *accumulate),
            last_backward=(*last, *accumulate),
            weight=weight,
            last_weight=last_weight,
        )

    def _passes(self, chunk: Chunk, *, lone: bool) -> tuple[Program, Program, Program]:
        """Forward, backward and deferred weight gradients of a chunk."""
        piece = self._parts.piece
        pieces = [
            (piece("layer", block.layer, replayed=block.replayed, lone=lone), block.count)
            for block in chunk.blocks
        ]
        if chunk.embedding:
            pieces.insert(0, (piece("embedding"), 1))
        if chunk.head:
            pieces.append((piece("head and loss"), 1))
        forward = tuple((each.forward, times) for each, times in pieces if times)
        backward = tuple((each.backward, times) for each, times in reversed(pieces) if times)
        weight: Program = ()
        if self._split:
            weight = tuple((each.weight, times) for each, times in reversed(pieces) if times)
        return forward, backward, weight

    def _reduce(self, stage: Stage, replicas: Replicas) -> Program:
        """Wait for reductions under way, or run them now."""
        steps: list[Step] = []
        if replicas.reduce and not replicas.overlap_reduce:
            for parameters in buckets(HeldParameters.of_stage(stage), replicas.bucket_parameters):
                steps += reductions(parameters, replicas, self._shape)
        steps += [Wait("data"), Wait("gather"), Wait("expert")]
        return ((communication("gradient reduction", "backward", tuple(steps)), 1),)

    def _gather(self, stage: Stage, replicas: Replicas) -> Program:
        """Gather updated parameters before anything else begins: all, or those of one chunk."""
        if not replicas.gather_bytes:
            return ()
        held = HeldParameters.of_stage(stage)
        if replicas.overlap_gather:
            if not replicas.aligned_gather:
                return ()
            held = HeldParameters.of_program(self._chunk(stage.chunks[0], Replicas(), ()).forward)
        launched = gathers(held, replicas, self._shape)
        if not launched:
            return ()
        steps = (*launched, Wait("gather"))
        return ((communication(GATHERED, "optimizer", steps), 1),)
