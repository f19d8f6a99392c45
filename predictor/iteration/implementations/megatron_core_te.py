"""``megatron-core-te``: Megatron-Core with Transformer Engine layers.

What it launches a layer: a norm, a fused qkv product, rotary, cuDNN attention, the output product
with a fused bias-dropout-add, a norm, one product for gate and up, a fused activation, the second
MLP product, an add; weight gradients accumulate into fp32 inside the product; fp32 masters and
moments. The memory-bound kernels are timed by this project's own fused kernels, which move the
same bytes. No step of this stack has been compared with a measured one yet.

Tensor parallelism (Transformer Engine 2.8 ``module/layernorm_linear.py``, ``linear.py``): with
sequence parallelism an all-gather before and a reduce-scatter behind each pair of products, exposed
in the forward pass; in the backward pass the gather of the output's gradient is exposed, the second
gather of the input runs beside the dgrad product and the scatter beside the wgrad product. Without,
one all-reduce behind each pair, in the backward pass beside the wgrad product.
"""

from predictor.iteration.dimensions import Layer
from predictor.iteration.launches import Program, Segment, Step, Tape
from predictor.iteration.memory import fused_memory
from predictor.iteration.stack import Part, Replicas, Stack
from predictor.iteration.step import Stage, StepShape
from predictor.operators import Gemm, MemoryBound, Optimizer

LEAST_BUCKET_PARAMETERS = 40_000_000
BUCKET_PARAMETERS_PER_RANK = 1_000_000
"""A bucket holds the larger of 40 M and 1 M a data-parallel rank (Megatron-Core 0.8 to 0.19,
``distributed_data_parallel.py``)."""

WEIGHT_BYTES = 2


def fused(name: str, rows: int, cols: int) -> MemoryBound:
    """One fused kernel."""
    return MemoryBound(kernel=name, rows=rows, cols=cols, impl="native")


def _column_forward(tape: Tape, shape: StepShape, out: int, into: int) -> None:
    """A product whose output is split: its input is gathered first under sequence parallelism."""
    if shape.sequence_parallel:
        tape.collective(shape.tensor.all_gather(2.0 * shape.tokens * into))
    tape.run(Gemm(m=shape.tokens, n=out, k=into, kind="forward", api="cublaslt"))


def _row_forward(tape: Tape, shape: StepShape, out: int, into: int) -> None:
    """A product whose output is a partial sum."""
    tape.run(Gemm(m=shape.tokens, n=out, k=into, kind="forward", api="cublaslt"))
    _sum(tape, shape, out)


def _sum(tape: Tape, shape: StepShape, width: int) -> None:
    size = 2.0 * shape.tokens * width
    if shape.sequence_parallel:
        tape.collective(shape.tensor.reduce_scatter(size))
    else:
        tape.collective(shape.tensor.all_reduce(size))


def _column_backward(tape: Tape, shape: StepShape, out: int, into: int) -> None:
    """Gather of the input beside dgrad, sum of its gradient beside wgrad."""
    size = 2.0 * shape.tokens * into
    if shape.sequence_parallel:
        tape.start(shape.tensor.all_gather(size), "tensor")
    _dgrad(tape, shape, out, into)
    if shape.sequence_parallel:
        tape.wait("tensor")
        tape.start(shape.tensor.reduce_scatter(size), "tensor")
    else:
        tape.start(shape.tensor.all_reduce(size), "tensor")
    _wgrad(tape, shape, out, into)
    tape.wait("tensor")


def _row_backward(tape: Tape, shape: StepShape, out: int, into: int) -> None:
    """The output's gradient is gathered first under sequence parallelism."""
    if shape.sequence_parallel:
        tape.collective(shape.tensor.all_gather(2.0 * shape.tokens * out))
    _dgrad(tape, shape, out, into)
    _wgrad(tape, shape, out, into)


