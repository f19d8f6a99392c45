"""What Megatron-Core's local spec runs once a step, and the memory that it holds at its peak.

Read in Megatron-Core 0.19 without Apex (``distributed_data_parallel.py``, ``clip_grads.py``,
``optimizer.py``): AdamW runs list by list (``foreach``), over experts apart; gradients are clipped.
"""

from predictor.dtypes import BF16_BYTES
from predictor.iteration.implementations import eager_blocks as eager
from predictor.iteration.implementations import hf_eager, local_moe
from predictor.iteration.launches import Program, Segment, Tape
from predictor.iteration.layer import Layer
from predictor.iteration.megatron_memory import fused_activations
from predictor.iteration.memory import CUBLAS_WORKSPACE_BYTES, Memory, finished, largest, worst_of
from predictor.iteration.stack import Replicas
from predictor.iteration.step import Stage
from predictor.operators import Host, MemoryBound, Optimizer

NAME = local_moe.STACK
LOGIT_BYTES = 6
"""At the loss: fp32 exponentials, which become the gradient in place, and its bf16 copy."""

TEMPORARY_BYTES = 4
"""A parameter's fp32 denominator in ``foreach`` AdamW: the whole list's at once."""

OPTIMIZER_PASSES = 8
"""Launches of AdamW for as many parameters as one takes."""

FLAT_COLUMNS = 4096
"""A gradient is walked as rows of so many numbers."""


def activity(phase: str, quantity: str, block: str = "llama") -> Host:
    """What the host spends on a measured step of these layers."""
    return Host(stack=NAME, block=block, phase=phase, quantity=quantity)


def layer_tensors(layer: Layer) -> int:
    """Parameter tensors of a layer."""
    experts = 2 * layer.experts.held - 1 if layer.experts else 0
    biases = 6 if layer.biases else 0  # of four products and two norms
    return 6 + biases + experts + (2 if layer.qk_norm else 0)


def _held_tensors(stage: Stage) -> int:
    """Parameter tensors of a stage: its layers', the table, the final norm and the head."""
    blocks = [block for chunk in stage.chunks for block in chunk.blocks]
    return sum(layer_tensors(b.layer) * b.count for b in blocks) + stage.first + 2 * stage.last


def replicas(stage: Stage) -> Replicas:
    """One collective a buffer when all is done, unless overlap is asked for."""
    shape = stage.shape
    sharded = shape.sharding != "none"
    return Replicas(
        reduce="reduce_scatter" if sharded else "all_reduce",
        gradient_bytes=shape.gradient_bytes,
        bucket_parameters=40_000_000 if stage.index == 0 and shape.overlap_grad_reduce else None,
        overlap_reduce=shape.overlap_grad_reduce is True,
        gather_bytes=BF16_BYTES if sharded else 0.0,
        overlap_gather=shape.overlap_param_gather is True,
    )


def _flat(name: str, elements: int) -> MemoryBound:
    """One kernel over a flat tensor."""
    return eager.kernel(name, -(-elements // FLAT_COLUMNS), FLAT_COLUMNS)


def reduced(stage: Stage) -> Program:
    """Gradients scaled by the replicas; their norms tensor by tensor, each read by the host.

    A norm above one then clips them, tensor by tensor: a scaled copy is made and copied back
    (``local_multi_tensor_scale`` in ``utils.py``).
    """
    tape = Tape()
    tensors = _held_tensors(stage)
    if stage.shape.data.ranks > 1:
        tape.run(_flat("mul_scalar_fp32", stage.parameters))
    for _ in range(tensors):
        tape.run(_flat("sum_fp32", stage.owned_parameters // tensors))
        tape.sync()
    tape.collective(stage.shape.world.all_reduce(4, "fp32"), "data")
    tape.sync()
    for name in ("mul_scalar_fp32", "copy_fp32"):
        tape.run(_flat(name, stage.owned_parameters), kernels=tensors)
    return ((Segment(label="gradient norm", phase="optimizer", steps=tape.steps()), 1),)


def optimizer(stage: Stage) -> Program:
    """Pass by pass over the owned states, a copy into every parameter, zeroed gradients."""
    tape = Tape()
    tensors = _held_tensors(stage)
    owned = stage.owned_parameters
    launches = 1 + owned // hf_eager.OPTIMIZER_ELEMENTS_PER_LAUNCH
    step = Optimizer(kernel="adamw_foreach", elements=owned, tensors=tensors, dtype="fp32")
    tape.run(step, kernels=OPTIMIZER_PASSES * launches)
    tape.run(_flat("cast_down", owned), kernels=tensors)
    tape.run(_flat("fill_fp32", stage.parameters))
    host = (
        (activity("optimizer", "fixed"), 1),
        (activity("optimizer", "tensor"), tensors),
    )
    return ((Segment(label="optimizer", phase="optimizer", steps=tape.steps(), host=host), 1),)


def memory(stage: Stage, in_flight: tuple[int, ...]) -> Memory:
    """The larger of two moments: the loss of the last micro-batch, and the optimizer's step.

    Experts that ranks share have an optimizer of their own, so that its temporaries come after the
    other's (``optimizer/__init__.py``; ``allreduce`` in ``tensor_parallel/layers.py``).
    """
    shape = stage.shape
    spread = shape.experts is not None and shape.experts.expert.ranks > 1
    experts = stage.expert_parameters if spread else 0
    states = {
        "parameters": 2.0 * stage.parameters,
        "optimizer states": 12.0 * stage.owned_parameters,
        "gradients": 4.0 * stage.parameters,
        "workspaces": float(CUBLAS_WORKSPACE_BYTES),
    }
    share = stage.owned_parameters / stage.parameters
    loss = {
        "activations": fused_activations(stage, in_flight),
        "logits and loss": 1.0 * LOGIT_BYTES * shape.tokens * shape.vocab if stage.last else 0.0,
    }
    temporary = TEMPORARY_BYTES * share * largest((experts, stage.parameters - experts))
    step = {"activations": temporary, "logits and loss": 0.0}
    worst = worst_of(loss, step)
    return finished({**states, **worst}, distributed=shape.world.ranks > 1)
