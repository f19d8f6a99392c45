"""``bigscience-megatron-deepspeed``: bigscience-workshop/Megatron-DeepSpeed, as BLOOM was trained.

Layers of Megatron-LM 2021 with ALiBi; what tensor ranks hold alike (norm weights and biases, biases
of row-split products) is averaged over them in every forward pass (``fused_layer_norm.py``,
``mpu/layers.py``). ``BF16_Optimizer`` adds every micro-batch's gradients to fp32 ones after its
backward pass, all-reduces them whole though states are sharded, and gathers bf16 weights.
The job ran with ``CUDA_LAUNCH_BLOCKING=1``: the host waits for every kernel before the next.
"""

from collections.abc import Sequence
from dataclasses import replace

from predictor.iteration.implementations import megatron_blocks as blocks
from predictor.iteration.implementations import megatron_deepspeed
from predictor.iteration.implementations import megatron_steps as steps
from predictor.iteration.implementations.megatron_blocks import Lineage
from predictor.iteration.implementations.te_blocks import fused
from predictor.iteration.launches import Launch, Program, Step, Sync, Tape
from predictor.iteration.layer import Layer
from predictor.iteration.megatron_memory import unfused_memory
from predictor.iteration.stack import Part, Stack
from predictor.iteration.step import Stage, StepShape

DUPLICATED_TENSORS = 6
"""Weight and bias of two norms, biases of two row-split products."""


def lineage_of(shape: StepShape) -> Lineage:
    """Without learned positions the scores carry ALiBi's bias."""
    return Lineage(
        fused_wgrad=False,
        main_gradients=False,
        overlap_dgrad=False,
        alibi=shape.alibi,
        duplicated=DUPLICATED_TENSORS if shape.tensor.ranks > 1 else 0,
    )


def launch_blocking(steps_: Sequence[Step]) -> tuple[Step, ...]:
    """The host waits for every launch."""
    found: list[Step] = []
    for step in steps_:
        found.append(step)
        if isinstance(step, Launch) and step.stream == "compute":
            found.append(Sync())
    return tuple(found)


def _blocking(part: Part) -> Part:
    return replace(
        part,
        forward=launch_blocking(part.forward),
        backward=launch_blocking(part.backward),
        replay=launch_blocking(part.replay),
    )


def layer_part(shape: StepShape, layer: Layer) -> Part:
    """One layer of one rank."""
    return _blocking(blocks.layer_part(shape, layer, lineage_of(shape)))


def embedding_part(shape: StepShape) -> Part:
    """The input table, and BLOOM's norm behind it."""
    part = blocks.embedding_part(shape, lineage_of(shape))
    forward, backward = Tape(), Tape()
    if shape.alibi:
        forward.run(fused("layer_norm", shape.tokens, shape.hidden))
        backward.run(fused("layer_norm_backward", shape.tokens, shape.hidden), kernels=2)
    return _blocking(
        replace(
            part,
            forward=(*part.forward, *forward.steps()),
            backward=(*backward.steps(), *part.backward),
        )
    )


def head_part(shape: StepShape) -> Part:
    """Final norm, logits and loss."""
    return _blocking(blocks.head_part(shape, lineage_of(shape)))


def accumulate(stage: Stage) -> Program:
    """A micro-batch's gradients added to those before."""
    return tuple(
        (replace(segment, steps=launch_blocking(segment.steps)), times)
        for segment, times in megatron_deepspeed.accumulate(stage)
    )


STACK = Stack(
    name="bigscience-megatron-deepspeed",
    description="bigscience-workshop/Megatron-DeepSpeed (2022): BLOOM, launches one at a time",
    parallel=True,
    compared=False,
    knows=frozenset({"fp16", "alibi"}),
    vocab_multiple=blocks.VOCABULARY_MULTIPLE,
    layer=layer_part,
    embedding=embedding_part,
    head=head_part,
    accumulate=accumulate,
    replicas=megatron_deepspeed.replicas,
    reduced=megatron_deepspeed.reduced,
    optimizer=steps.optimizer,
    message_bytes=steps.scattered_bytes,
    memory=unfused_memory,
)