def _dgrad(tape: Tape, shape: StepShape, out: int, into: int) -> None:
    tape.run(Gemm(m=shape.tokens, n=out, k=into, kind="dgrad", api="cublaslt"))


def _wgrad(tape: Tape, shape: StepShape, out: int, into: int) -> None:
    gemm = Gemm(m=shape.tokens, n=out, k=into, kind="wgrad", api="cublaslt", accumulate=True)
    tape.run(gemm)


def _norm(layer: Layer) -> str:
    return "layer_norm" if layer.layer_norm else "rms_norm"


def layer_part(shape: StepShape, layer: Layer) -> Part:
    """One layer of one rank."""
    forward, backward = layer_forward(shape, layer), layer_backward(shape, layer)
    return Part(forward=forward, backward=backward, replay=forward, parameters=layer.parameters)


def layer_forward(shape: StepShape, layer: Layer) -> tuple[Step, ...]:
    """Norms and adds run on the rank's share of the sequence."""
    n, shard = shape.tokens, shape.shard_tokens
    tape = Tape()
    tape.fresh(fused(_norm(layer), shard, layer.hidden))
    _column_forward(tape, shape, layer.q + 2 * layer.kv, layer.hidden)
    if layer.qk_norm:
        tape.fresh(fused("rms_norm", n * layer.heads, layer.head_dim))
        tape.fresh(fused("rms_norm", n * layer.groups, layer.head_dim))
    if layer.rope:
        tape.fresh(fused("rotary", n * layer.heads, layer.head_dim))
        tape.fresh(fused("rotary", n * layer.groups, layer.head_dim))
    tape.run(shape.attention("forward", layer))
    _row_forward(tape, shape, layer.hidden, layer.q)
    tape.fresh(fused("residual_add", shard, layer.hidden))
    tape.fresh(fused(_norm(layer), shard, layer.hidden))
    _column_forward(tape, shape, (2 if layer.gated else 1) * layer.ffn, layer.hidden)
    tape.fresh(fused("silu_mul" if layer.gated else "gelu", n, layer.ffn))
    _row_forward(tape, shape, layer.hidden, layer.ffn)
    tape.fresh(fused("residual_add", shard, layer.hidden))
    return tape.steps()


def layer_backward(shape: StepShape, layer: Layer) -> tuple[Step, ...]:
    """One layer's gradient on one rank."""
    n, shard = shape.tokens, shape.shard_tokens
    tape = Tape()
    _row_backward(tape, shape, layer.hidden, layer.ffn)
    tape.fresh(fused("silu_mul_backward" if layer.gated else "gelu_backward", n, layer.ffn))
    _column_backward(tape, shape, (2 if layer.gated else 1) * layer.ffn, layer.hidden)
    tape.fresh(fused(_norm(layer) + "_backward", shard, layer.hidden), kernels=2)
    tape.fresh(fused("residual_add", shard, layer.hidden))
    _row_backward(tape, shape, layer.hidden, layer.q)
    if shape.selective_recompute:
        tape.run(shape.attention("forward", layer))
    kernels = 3 if layer.heads == layer.groups else 5
    tape.run(shape.attention("backward", layer), kernels=kernels)
    if layer.rope:
        tape.fresh(fused("rotary", n * layer.heads, layer.head_dim))
        tape.fresh(fused("rotary", n * layer.groups, layer.head_dim))
    if layer.qk_norm:
        tape.run(fused("rms_norm_backward", n * layer.heads, layer.head_dim), kernels=2)
        tape.run(fused("rms_norm_backward", n * layer.groups, layer.head_dim), kernels=2)
    _column_backward(tape, shape, layer.q + 2 * layer.kv, layer.hidden)
    tape.fresh(fused(_norm(layer) + "_backward", shard, layer.hidden), kernels=2)
    tape.fresh(fused("residual_add", shard, layer.hidden))
    return tape.steps()


