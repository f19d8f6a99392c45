"""``megatron-deepspeed``: microsoft/Megatron-DeepSpeed c2b07362 (2023-08) on DeepSpeed 0.9.5.

Layers are Megatron-LM's of 2022 without fused weight gradients; DeepSpeed's pipeline engine sends
and receives in lockstep and sums gradients in buckets after the last backward pass. fp16 steps with
``FP16_Optimizer`` (``runtime/fp16/fused_optimizer.py``): flat fp32 gradients and masters. bf16
without ZeRO accumulates in fp32 (``runtime/engine.py``, ``get_data_types``), so it steps with
``BF16_Optimizer`` (``runtime/bf16_optimizer.py``): every micro-batch's gradients are added to fp32
ones behind its backward pass, which are all-reduced whole though states are sharded.
"""

from functools import partial

from predictor.dtypes import BF16_BYTES
from predictor.iteration.implementations import eager_blocks as eager
from predictor.iteration.implementations import megatron_blocks as blocks
from predictor.iteration.implementations import megatron_steps as steps
from predictor.iteration.implementations.megatron_blocks import Lineage
from predictor.iteration.implementations.te_blocks import fused
from predictor.iteration.launches import Program, Segment, Tape
from predictor.iteration.megatron_memory import unfused_memory
from predictor.iteration.stack import Replicas, Stack
from predictor.iteration.step import Stage

LINEAGE = Lineage(fused_wgrad=False, main_gradients=False, overlap_dgrad=False)
"""``megatron/arguments.py``: with ``--deepspeed`` no sum of a column-split product's input gradient
runs beside its wgrad."""

BUCKET_PARAMETERS = 500_000_000
"""``reduce_bucket_size`` (``runtime/zero/config.py``), also of ``engine.py``'s plain buckets."""


def accumulate(stage: Stage) -> Program:
    """A micro-batch's gradients are added to those before, tensor by tensor.

    By autograd in fp16, cast and added to fp32 ones in bf16 (``update_hp_grads``).
    """
    tape = Tape()
    each = max(1, stage.parameters // max(1, stage.tensors * len(stage.chunks)))
    rows = max(1, each // steps.FLAT_COLUMNS)
    if steps.fp32_gradients(stage.shape):
        tape.run(fused("cast_up", rows, steps.FLAT_COLUMNS))
        tape.fresh(eager.kernel("add_fp32", rows, steps.FLAT_COLUMNS))
    else:
        tape.run(eager.kernel("add", rows, steps.FLAT_COLUMNS))
    segment = Segment(label="gradient accumulation", phase="backward", steps=tape.steps())
    return ((segment, stage.tensors),)


def replicas(stage: Stage) -> Replicas:
    """Buckets one after another, beside nothing."""
    shape = stage.shape
    sharded = shape.sharding != "none"
    return Replicas(
        reduce="all_reduce",
        gradient_bytes=shape.gradient_bytes,
        bucket_parameters=BUCKET_PARAMETERS,
        overlap_reduce=False,
        gather_bytes=BF16_BYTES if sharded else 0.0,
    )


def reduced(stage: Stage) -> Program:
    """Gradients copied into a bucket, scaled and copied back; made fp32 and flat; their norm."""
    shape, tape = stage.shape, Tape()
    if steps.fp32_gradients(shape):
        return _reduced_fp32(stage)
    if shape.data.ranks > 1:
        for name in ("copy", "scale", "copy"):
            tape.run(steps.flat(name, stage.parameters))
    owned = stage.owned_parameters
    tape.run(steps.flat("square_sum", stage.parameters))
    tape.collective(shape.world.all_reduce(4, "fp32"), "data")
    tape.sync()
    tape.run(steps.flat("cast_up", owned))
    tape.run(steps.flat("copy_fp32", owned, impl="torch"))
    tape.run(steps.flat("square_sum_fp32", owned))
    tape.collective(shape.world.all_reduce(4, "fp32"), "data")
    tape.sync()
    return steps.program("gradient norm", tape)


def _reduced_fp32(stage: Stage) -> Program:
    """The same where gradients are fp32 already: nothing is looked for but their norm."""
    shape, tape = stage.shape, Tape()
    if shape.data.ranks > 1:
        for name in ("copy_fp32", "mul_scalar_fp32", "copy_fp32"):
            tape.run(steps.flat(name, stage.parameters, impl="torch"))
    tape.run(steps.flat("square_sum_fp32", stage.owned_parameters))
    tape.collective(shape.world.all_reduce(4, "fp32"), "data")
    tape.sync()
    return steps.program("gradient norm", tape)


STACK = Stack(
    name="megatron-deepspeed",
    description="microsoft/Megatron-DeepSpeed (2023-08) on DeepSpeed 0.9.5's pipeline engine",
    parallel=True,
    compared=False,
    knows=frozenset({"fp16"}),
    vocab_multiple=blocks.VOCABULARY_MULTIPLE,
    layer=partial(blocks.layer_part, lineage=LINEAGE),
    embedding=partial(blocks.embedding_part, lineage=LINEAGE),
    head=partial(blocks.head_part, lineage=LINEAGE),
    accumulate=accumulate,
    replicas=replicas,
    reduced=reduced,
    optimizer=steps.optimizer,
    message_bytes=steps.scattered_bytes,
    memory=unfused_memory,
)
