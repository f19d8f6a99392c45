"""What Megatron-LM and its forks run once gradients are whole: sums over replicas, norm, step.

Source: NVIDIA/Megatron-LM v2.6 and main of 2022-09, ``optimizer/optimizer.py``
(``MixedPrecisionOptimizer``, ``Float16OptimizerWithFloat16Params``), ``optimizer/clip_grads.py``;
Apex ``FusedAdam`` over fp32 masters.
"""

import math

from predictor.dtypes import BF16_BYTES, FP32_BYTES
from predictor.iteration.implementations import eager_blocks as eager
from predictor.iteration.implementations.te_blocks import fused
from predictor.iteration.launches import Program, Segment, Tape
from predictor.iteration.stack import Replicas
from predictor.iteration.step import Stage, StepShape
from predictor.operators import MemoryBound, Optimizer

FLAT_COLUMNS = 4096
"""A flat buffer is walked as rows of so many numbers."""


TORCH_BUCKET_BYTES = 25 * 1024**2
"""Buckets of PyTorch's ``DistributedDataParallel`` (``bucket_cap_mb``)."""


def flat(name: str, elements: int, *, impl: str = "native") -> MemoryBound:
    """One kernel over a flat buffer."""
    rows = math.ceil(elements / FLAT_COLUMNS)
    return (fused if impl == "native" else eager.kernel)(name, rows, FLAT_COLUMNS)


def fp32_gradients(shape: StepShape) -> bool:
    """Main gradients are kept in fp32, as bf16 runs have them; fp16 runs keep fp16."""
    return shape.gradient_bytes == FP32_BYTES


def program(label: str, tape: Tape) -> Program:
    """One segment of the step."""
    return ((Segment(label=label, phase="optimizer", steps=tape.steps()), 1),)


def blocking_replicas(stage: Stage) -> Replicas:
    """One reduction of the whole buffer when all backward passes have ended.

    A sharded optimizer scatters the sum and gathers the weights.
    """
    shape = stage.shape
    sharded = shape.sharding != "none"
    return Replicas(
        reduce="reduce_scatter" if sharded else "all_reduce",
        gradient_bytes=shape.gradient_bytes,
        overlap_reduce=bool(shape.overlap_grad_reduce),
        gather_bytes=BF16_BYTES if sharded else 0.0,
    )


def torch_replicas(stage: Stage) -> Replicas:
    """PyTorch's buckets, beside the last backward pass."""
    shape = stage.shape
    return Replicas(
        reduce="all_reduce",
        gradient_bytes=shape.gradient_bytes,
        bucket_parameters=TORCH_BUCKET_BYTES // shape.gradient_bytes,
        overlap_reduce=True,
    )


def reduced(stage: Stage) -> Program:
    """Mean over replicas, fp32 gradients, a look for infinities (fp16), and the global norm.

    The host reads whether one was found, and the norm.
    """
    shape, tape = stage.shape, Tape()
    owned = stage.owned_parameters
    half = not fp32_gradients(shape)
    if shape.data.ranks > 1:
        tape.run(flat("scale" if half else "scale_fp32", stage.parameters))
    if half:
        tape.run(flat("cast_up", owned))
        tape.run(flat("scale_fp32", owned))
        tape.collective(shape.world.all_reduce(4, "fp32"), "data")
        tape.sync()
    tape.run(flat("square_sum_fp32", owned))
    tape.collective(shape.world.all_reduce(4, "fp32"), "data")
    tape.sync()
    return program("gradient norm", tape)


def optimizer(stage: Stage) -> Program:
    """Gradients clipped, one multi-tensor Adam over fp32 masters, weights and buffer made anew."""
    tape = Tape()
    owned = stage.owned_parameters
    tape.run(flat("scale_fp32", owned))
    tape.run(Optimizer(kernel="adamw_master", elements=owned, dtype="fp32", impl="native"))
    words = stage.shape.gradient_bytes // 2
    tape.run(flat("zero", words * stage.parameters))
    return program("optimizer", tape)


def scattered_bytes(shape: StepShape) -> float:
    """A message between stages: each tensor rank sends its share of the residual stream."""
    return shape.activation_bytes / shape.tensor.ranks
