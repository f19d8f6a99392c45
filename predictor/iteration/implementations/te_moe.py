"""The expert half of a layer as Megatron-Core runs it on Transformer Engine.

Read in Megatron-Core 0.12 to 0.19, ``transformer/moe``: a norm of its own, router and top-k,
permutation and dispatch (:mod:`predictor.iteration.implementations.te_dispatch`), grouped products
with the router's probability inside the activation, and all of it back. Experts are
``te.GroupedLinear``: a cuBLASLt product an expert over four streams.
"""

from typing import Final

from predictor.iteration.implementations import eager_blocks as eager
from predictor.iteration.implementations import te_blocks as te
from predictor.iteration.implementations import te_expert_biases as biases
from predictor.iteration.implementations.hf_compile import triton
from predictor.iteration.implementations.te_dispatch import (
    arrive,
    combine,
    dispatch,
    leave,
    send_gradients,
)
from predictor.iteration.launches import Tape
from predictor.iteration.layer import Layer
from predictor.iteration.moe.shape import Routed
from predictor.iteration.recipes import Recipe
from predictor.iteration.step import StepShape
from predictor.operators import Gemm
from predictor.operators.gemm import GemmKind

ROUTER_KERNELS = 14
"""Small launches beside the router's product and its top-k: scores, auxiliary loss and its
bookkeeping, map of tokens to experts, counts (``router.py``, ``moe_utils.py`` v0.12 to v0.16,
without ``moe_router_fusion``)."""

ROUTER_BACKWARD_KERNELS = 8

UNGATED_BACKWARD: Final = (
    *("cast_up", "mul_rows_fp32", "cast_down", "gelu_backward"),
    *("accumulate_fp32", "sum_fp32"),  # of the probability: a product of fp32 and bf16, summed
)
"""The gradient of an activation that no fusion knows, times a probability in fp32."""

GRADIENTS: Final[tuple[GemmKind, ...]] = ("dgrad", "wgrad")


def forward(tape: Tape, shape: StepShape, layer: Layer) -> None:
    """From the residual stream to what is added to it."""
    tape.fresh(te.fused(te.norm(layer), shape.shard_tokens, layer.hidden))
    _whole_forward(tape, shape, layer)


def _whole_forward(tape: Tape, shape: StepShape, layer: Layer) -> None:
    """From normalised tokens to what router, experts and the MLPs beside them make of them."""
    rows = shape.routed(layer)
    beside = rows.plan.shared_overlap is True and rows.experts.shared_ffn > 0
    if not beside:
        _shared_forward(tape, shape, rows)
    _residual_forward(tape, shape, rows)
    router_forward(tape, rows)
    transfers = dispatch(tape, rows, probabilities=True)
    if beside:
        _shared_forward(tape, shape, rows)
    arrive(tape, rows, transfers, probabilities=True)
    experts_forward(tape, rows, shape.recipe)
    transfers = combine(tape, rows)
    leave(tape, rows, transfers)
    for _ in range((rows.experts.shared_ffn > 0) + (rows.experts.residual_ffn > 0)):
        tape.fresh(te.fused("residual_add", shape.shard_tokens, layer.hidden))


def backward(tape: Tape, shape: StepShape, layer: Layer) -> None:
    """The gradient of :func:`forward`, its norm and the sum with the residual's gradient."""
    rows = shape.routed(layer)
    beside = rows.plan.shared_overlap is True and rows.experts.shared_ffn > 0
    if "layernorm" in shape.recomputed:
        tape.fresh(te.fused(te.norm(layer), shape.shard_tokens, layer.hidden))
    if "moe" in shape.recomputed:
        _whole_forward(tape, shape, layer)
    if "shared_experts" in shape.recomputed and not beside:
        _shared_forward(tape, shape, rows)
    transfers = send_gradients(tape, rows)
    if beside:
        _shared_backward(tape, shape, rows)
    arrive(tape, rows, transfers)
    if "moe_act" in shape.recomputed:
        _activation(tape, rows)
    experts_backward(tape, rows, shape.recipe)
    transfers = combine(tape, rows, probabilities=True)
    leave(tape, rows, transfers)
    router_backward(tape, rows)
    if not beside:
        _shared_backward(tape, shape, rows)
    _residual_backward(tape, shape, rows)
    adds = 1 + (rows.experts.shared_ffn > 0) + (rows.experts.residual_ffn > 0)
    for _ in range(adds):
        tape.fresh(te.fused("residual_add", shape.shard_tokens, layer.hidden))
    name = te.norm(layer) + "_backward"
    tape.fresh(te.fused(name, shape.shard_tokens, layer.hidden), kernels=2)
    tape.fresh(te.fused("residual_add", shape.shard_tokens, layer.hidden))


def router_forward(tape: Tape, rows: Routed) -> None:
    """Logits, scores, the highest ``top_k`` of them, the auxiliary loss."""
    experts, hidden = rows.experts.total, rows.layer.hidden
    tape.run(Gemm(m=rows.tokens, n=experts, k=hidden, kind="forward", api="cublaslt"))
    tape.fresh(te.fused("router_top_k", rows.tokens, experts))
    te.tiny(tape, rows.tokens, ROUTER_KERNELS)


def router_backward(tape: Tape, rows: Routed) -> None:
    """Gradients of scores, logits and weights."""
    experts, hidden = rows.experts.total, rows.layer.hidden
    te.tiny(tape, rows.tokens, ROUTER_BACKWARD_KERNELS)
    for kind in GRADIENTS:
        tape.run(te.product(rows.tokens, experts, hidden, kind))