def embedding_part(shape: StepShape) -> Part:
    """Lookup of the rank's rows and the sum over ranks; scatter-add into the fp32 gradient."""
    forward, backward = Tape(), Tape()
    forward.run(fused("embedding", shape.tokens, shape.hidden))
    _sum(forward, shape, shape.hidden)
    if shape.sequence_parallel:
        backward.collective(shape.tensor.all_gather(shape.activation_bytes))
    backward.run(fused("embedding_backward", shape.tokens, shape.hidden))
    return Part(
        forward=forward.steps(),
        backward=backward.steps(),
        parameters=shape.vocab * shape.hidden,
    )


def head_part(shape: StepShape) -> Part:
    """Final norm, the rank's columns of the logits, loss on bf16 logits read once in fp32.

    The loss needs the rows' largest logit, their sum and the target's logit from all ranks.
    """
    n, layer = shape.tokens, shape.layer
    forward, backward = Tape(), Tape()
    forward.fresh(fused(_norm(layer), shape.shard_tokens, shape.hidden))
    _column_forward(forward, shape, shape.vocab, shape.hidden)
    forward.run(fused("cast_up", n, shape.vocab))
    forward.run(fused("cross_entropy", n, shape.vocab))
    for _ in range(3):
        forward.collective(shape.tensor.all_reduce(4.0 * n, "fp32"))
    backward.run(fused("cross_entropy_backward", n, shape.vocab))
    backward.run(fused("cast_down", n, shape.vocab))
    _column_backward(backward, shape, shape.vocab, shape.hidden)
    backward.fresh(fused(_norm(layer) + "_backward", shape.shard_tokens, shape.hidden))
    return Part(
        forward=forward.steps(),
        backward=backward.steps(),
        parameters=0 if shape.tied_embeddings and shape.stages == 1 else shape.vocab * shape.hidden,
    )


def replicas(stage: Stage) -> Replicas:
    """Buckets beside the last backward pass; only the first stage splits its gradients."""
    shape = stage.shape
    sharded = shape.sharding != "none"
    ranks = shape.data.ranks
    bucket = max(LEAST_BUCKET_PARAMETERS, BUCKET_PARAMETERS_PER_RANK * ranks)
    return Replicas(
        reduce="reduce_scatter" if sharded else "all_reduce",
        gradient_bytes=shape.gradient_bytes,
        bucket_parameters=bucket if stage.index == 0 else None,
        overlap_reduce=shape.overlap_grad_reduce is not False,
        gather_bytes=WEIGHT_BYTES if sharded else 0.0,
        overlap_gather=shape.overlap_param_gather is not False,
    )


def reduced(stage: Stage) -> Program:
    """The gradients' norm over all ranks."""
    tape = Tape()
    tape.collective(stage.shape.world.all_reduce(4, "fp32"), "data")
    return ((Segment(label="gradient norm", phase="optimizer", steps=tape.steps()), 1),)


def optimizer(stage: Stage) -> Program:
    """One fused multi-tensor step over the parameters that the rank owns."""
    tape = Tape()
    tape.run(
        Optimizer(
            kernel="adamw_master", elements=stage.owned_parameters, dtype="fp32", impl="native"
        )
    )
    return ((Segment(label="optimizer", phase="optimizer", steps=tape.steps()), 1),)


def overlap_p2p(shape: StepShape) -> bool:
    """Interleaved schedules run messages beside computation, plain ones stop for them."""
    return shape.chunks > 1 if shape.overlap_p2p is None else shape.overlap_p2p


STACK = Stack(
    name="megatron-core-te",
    description="Megatron-Core with Transformer Engine layers (compute only compared by parts)",
    parallel=True,
    compared=False,
    layer=layer_part,
    embedding=embedding_part,
    head=head_part,
    replicas=replicas,
    reduced=reduced,
    optimizer=optimizer,
    overlap_p2p=overlap_p2p,
    memory=fused_memory,
)
