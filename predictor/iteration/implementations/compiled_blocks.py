"""Llama layers compiled block by block (``torch.compile``) around a causal SDPA call.

Inductor leaves products and attention to the libraries and fuses the rest; residual adds join the
norms behind them. Cosines and sines come from a table. With tensor parallelism the norms' outputs
are gathered before products that share them and sums scattered behind the last
(:mod:`predictor.iteration.implementations.torch_tensor`). Products are in bf16, or in 8 bits
(:mod:`predictor.iteration.implementations.float8`).
"""

from itertools import compress

from predictor.iteration.implementations import float8, titan_moe, torch_context, torch_tensor
from predictor.iteration.implementations import te_blocks as te
from predictor.iteration.implementations.hf_compile import triton
from predictor.iteration.launches import Tape
from predictor.iteration.layer import Layer
from predictor.iteration.step import StepShape


def forward(tape: Tape, shape: StepShape, layer: Layer, *, repeated: bool = False) -> None:
    """One block.

    Args:
        tape: Where launches go.
        shape: Sizes.
        layer: The block.
        repeated: Keys and values are repeated to all query heads.
    """
    replay(tape, shape, layer, repeated=repeated)
    if not layer.experts:
        torch_tensor.row_forward(tape, shape, layer.hidden, layer.ffn)


def replay(tape: Tape, shape: StepShape, layer: Layer, *, repeated: bool = False) -> None:
    """What full recomputation runs again: all but a product whose result no gradient needs."""
    attention_inputs(tape, shape, layer, products=(True, True, True), repeated=repeated)
    tape.extend(torch_context.forward(shape, layer, repeated=repeated))
    torch_tensor.row_forward(tape, shape, layer.hidden, layer.q)
    if layer.experts:
        tape.fresh(triton("add_rms_norm", shape.shard_tokens, layer.hidden))
        titan_moe.forward(tape, shape.routed(layer))
        return
    feed_forward_inputs(tape, shape, layer, products=(True, True))


def attention_inputs(
    tape: Tape,
    shape: StepShape,
    layer: Layer,
    *,
    products: tuple[bool, bool, bool],
    repeated: bool,
) -> None:
    """Norm, those of the three products that are asked for, rotary."""
    n = shape.tokens
    tape.fresh(triton("add_rms_norm", shape.shard_tokens, layer.hidden))
    outs = tuple(compress((layer.q, layer.kv, layer.kv), products))
    torch_tensor.column_forward(tape, shape, outs, layer.hidden)
    tape.run(te.fused("rotary", n * layer.heads, layer.head_dim))
    tape.run(te.fused("rotary", n * layer.groups, layer.head_dim))
    if repeated and layer.groups != layer.heads:
        for _ in range(2):
            tape.run(triton("repeat_heads", n * layer.heads, layer.head_dim))


def feed_forward_inputs(
    tape: Tape, shape: StepShape, layer: Layer, *, products: tuple[bool, bool]
) -> None:
    """Add and norm, those of the two products that are asked for, the gate."""
    n = shape.tokens
    tape.fresh(triton("add_rms_norm", shape.shard_tokens, layer.hidden))
    torch_tensor.column_forward(tape, shape, (layer.ffn,) * sum(products), layer.hidden)
    tape.fresh(triton("silu_mul", n, layer.ffn))


def backward(tape: Tape, shape: StepShape, layer: Layer, *, repeated: bool = False) -> None:
    """The gradient of :func:`forward`."""
    n, shard = shape.tokens, shape.shard_tokens
    if layer.experts:
        titan_moe.backward(tape, shape.routed(layer))
    else:
        torch_tensor.row_backward(tape, shape, layer.hidden, layer.ffn)
        tape.fresh(triton("silu_mul_backward", n, layer.ffn))
        float8.turned_input(tape, shape, layer.hidden)
        for _ in range(2):
            float8.linear_backward(tape, shape, layer.ffn, layer.hidden)
        torch_tensor.scatter(tape, shape, layer.hidden, terms=2)
    tape.fresh(triton("rms_norm_backward", shard, layer.hidden), kernels=3)
    torch_tensor.row_backward(tape, shape, layer.hidden, layer.q)
    tape.extend(torch_context.backward(shape, layer, repeated=repeated))
    if repeated and layer.groups != layer.heads:
        for _ in range(2):
            tape.run(triton("sum_heads", n * layer.heads, layer.head_dim))
    tape.run(te.fused("rotary", n * layer.groups, layer.head_dim))
    tape.run(te.fused("rotary", n * layer.heads, layer.head_dim))
    float8.turned_input(tape, shape, layer.hidden)
    for out in (layer.kv, layer.kv, layer.q):
        float8.linear_backward(tape, shape, out, layer.hidden)
    torch_tensor.scatter(tape, shape, layer.hidden, terms=3)
    tape.fresh(triton("rms_norm_backward", shard, layer.hidden), kernels=3)


def saved_bytes(shape: StepShape, layer: Layer) -> float:
    """Residual twice, norm outputs, queries, keys, values, attention's output, gate, up, product.

    With selective recomputation: the block's input, the first and third of the first three
    products, attention's output, the gate and what the last product makes.
    """
    n, shard = shape.tokens, shape.shard_tokens
    if layer.experts:  # attention's, gathered and padded rows, gate, up, their product, the result
        rows = shape.routed(layer)
        width = 4 * layer.q + 4 * layer.kv + 4 * layer.heads
        copied = 8.0 * rows.copies * layer.hidden + 6.0 * rows.rows * rows.experts.ffn
        return 8.0 * shard * layer.hidden + 1.0 * n * width + copied
    if shape.selective_recompute:
        width = 2 * layer.q + 2 * layer.kv + 2 * layer.q + 2 * layer.ffn + 4 * layer.heads
        return 4.0 * shard * layer.hidden + 1.0 * n * width
    width = 4 * layer.q + 4 * layer.kv + 6 * layer.ffn + 4 * layer.heads
    return 8.0 * shard * layer.hidden + 1.0 * n * width
