"""``internevo``: InternLM's trainer of 2023-07, which became InternEvo, with ``configs/7B_sft.py``.

Source: InternLM at fa7337b3, whose documentation has the first published table: torch 1.13, Apex
23.05, FlashAttention 1.0.5 with its fused products and loss (``internlm/model``). Norms take fp32
copies, and they and the add before them run again in the backward pass instead of being kept
(``dropout_selective_checkpoint``). The hybrid ZeRO optimizer
(``solver/optimizer/hybrid_zero_optim.py``) sums bf16 gradients over all replicas beside the last
backward pass; micro-batches add up in bf16. Each rank of the sharding group owns whole tensors,
steps them by PyTorch's AdamW pass by pass, and broadcasts them, owner after owner, beside nothing
(``broadcast_params(overlap=False)``; ``overlap_sync_param`` stays off in later releases' configs).
"""

import math

from predictor.dtypes import BF16_BYTES
from predictor.iteration.implementations import eager_blocks as eager
from predictor.iteration.implementations import fsdp
from predictor.iteration.implementations import megatron_steps as steps
from predictor.iteration.implementations import te_blocks as te
from predictor.iteration.implementations.early_flash import flash_1
from predictor.iteration.implementations.megatron_blocks import LAUNCH_SECONDS
from predictor.iteration.launches import Program, Segment, Tape
from predictor.iteration.layer import Layer
from predictor.iteration.megatron_memory import fused_memory
from predictor.iteration.stack import Part, Replicas, Stack
from predictor.iteration.step import Stage, StepShape
from predictor.operators import Gemm

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


def _column_backward(tape: Tape, shape: StepShape, out: int, into: int) -> None:
    """The sum of the input's gradient runs beside wgrad (FlashAttention's ``fused_dense.py``)."""
    tape.run(Gemm(m=shape.tokens, n=out, k=into, kind="dgrad", api="cublaslt"))
    tape.start(shape.partial_sum(into), "tensor")
    tape.run(Gemm(m=shape.tokens, n=out, k=into, kind="wgrad", api="cublaslt"))
    tape.wait("tensor")


def _norm(tape: Tape, shape: StepShape) -> None:
    """Apex' norm of an fp32 copy: it reads four bytes a number and writes two, as a cast does."""
    tape.fresh(eager.kernel("cast_up", shape.tokens, shape.hidden))
    tape.fresh(te.fused("cast_down", shape.tokens, shape.hidden))


def _norm_backward(tape: Tape, shape: StepShape) -> None:
    """Gradients of input (bf16 and fp32 read, fp32 written) and weight, then of the copy.

    Apex' two kernels are timed as those of this project that move the same bytes.
    """
    tape.fresh(te.fused("add_fp32", shape.tokens, shape.hidden))
    tape.run(te.fused("cast_up", shape.tokens, shape.hidden))
    tape.fresh(eager.kernel("cast_down", shape.tokens, shape.hidden))


def _part(forward: Tape, backward: Tape, parameters: int, *, replay: Tape | None = None) -> Part:
    return Part(
        forward=forward.steps(),
        backward=backward.steps(),
        replay=(replay or forward).steps(),
        launch_seconds=LAUNCH_SECONDS,
        parameters=parameters,
    )


def layer_part(shape: StepShape, layer: Layer) -> Part:
    """One layer of one rank.

    What a replay of the whole layer makes again beside its products is what the backward pass makes
    again without one, and stands there.
    """
    forward, replay, backward = Tape(), Tape(), Tape()
    _layer_forward(forward, shape, layer, norms=True)
    _layer_forward(replay, shape, layer, norms=False)
    _layer_backward(backward, shape, layer)
    return _part(forward, backward, layer.parameters, replay=replay)


