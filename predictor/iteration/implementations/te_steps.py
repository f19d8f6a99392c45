"""What Megatron-Core runs once a step beside layers of Transformer Engine.

Read in Megatron-Core 0.8 to 0.19 (``distributed_data_parallel.py``, ``param_and_grad_buffer.py``,
``clip_grads.py``, ``distrib_optimizer.py``): gradients in buckets, their norm, one fused AdamW.
"""

from predictor.dtypes import BF16_BYTES, FP32_BYTES
from predictor.iteration.implementations import local_moe
from predictor.iteration.implementations import te_blocks as te
from predictor.iteration.implementations.megatron_steps import flat, program
from predictor.iteration.launches import Program, Segment, Tape
from predictor.iteration.stack import Replicas
from predictor.iteration.step import Stage, StepShape
from predictor.operators import Host, Optimizer

LEAST_BUCKET_PARAMETERS = 40_000_000
BUCKET_PARAMETERS_PER_RANK = 1_000_000
"""A bucket holds the larger of 40 M and 1 M a data-parallel rank (Megatron-Core 0.8 to 0.19,
``distributed_data_parallel.py``)."""


def replicas(stage: Stage) -> Replicas:
    """Buckets beside the last backward pass; only the first stage splits its gradients."""
    shape = stage.shape
    if shape.sharding == "parameters":
        return Replicas()
    sharded = shape.sharding != "none"
    ranks = shape.data.ranks
    bucket = max(LEAST_BUCKET_PARAMETERS, BUCKET_PARAMETERS_PER_RANK * ranks)
    return Replicas(
        reduce="reduce_scatter" if sharded else "all_reduce",
        gradient_bytes=shape.gradient_bytes,
        bucket_parameters=bucket if stage.index == 0 else None,
        overlap_reduce=shape.overlap_grad_reduce is not False,
        gather_bytes=_gathered_bytes(shape) if sharded else 0.0,
        overlap_gather=_overlaps_gather(shape),
        aligned_gather=shape.chunks > 1,
    )


def _overlaps_gather(shape: StepShape) -> bool:
    """As asked; else in all but plain pipelines, where each stage would gather by itself."""
    if shape.overlap_param_gather is not None:
        return shape.overlap_param_gather
    return shape.stages == 1 or shape.chunks > 1


def _gathered_bytes(shape: StepShape) -> float:
    """Bytes of a parameter that ranks gather: those of one scale a tensor are already small."""
    recipe = shape.recipe
    return recipe.wire_bytes if recipe and recipe.gathers_parameters else BF16_BYTES


def reduced(stage: Stage) -> Program:
    """Each bucket's norm before its reduction; the gradients' over all ranks, which the host reads.

    The first looks for numbers that are none (``check_for_nan_in_grad``, ``check_grads`` of
    ``param_and_grad_buffer.py``: Megatron-LM's default, set by NeMo and Megatron-Bridge).
    """
    tape, shape = Tape(), stage.shape
    if shape.sharding != "parameters":
        size = stage.trained_parameters * shape.gradient_bytes // FP32_BYTES
        tape.run(flat("square_sum_fp32", size))
    tape.run(flat("square_sum_fp32", stage.owned_parameters))
    tape.collective(shape.world.all_reduce(4, "fp32"), "data")
    tape.sync()
    return program("gradient norm", tape)


def optimizer(stage: Stage) -> Program:
    """One fused multi-tensor step over the parameters that the rank owns, in fp32.

    Gradients are scaled by their norm first, whatever it is (``clip_grads.py`` 0.17 on). A copy
    for each tensor makes bf16 weights of them (``distrib_optimizer.py``,
    ``_copy_main_params_to_model_params``), a pass clears the whole buffer of gradients before the
    next step. Matrices whose products are small are cast once a step, in both directions; those
    that ranks gather in small numbers are cast from fp32. The host goes over tensors in Python as
    it does in the measured step of the local layers.
    """
    tape, owned, shape = Tape(), stage.owned_parameters, stage.shape
    tape.run(flat("scale_fp32", owned))
    tape.run(Optimizer(kernel="adamw", elements=owned, dtype="fp32", impl="native"))
    if not (shape.recipe and shape.recipe.gathers_parameters):
        tape.run(flat("cast_down", owned), kernels=stage.owned_tensors)
    kept = owned if shape.sharding == "parameters" else stage.trained_parameters
    tape.run(flat("zero", shape.gradient_bytes // BF16_BYTES * kept))
    for chunk in stage.chunks:
        for block in chunk.blocks:
            if block.layer.adapters and shape.recipe and shape.recipe.gathers_parameters:
                continue  # frozen weights stay small from step to step
            weights = block.layer.matrix_parameters + block.layer.expert_parameters
            rows = block.count * weights // shape.hidden
            te.operand(tape, shape.recipe, rows, shape.hidden, turned=True)
    host = (
        (Host(stack=local_moe.STACK, block="llama", phase="optimizer", quantity="fixed"), 1.0),
        (
            Host(stack=local_moe.STACK, block="llama", phase="optimizer", quantity="tensor"),
            float(stage.owned_tensors),
        ),
    )
    return ((Segment(label="optimizer", phase="optimizer", steps=tape.steps(), host=host), 1),)
