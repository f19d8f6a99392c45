"""``internevo``: InternEvo of 2023-09 to 2024-01 with ``configs/7B_sft.py``.

FlashAttention 2, fused norm and rotary embedding, scripted SwiGLU, FlashAttention's loss over bf16
logits (``internlm/model/modeling_internlm.py``). The hybrid ZeRO optimizer
(``solver/optimizer/hybrid_zero_optim.py``) sums bf16 gradients over all replicas beside the last
backward pass. Each rank of the sharding group owns whole tensors and broadcasts what it stepped,
owner after owner, beside the next forward pass (``overlap_sync_grad``, ``overlap_sync_param``);
micro-batches add up in bf16.
"""

import math
from dataclasses import replace

from predictor.iteration.implementations import megatron_steps as steps
from predictor.iteration.implementations import te_blocks as te
from predictor.iteration.implementations.megatron_blocks import LAUNCH_SECONDS, eager
from predictor.iteration.launches import Program, Segment, Step, Tape
from predictor.iteration.layer import Layer
from predictor.iteration.megatron_memory import fused_memory
from predictor.iteration.stack import Part, Replicas, Stack
from predictor.iteration.step import Stage, StepShape
from predictor.operators import Attention, Gemm

BUCKET_PARAMETERS = 512 * 1024**2
"""``reduce_bucket_size`` of the example's ``hybrid_zero_optimizer``."""


MATRICES_OF_A_LAYER = 5
"""Fused queries, keys and values, their output, and three of the feed-forward."""


def _linear_forward(tape: Tape, shape: StepShape, out: int, into: int) -> None:
    tape.run(Gemm(m=shape.tokens, n=out, k=into, kind="forward", api="cublaslt"))


def _linear_backward(tape: Tape, shape: StepShape, out: int, into: int) -> None:
    """Weight gradients are plain bf16 products; autograd adds them over micro-batches."""
    tape.run(Gemm(m=shape.tokens, n=out, k=into, kind="dgrad", api="cublaslt"))
    tape.run(Gemm(m=shape.tokens, n=out, k=into, kind="wgrad", api="cublaslt"))


def _attention(shape: StepShape, layer: Layer, kind: str) -> Attention:
    return replace(shape.attention(kind, layer), impl="flash")


def _part(forward: tuple[Step, ...], backward: tuple[Step, ...], parameters: int) -> Part:
    return Part(
        forward=forward,
        backward=backward,
        replay=forward,
        launch_seconds=LAUNCH_SECONDS,
        parameters=parameters,
    )


def layer_part(shape: StepShape, layer: Layer) -> Part:
    """One layer of one rank; tensor ranks sum activations twice each way, without overlap."""
    forward, backward = Tape(), Tape()
    _layer_forward(forward, shape, layer)
    _layer_backward(backward, shape, layer)
    return _part(forward.steps(), backward.steps(), layer.parameters)


def _layer_forward(tape: Tape, shape: StepShape, layer: Layer) -> None:
    n, h = shape.tokens, layer.hidden
    tape.fresh(te.fused("rms_norm", n, h))
    _linear_forward(tape, shape, layer.q + 2 * layer.kv, h)
    tape.fresh(te.fused("rotary", n * layer.heads, layer.head_dim))
    tape.fresh(te.fused("rotary", n * layer.groups, layer.head_dim))
    tape.run(_attention(shape, layer, "forward"))
    _linear_forward(tape, shape, h, layer.q)
    tape.collective(shape.partial_sum(h))
    tape.fresh(te.fused("residual_add", n, h))
    tape.fresh(te.fused("rms_norm", n, h))
    for _ in range(2):
        _linear_forward(tape, shape, layer.ffn, h)
    tape.fresh(te.fused("silu_mul", n, layer.ffn))
    _linear_forward(tape, shape, h, layer.ffn)
    tape.collective(shape.partial_sum(h))
    tape.fresh(te.fused("residual_add", n, h))