def _layer_forward(tape: Tape, shape: StepShape, layer: Layer, *, norms: bool) -> None:
    """Positions are looked up after the host has read the highest of them."""
    n, h = shape.tokens, layer.hidden
    if norms:
        _norm(tape, shape)
    _linear_forward(tape, shape, layer.q + 2 * layer.kv, h)
    tape.sync()
    for columns in (layer.q, layer.kv):
        tape.run(
            eager.kernel("embedding", n, layer.head_dim // 2)
        )  # cosines, or sines, of each position
        tape.fresh(te.fused("rotary", n * columns // layer.head_dim, layer.head_dim))
    flash_1(tape, shape.attention("forward", layer))
    _linear_forward(tape, shape, h, layer.q)
    tape.collective(shape.partial_sum(h))
    if norms:
        tape.fresh(eager.kernel("add", n, h))
        _norm(tape, shape)
    for _ in range(2):
        _linear_forward(tape, shape, layer.ffn, h)
    tape.fresh(eager.kernel("silu", n, layer.ffn))
    tape.fresh(eager.kernel("mul", n, layer.ffn))
    _linear_forward(tape, shape, h, layer.ffn)
    tape.collective(shape.partial_sum(h))
    tape.fresh(eager.kernel("add", n, h))


def _layer_backward(tape: Tape, shape: StepShape, layer: Layer) -> None:
    n, h = shape.tokens, layer.hidden
    _linear_backward(tape, shape, h, layer.ffn)
    for name in ("mul", "mul", "silu_backward"):
        tape.run(eager.kernel(name, n, layer.ffn))
    for _ in range(2):
        _column_backward(tape, shape, layer.ffn, h)
    tape.run(eager.kernel("add", n, h))
    tape.run(eager.kernel("add", n, h))
    _norm(tape, shape)
    _norm_backward(tape, shape)
    tape.fresh(eager.kernel("add", n, h))
    _linear_backward(tape, shape, h, layer.q)
    flash_1(tape, shape.attention("backward", layer))
    tape.fresh(te.fused("rotary", n * layer.heads, layer.head_dim))
    tape.fresh(te.fused("rotary", n * layer.groups, layer.head_dim))
    _column_backward(tape, shape, layer.q + 2 * layer.kv, h)
    _norm(tape, shape)
    _norm_backward(tape, shape)
    tape.fresh(eager.kernel("add", n, h))


def embedding_part(shape: StepShape) -> Part:
    """Lookup; each tensor rank holds some columns of the table and gathers the others."""
    forward, backward = Tape(), Tape()
    forward.run(eager.kernel("embedding", shape.tokens, shape.hidden))
    forward.collective(shape.tensor.all_gather(shape.activation_bytes))
    backward.run(eager.kernel("embedding_backward", shape.tokens, shape.hidden))
    return _part(forward, backward, shape.vocab * shape.hidden)


def head_part(shape: StepShape) -> Part:
    """Final norm, logits, one fused loss over bf16 logits."""
    n, h, v = shape.tokens, shape.hidden, shape.vocab
    forward, backward = Tape(), Tape()
    _norm(forward, shape)
    _linear_forward(forward, shape, v, h)
    forward.run(te.fused("cross_entropy", n, v))
    forward.collective(shape.tensor.all_reduce(4.0 * n, "fp32"))
    forward.sync()
    backward.run(te.fused("cross_entropy_backward", n, v))
    _column_backward(backward, shape, v, h)
    _norm_backward(backward, shape)
    return _part(forward, backward, v * h)


def accumulate(stage: Stage) -> Program:
    """Gradients of a micro-batch added to those before."""
    tape = Tape()
    tape.run(steps.flat("add", stage.parameters, impl="torch"), kernels=max(1, stage.tensors))
    segment = Segment(label="gradient accumulation", phase="backward", steps=tape.steps())
    return ((segment, 1),)


def replicas(stage: Stage) -> Replicas:
    """Gradients are summed everywhere (``reduce_rank=None``); weights come from their owners.

    An owner has tensors of the average share, or one that is larger: no more ranks than there are
    matrices own any.
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
        gather_bytes=BF16_BYTES if sharded else 0.0,
        owner_parameters=math.ceil(stage.parameters / owners),
        overlap_gather=stage.shape.overlap_param_gather is True,
    )


def reduced(stage: Stage) -> Program:
    """Buckets filled, divided and emptied; of what a rank owns, numbers that are none, and a norm.

    The host reads both. Fp32 gradients are made of one flat copy, once for the norm and once to
    keep.
    """
    shape, tape, owned = stage.shape, Tape(), stage.owned_parameters
    if shape.data.ranks > 1:
        for name in ("copy", "scale", "copy"):
            tape.run(steps.flat(name, stage.parameters))
    tape.run(steps.flat("square_sum", owned))
    tape.collective(shape.world.all_reduce(4, "fp32"), "data")
    tape.sync()
    tape.run(steps.flat("cast_up", owned))
    tape.run(steps.flat("square_sum_fp32", owned))
    tape.collective(shape.world.all_reduce(4, "fp32"), "data")
    tape.sync()
    tape.run(steps.flat("copy", owned))
    tape.run(steps.flat("cast_up", owned))
    tape.run(steps.flat("scale_fp32", owned))
    return steps.program("gradient norm", tape)


def optimizer(stage: Stage) -> Program:
    """AdamW pass by pass over one flat fp32 buffer, and a copy into the bf16 weights."""
    tape = Tape()
    tape.run(steps.flat("cast_down", stage.owned_parameters))
    return (
        *fsdp.pass_by_pass_optimizer(stage, kernels=1),
        *steps.program("weights", tape),
    )


STACK = Stack(
    name="internevo",
    description="InternLM's trainer, later InternEvo (2023), with FlashAttention 1.0",
    parallel=True,
    compared=False,
    layer=layer_part,
    embedding=embedding_part,
    head=head_part,
    accumulate=accumulate,
    replicas=replicas,
    reduced=reduced,
    optimizer=optimizer,
    memory=fused_memory,
)
