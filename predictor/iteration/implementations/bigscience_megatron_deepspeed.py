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
from predictor.iteration.implementations import megatron_steps as steps
from predictor.iteration.implementations.megatron_blocks import Lineage, eager, fused
from predictor.iteration.implementations.megatron_deepspeed import BUCKET_PARAMETERS
from predictor.iteration.implementations.megatron_deepspeed import accumulate as half_accumulate
from predictor.iteration.implementations.megatron_deepspeed import reduced as half_reduced
from predictor.iteration.launches import Launch, Program, Segment, Step, Sync, Tape
from predictor.iteration.layer import Layer
from predictor.iteration.megatron_memory import unfused_memory
from predictor.iteration.stack import Part, Replicas, Stack
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
    """Every gradient cast to fp32 and added; fp16 runs leave that to autograd."""
    if not steps.fp32_gradients(stage.shape):
        return half_accumulate(stage)
    tape = Tape()
    tensors = max(1, stage.tensors)
    rows = max(1, stage.parameters // tensors // len(stage.chunks) // steps.FLAT_COLUMNS)
    tape.run(fused("cast_up", rows, steps.FLAT_COLUMNS))
    tape.fresh(eager("add_fp32", rows, steps.FLAT_COLUMNS))
    segment = Segment(
        label="gradient accumulation", phase="backward", steps=launch_blocking(tape.steps())
    )
    return ((segment, tensors),)


def replicas(stage: Stage) -> Replicas:
    """The whole gradient to everyone, though each keeps a share of the states."""
    sharded = stage.shape.sharding != "none"
    return Replicas(
        reduce="all_reduce",
        gradient_bytes=stage.shape.gradient_bytes,
        bucket_parameters=BUCKET_PARAMETERS,
        overlap_reduce=False,
        gather_bytes=steps.WEIGHT_BYTES if sharded else 0.0,
    )


def reduced(stage: Stage) -> Program:
    """Gradients copied into a bucket, scaled and copied back; their norm."""
    shape, tape = stage.shape, Tape()
    if not steps.fp32_gradients(shape):
        return half_reduced(stage)
    if shape.data.ranks > 1:
        for name in ("copy_fp32", "mul_scalar_fp32", "copy_fp32"):
            tape.run(steps.flat(name, stage.parameters, impl="torch"))
    tape.run(steps.flat("square_sum_fp32", stage.owned_parameters))
    tape.collective(shape.world.all_reduce(4, "fp32"), "data")
    tape.sync()
    return steps.program("gradient norm", tape)


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
    replicas=replicas,
    reduced=reduced,
    optimizer=steps.optimizer,
    message_bytes=steps.scattered_bytes,
    memory=unfused_memory,
)