def _layer_backward(tape: Tape, shape: StepShape, layer: Layer) -> None:
    n, h = shape.tokens, layer.hidden
    _linear_backward(tape, shape, h, layer.ffn)
    tape.fresh(te.fused("silu_mul_backward", n, layer.ffn))
    for _ in range(2):
        _linear_backward(tape, shape, layer.ffn, h)
    tape.fresh(te.fused("residual_add", n, h))
    tape.collective(shape.partial_sum(h))
    tape.fresh(te.fused("rms_norm_backward", n, h), kernels=2)
    tape.fresh(te.fused("residual_add", n, h))
    _linear_backward(tape, shape, h, layer.q)
    tape.run(_attention(shape, layer, "backward"), kernels=3)
    tape.fresh(te.fused("rotary", n * layer.heads, layer.head_dim))
    tape.fresh(te.fused("rotary", n * layer.groups, layer.head_dim))
    _linear_backward(tape, shape, layer.q + 2 * layer.kv, h)
    tape.collective(shape.partial_sum(h))
    tape.fresh(te.fused("rms_norm_backward", n, h), kernels=2)
    tape.fresh(te.fused("residual_add", n, h))


def embedding_part(shape: StepShape) -> Part:
    """Lookup; each tensor rank holds some columns of the table and gathers the others."""
    forward, backward = Tape(), Tape()
    forward.run(eager("embedding", shape.tokens, shape.hidden))
    forward.collective(shape.tensor.all_gather(shape.activation_bytes))
    backward.run(eager("embedding_backward", shape.tokens, shape.hidden))
    return _part(forward.steps(), backward.steps(), shape.vocab * shape.hidden)


def head_part(shape: StepShape) -> Part:
    """Final norm, logits, one fused loss over bf16 logits."""
    n, h, v = shape.tokens, shape.hidden, shape.vocab
    forward, backward = Tape(), Tape()
    forward.fresh(te.fused("rms_norm", n, h))
    _linear_forward(forward, shape, v, h)
    forward.run(te.fused("cross_entropy", n, v))
    forward.collective(shape.tensor.all_reduce(4.0 * n, "fp32"))
    forward.sync()
    backward.run(te.fused("cross_entropy_backward", n, v))
    _linear_backward(backward, shape, v, h)
    backward.collective(shape.partial_sum(h))
    backward.fresh(te.fused("rms_norm_backward", n, h), kernels=2)
    return _part(forward.steps(), backward.steps(), v * h)


def accumulate(stage: Stage) -> Program:
    """Gradients of a micro-batch added to those before."""
    tape = Tape()
    tape.run(steps.flat("add", stage.parameters, impl="torch"), kernels=max(1, stage.tensors))
    segment = Segment(label="gradient accumulation", phase="backward", steps=tape.steps())
    return ((segment, 1),)


def replicas(stage: Stage) -> Replicas:
    """Gradients are summed everywhere (``reduce_rank=None``); weights come from their owners.

    An owner has tensors of the average share, or one that is larger (``ParamBcastSyncHandler`` of
    ``solver/optimizer/utils.py``): no more ranks than there are matrices own any.
    """
    sharded = stage.shape.sharding != "none"
    layers = sum(chunk.layers for chunk in stage.chunks)
    matrices = MATRICES_OF_A_LAYER * layers + stage.first + stage.last
    owners = max(1, min(stage.shape.data.ranks, matrices))
    return Replicas(
        reduce="all_reduce",
        gradient_bytes=stage.shape.gradient_bytes,
        bucket_parameters=BUCKET_PARAMETERS,
        overlap_reduce=stage.shape.overlap_grad_reduce is not False,
        gather_bytes=steps.WEIGHT_BYTES if sharded else 0.0,
        owner_parameters=math.ceil(stage.parameters / owners),
        overlap_gather=stage.shape.overlap_param_gather is not False,
    )


STACK = Stack(
    name="internevo",
    description="InternEvo (2023) with FlashAttention and its hybrid ZeRO optimizer",
    parallel=True,
    compared=False,
    layer=layer_part,
    embedding=embedding_part,
    head=head_part,
    accumulate=accumulate,
    replicas=replicas,
    reduced=steps.reduced,
    optimizer=steps.optimizer,
    memory=fused_memory,
)