def experts_forward(tape: Tape, rows: Routed, recipe: Recipe | None = None) -> None:
    """Two products and the activation with the probability between them.

    Fused products (Transformer Engine ``ops/fused/grouped_mlp.py`` of 2026) add biases, clamp,
    activate, multiply with the probability and cast both ways as they write.
    """
    hidden, ffn, fused = rows.layer.hidden, rows.experts.ffn, rows.plan.experts == "fused"
    _operand(tape, rows, recipe, hidden)
    _product(tape, rows, rows.up, hidden, "forward", recipe)
    if not fused:
        _activation(tape, rows)
        _operand(tape, rows, recipe, ffn)
    _product(tape, rows, hidden, ffn, "forward", recipe)
    if rows.layer.biases and not fused:
        biases.output_forward(tape, rows)


def _activation(tape: Tape, rows: Routed) -> None:
    """Activation times probability: one kernel of a gated unit, no fusion knows others.

    They run eagerly: the product with an fp32 probability is written in fp32, then cast
    (``experts.py`` 0.12 to 0.19, ``bias_act_func``).
    """
    if rows.layer.biases:
        biases.clamp_forward(tape, rows)
    count, width = rows.rows, rows.experts.ffn
    if rows.layer.gated:
        tape.fresh(te.fused("silu_mul_probs", count, width))
        return
    for name in ("gelu", "cast_up", "cast_down"):
        tape.fresh(eager.kernel(name, count, width))


def experts_backward(tape: Tape, rows: Routed, recipe: Recipe | None = None) -> None:
    """Both products' gradients; the activation is computed again from its input."""
    hidden, ffn, fused = rows.layer.hidden, rows.experts.ffn, rows.plan.experts == "fused"
    if rows.layer.biases:
        (biases.sums if fused else biases.output_backward)(tape, rows)
    _operand(tape, rows, recipe, hidden)
    for kind in GRADIENTS:
        _product(tape, rows, hidden, ffn, kind, recipe)
    if not fused:
        _activation_backward(tape, rows)
        if rows.layer.biases:
            biases.clamp_backward(tape, rows)
        _operand(tape, rows, recipe, rows.up)
    for kind in GRADIENTS:
        _product(tape, rows, rows.up, hidden, kind, recipe)


def _activation_backward(tape: Tape, rows: Routed) -> None:
    """The gradient of activation and probability, which ``torch.compile`` makes two kernels of.

    One writes the input's gradient; the other reads input and gradient again and sums over columns,
    which moves as many bytes as the activation (``fused_bias_swiglu.py``, ``fused_bias_geglu.py``,
    0.12 to 0.19; traced with 0.18 on an H100).
    """
    count, width = rows.rows, rows.experts.ffn
    if not rows.layer.gated:
        for name in UNGATED_BACKWARD:
            tape.fresh(eager.kernel(name, count, width))
        return
    tape.fresh(triton("silu_mul_halves_backward", count, width))
    tape.run(triton("silu_mul_halves", count, width))


def _operand(tape: Tape, rows: Routed, recipe: Recipe | None, cols: int) -> None:
    """What makes the experts' rows small; the router has padded them to whole blocks of scales."""
    te.operand(tape, recipe, rows.rows, cols, turned=True, tensors=rows.experts.held)


def _product(
    tape: Tape, rows: Routed, out: int, into: int, kind: GemmKind, recipe: Recipe | None
) -> None:
    """One product of all experts: grouped, or one by one."""
    if rows.plan.experts == "sequential":
        for count in rows.each(recipe):
            tape.run(te.product(count, out, into, kind, recipe))
        return
    grouped = rows.grouped(
        out,
        into,
        kind,
        impl="multi_stream",
        recipe=recipe,
        accumulate=kind == "wgrad",
    )
    tape.run(grouped, kernels=1 if rows.plan.experts == "fused" else rows.experts.held)


def _shared_forward(tape: Tape, shape: StepShape, rows: Routed) -> None:
    _mlp_forward(tape, shape, rows.layer, rows.experts.shared_ffn)


def _shared_backward(tape: Tape, shape: StepShape, rows: Routed) -> None:
    _mlp_backward(tape, shape, rows.layer, rows.experts.shared_ffn)


def _residual_forward(tape: Tape, shape: StepShape, rows: Routed) -> None:
    if rows.experts.residual_ffn:
        tape.fresh(te.fused(te.norm(rows.layer), shape.shard_tokens, rows.layer.hidden))
    _mlp_forward(tape, shape, rows.layer, rows.experts.residual_ffn)


def _residual_backward(tape: Tape, shape: StepShape, rows: Routed) -> None:
    _mlp_backward(tape, shape, rows.layer, rows.experts.residual_ffn)
    if rows.experts.residual_ffn:
        name = te.norm(rows.layer) + "_backward"
        tape.fresh(te.fused(name, shape.shard_tokens, rows.layer.hidden), kernels=2)


def _mlp_forward(tape: Tape, shape: StepShape, layer: Layer, width: int) -> None:
    if not width:
        return
    te.column_forward(tape, shape, (2 if layer.gated else 1) * width, layer.hidden)
    tape.fresh(te.fused("silu_mul" if layer.gated else "gelu", shape.tokens, width))
    te.row_forward(tape, shape, layer.hidden, width)


def _mlp_backward(tape: Tape, shape: StepShape, layer: Layer, width: int) -> None:
    if not width:
        return
    te.row_backward(tape, shape, layer.hidden, width)
    name = "silu_mul_backward" if layer.gated else "gelu_backward"
    tape.fresh(te.fused(name, shape.tokens, width))
    te.column_backward(tape, shape, (2 if layer.gated else 1) * width, layer.hidden)
