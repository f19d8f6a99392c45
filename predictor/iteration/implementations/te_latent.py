"""Multi-head latent attention as Megatron-Core runs it on Transformer Engine.

``transformer/multi_latent_attention.py`` v0.12 to v0.19: queries, and keys with values, are
projected down on the rank's share of the sequence (every rank has the whole weights), normalised,
gathered and projected up to the rank's heads; rotary embedding touches the part of a head that has
a position, and keys are put together from both parts.
"""

from predictor.iteration import context
from predictor.iteration.implementations import te_blocks as te
from predictor.iteration.launches import Tape
from predictor.iteration.layer import Layer
from predictor.iteration.layer_parts import Latent
from predictor.iteration.step import StepShape

BACKWARD_KERNELS = 3


def forward(tape: Tape, shape: StepShape, layer: Layer, latent: Latent) -> None:
    """From the normalised residual stream to the output projection."""
    shard = shape.shard_tokens
    if latent.q_rank:
        tape.run(te.product(shard, latent.q_rank, layer.hidden, "forward"))
    tape.run(te.product(shard, latent.kv_rank + latent.rope, layer.hidden, "forward"))
    _up(tape, shape, layer, latent)
    context.forward(tape, shape, layer)
    te.row_forward(tape, shape, layer.hidden, layer.v)


def _up(tape: Tape, shape: StepShape, layer: Layer, latent: Latent) -> None:
    """From what was projected down to queries, keys and values; norms are part of the products."""
    n, shard, heads = shape.tokens, shape.shard_tokens, layer.heads
    if latent.q_rank:
        tape.fresh(te.fused("rms_norm", shard, latent.q_rank))
    te.column_forward(tape, shape, layer.q, latent.q_rank or layer.hidden)
    tape.fresh(te.fused("rms_norm", shard, latent.kv_rank))
    te.column_forward(tape, shape, heads * (latent.nope + latent.value), latent.kv_rank)
    tape.run(te.fused("rotary", n * heads, latent.rope))
    tape.run(te.fused("rotary", n, latent.rope))
    tape.run(te.fused("copy", n * heads, layer.head_dim + latent.value))


def backward(tape: Tape, shape: StepShape, layer: Layer, latent: Latent) -> None:
    """The gradient of :func:`forward`."""
    n, shard, heads = shape.tokens, shape.shard_tokens, layer.heads
    te.row_backward(tape, shape, layer.hidden, layer.v)
    if "mla_up_proj" in shape.recomputed:
        _up(tape, shape, layer, latent)
    if shape.selective_recompute:
        context.forward(tape, shape, layer)
    context.backward(tape, shape, layer, kernels=BACKWARD_KERNELS)
    tape.run(te.fused("copy", n * heads, layer.head_dim + latent.value))
    tape.run(te.fused("rotary", n * heads, latent.rope))
    tape.run(te.fused("rotary", n, latent.rope))
    te.column_backward(tape, shape, heads * (latent.nope + latent.value), latent.kv_rank)
    tape.fresh(te.fused("rms_norm_backward", shard, latent.kv_rank), kernels=2)
    _down_backward(tape, shard, latent.kv_rank + latent.rope, layer.hidden)
    if latent.q_rank:
        te.column_backward(tape, shape, layer.q, latent.q_rank)
        tape.fresh(te.fused("rms_norm_backward", shard, latent.q_rank), kernels=2)
        _down_backward(tape, shard, latent.q_rank, layer.hidden)
    else:
        te.column_backward(tape, shape, layer.q, layer.hidden)
    tape.fresh(te.fused("residual_add", shard, layer.hidden))


def _down_backward(tape: Tape, rows: int, out: int, into: int) -> None:
    tape.run(te.product(rows, out, into, "dgrad"))
    tape.run(te.product(rows, out, into, "wgrad"))
