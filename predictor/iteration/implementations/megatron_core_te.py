"""``megatron-core-te``: Megatron-Core with Transformer Engine layers.

What it launches a layer: a norm, a fused qkv product, rotary, cuDNN attention, the output product
with a fused bias-dropout-add, a norm, one product for gate and up, a fused activation, the second
MLP product, an add; weight gradients accumulate into fp32 inside the product; fp32 masters and
moments. The memory-bound kernels are timed by this project's own fused kernels, which move the
same bytes. No step of this stack has been compared with a measured one yet.
"""

from predictor.iteration.launches import Launch, Segment, Tape
from predictor.iteration.step import Step, StepShape
from predictor.operators import Gemm, MemoryBound, Optimizer

NAME = "megatron-core-te"
DESCRIPTION = "Megatron-Core with Transformer Engine layers (compute only compared by parts)"
PARALLEL = True
COMPARED = False


def fused(name: str, rows: int, cols: int) -> MemoryBound:
    """One fused kernel."""
    return MemoryBound(kernel=name, rows=rows, cols=cols, impl="native")


def build(shape: StepShape) -> Step:
    """Every launch of one micro-batch of one rank, and its optimizer."""
    blocks, replays = shape.num_layers, shape.recompute_layers
    forward, backward = layer_forward(shape), layer_backward(shape)
    if shape.selective_recompute:
        backward = (Launch(shape.attention("forward")), *backward)
    segments = (
        Segment.queued("embedding forward", "forward", embedding_forward(shape)),
        Segment.queued("layer forward", "forward", forward, blocks),
        Segment.queued("head and loss", "forward", head_forward(shape)),
        Segment.queued("loss and head backward", "backward", head_backward(shape)),
        Segment.queued("layer backward", "backward", backward, blocks - replays),
        Segment.queued("layer replay and backward", "backward", forward + backward, replays),
        Segment.queued("embedding backward", "backward", embedding_backward(shape)),
    )
    tape = Tape()
    tape.run(
        Optimizer(
            kernel="adamw_master", elements=shape.owned_parameters, dtype="fp32", impl="native"
        )
    )
    return Step(
        micro_batch=tuple(s for s in segments if s.repeats),
        accumulate=Segment.queued("gradient accumulation", "backward", ()),
        optimizer=Segment.queued("optimizer", "optimizer", tape.launches()),
    )


def _linears(shape: StepShape) -> tuple[tuple[int, int], ...]:
    layer = shape.layer
    up = (2 if layer.gated else 1) * layer.ffn
    return (
        (layer.q + 2 * layer.kv, layer.hidden),
        (layer.hidden, layer.q),
        (up, layer.hidden),
        (layer.hidden, layer.ffn),
    )


def _forward(tape: Tape, n: int, out: int, into: int) -> None:
    tape.run(Gemm(m=n, n=out, k=into, kind="forward", api="cublaslt"))


def _backward(tape: Tape, n: int, out: int, into: int) -> None:
    tape.run(Gemm(m=n, n=out, k=into, kind="dgrad", api="cublaslt"))
    tape.run(Gemm(m=n, n=out, k=into, kind="wgrad", api="cublaslt", accumulate=True))


def _norm(shape: StepShape) -> str:
    return "layer_norm" if shape.layer.layer_norm else "rms_norm"


def layer_forward(shape: StepShape) -> tuple[Launch, ...]:
    """One layer of one rank; norms and adds run on the rank's share of the sequence."""
    layer, n = shape.layer, shape.tokens
    shard = n // shape.sequence_shard
    qkv, projection, up, down = _linears(shape)
    tape = Tape()
    tape.fresh(fused(_norm(shape), shard, layer.hidden))
    _forward(tape, n, *qkv)
    if layer.qk_norm:
        tape.fresh(fused("rms_norm", n * layer.heads, layer.head_dim))
        tape.fresh(fused("rms_norm", n * layer.groups, layer.head_dim))
    if layer.rope:
        tape.fresh(fused("rotary", n * layer.heads, layer.head_dim))
        tape.fresh(fused("rotary", n * layer.groups, layer.head_dim))
    tape.run(shape.attention("forward"))
    _forward(tape, n, *projection)
    tape.fresh(fused("residual_add", shard, layer.hidden))
    tape.fresh(fused(_norm(shape), shard, layer.hidden))
    _forward(tape, n, *up)
    tape.fresh(fused("silu_mul" if layer.gated else "gelu", n, layer.ffn))
    _forward(tape, n, *down)
    tape.fresh(fused("residual_add", shard, layer.hidden))
    return tape.launches()


def layer_backward(shape: StepShape) -> tuple[Launch, ...]:
    """One layer's gradient on one rank."""
    layer, n = shape.layer, shape.tokens
    shard = n // shape.sequence_shard
    qkv, projection, up, down = _linears(shape)
    tape = Tape()
    _backward(tape, n, *down)
    tape.fresh(fused("silu_mul_backward" if layer.gated else "gelu_backward", n, layer.ffn))
    _backward(tape, n, *up)
    tape.fresh(fused(_norm(shape) + "_backward", shard, layer.hidden), kernels=2)
    tape.fresh(fused("residual_add", shard, layer.hidden))
    _backward(tape, n, *projection)
    kernels = 3 if layer.heads == layer.groups else 5
    tape.run(shape.attention("backward"), kernels=kernels)
    if layer.rope:
        tape.fresh(fused("rotary", n * layer.heads, layer.head_dim))
        tape.fresh(fused("rotary", n * layer.groups, layer.head_dim))
    if layer.qk_norm:
        tape.run(fused("rms_norm_backward", n * layer.heads, layer.head_dim), kernels=2)
        tape.run(fused("rms_norm_backward", n * layer.groups, layer.head_dim), kernels=2)
    _backward(tape, n, *qkv)
    tape.fresh(fused(_norm(shape) + "_backward", shard, layer.hidden), kernels=2)
    tape.fresh(fused("residual_add", shard, layer.hidden))
    return tape.launches()


def embedding_forward(shape: StepShape) -> tuple[Launch, ...]:
    """Lookup of the rank's vocabulary shard."""
    tape = Tape()
    tape.run(fused("embedding", shape.tokens, shape.layer.hidden))
    return tape.launches()


def embedding_backward(shape: StepShape) -> tuple[Launch, ...]:
    """Scatter-add into the fp32 gradient buffer."""
    tape = Tape()
    tape.run(fused("embedding_backward", shape.tokens, shape.layer.hidden))
    return tape.launches()


def head_forward(shape: StepShape) -> tuple[Launch, ...]:
    """Final norm, the rank's columns of the logits, loss on bf16 logits read once in fp32."""
    layer, n = shape.layer, shape.tokens
    tape = Tape()
    tape.fresh(fused(_norm(shape), n // shape.sequence_shard, layer.hidden))
    _forward(tape, n, shape.vocab, layer.hidden)
    tape.run(fused("cast_up", n, shape.vocab))
    tape.run(fused("cross_entropy", n, shape.vocab))
    return tape.launches()


def head_backward(shape: StepShape) -> tuple[Launch, ...]:
    """Gradient of the logits, the head's two products, the final norm."""
    layer, n = shape.layer, shape.tokens
    tape = Tape()
    tape.run(fused("cross_entropy_backward", n, shape.vocab))
    tape.run(fused("cast_down", n, shape.vocab))
    _backward(tape, n, shape.vocab, layer.hidden)
    tape.fresh(fused(_norm(shape) + "_backward", n // shape.sequence_shard, layer.hidden))
    return tape.launches()
