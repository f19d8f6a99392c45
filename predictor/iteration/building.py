"""From a stack and a stage to the programs that its micro-batches run.

Nothing runs beside the first forward and the last backward pass of a step, where other passes run
beside one of another micro-batch, which hides their experts' exchanges (Megatron-Core 0.18,
``combined_1f1b.py``).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

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
from predictor.iteration.launches import Launch, Program, Segment, Step, Wait
from predictor.iteration.layer import Layer
from predictor.iteration.programs import ChunkPrograms, StagePrograms
from predictor.iteration.stack import Part, Replicas, Stack
from predictor.iteration.step import Chunk, Stage, StepShape
from predictor.values import frozen


@frozen
class Piece:
    """The segments of one part; ``weight`` matters where the backward pass is split."""

    forward: Segment
    backward: Segment
    weight: Segment


class Builder:
    """Builds the programs of a step's stages; equal parts share their segments."""

    def __init__(self, stack: Stack, shape: StepShape, *, split_backward: bool) -> None:
        """Name the stack, the sizes, and whether weight gradients are deferred."""
        self._stack, self._shape, self._split = stack, shape, split_backward
        self._parts = cache(self._segments_of_part)
        self._lone = _apart(shape)
        self._layer: Callable[..., Part] = cache(self._part_of_layer)

    def stages(self, stages: Sequence[Stage]) -> tuple[StagePrograms, ...]:
        """Programs of all stages; those that hold the same share theirs."""
        known: dict[tuple[bool, tuple[Chunk, ...]], StagePrograms] = {}
        for stage in stages:
            held = stage.index == 0, stage.chunks
            if held not in known:
                known[held] = self._stage(stage)
        return tuple(known[stage.index == 0, stage.chunks] for stage in stages)

    def piece(
        self,
        label: str,
        layer: Layer | None = None,
        *,
        replayed: bool = False,
        lone: bool = False,
    ) -> "Piece":
        """The segments of one part: ``layer``, ``embedding`` or ``head and loss``.

        ``lone``: as the first forward and the last backward pass of a step have them.
        """
        return self._parts(label, layer, replayed=replayed, lone=lone)

    def _stage(self, stage: Stage) -> StagePrograms:
        alone = self._shape.data.ranks * self._shape.replicas.ranks == 1
        replicas = Replicas() if alone else self._stack.replicas(stage)
        accumulate = self._stack.accumulate(stage)
        alike = cache(lambda chunk: self._chunk(chunk, replicas, accumulate))
        chunks = [alike(chunk) for chunk in stage.chunks]
        if replicas.overlap_gather and replicas.aligned_gather:
            chunks = _aligned(chunks, replicas, self._shape)
        return StagePrograms(
            chunks=tuple(chunks),
            reduce=(*self._reduce(stage, replicas), *self._stack.reduced(stage)),
            step=(*self._stack.optimizer(stage), *self._gather(stage, replicas)),
        )

    def _chunk(self, chunk: Chunk, replicas: Replicas, accumulate: Program) -> ChunkPrograms:
        forward, backward, weight = passes = self._passes(chunk, lone=False)
        first, last, _ = self._passes(chunk, lone=True) if self._lone else passes
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
        pieces = [
            (self.piece("layer", block.layer, replayed=block.replayed, lone=lone), block.count)
            for block in chunk.blocks
        ]
        if chunk.embedding:
            pieces.insert(0, (self.piece("embedding"), 1))
        if chunk.head:
            pieces.append((self.piece("head and loss"), 1))
        forward = tuple((piece.forward, times) for piece, times in pieces if times)
        backward = tuple((piece.backward, times) for piece, times in reversed(pieces) if times)
        weight: Program = ()
        if self._split:
            weight = tuple((piece.weight, times) for piece, times in reversed(pieces) if times)
        return forward, backward, weight

    def _segments_of_part(
        self, label: str, layer: Layer | None, *, replayed: bool, lone: bool
    ) -> "Piece":
        part = self._part(label, layer, lone=lone)
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

    def _part(self, label: str, layer: Layer | None, *, lone: bool) -> Part:
        if layer is not None:
            return self._layer(layer, lone=lone and layer.experts is not None)
        stack = self._stack
        return (stack.embedding if label == "embedding" else stack.head)(self._shape)

    def _part_of_layer(self, layer: Layer, *, lone: bool) -> Part:
        return self._stack.layer(self._lone if lone and self._lone else self._shape, layer)

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


def _apart(shape: StepShape) -> StepShape | None:
    """Sizes of a pass that waits for its experts' exchanges, where others hide them; else None."""
    experts = shape.experts
    if experts is None or experts.overlap is not True:
        return None
    return replace(shape, experts=replace(experts, lone=True))


def _aligned(
    chunks: Sequence[ChunkPrograms], replicas: Replicas, shape: StepShape
) -> list[ChunkPrograms]:
    """Chunks whose parameters arrive beside the chunk before; the first one's are there."""
    result = []
    following: list[ChunkPrograms | None] = [*chunks[1:], None]
    for index, (chunk, after) in enumerate(zip(chunks, following, strict=True)):
        awaited = () if after is None else (HeldParameters.of_program(after.forward),)
        first = first_forward(chunk.first_forward, awaited, replicas, shape, waits=index > 0)
        result.append(replace(chunk, first_forward=first))
    return result
