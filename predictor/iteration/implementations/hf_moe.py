"""The expert half of a Hugging Face layer on eager PyTorch: ``grouped_mm`` experts.

Read in transformers 5.17 ``integrations/moe.py`` on torch 2.11, compared with profiled kernel
counts of a two-layer Mixtral (12 grouped products, 12 ``masked_fill``, 30 broadcast products). Rows
are sorted by expert, gathered, run through two grouped products and put back; weights of the router
multiply the output, in fp32 for Mixtral and in bf16 where scores are cast (Qwen3).

No rank talks to another: every expert is held by every rank, and no token is dropped.
"""

from predictor.iteration.implementations import eager_blocks as eager
from predictor.iteration.launches import Tape
from predictor.iteration.moe.shape import Routed
from predictor.operators.gemm import GemmKind

FORWARD_KERNELS = 62 - 38
"""Launches of a layer's forward pass beyond those of the dense layer (traced Mixtral, Llama)."""

BACKWARD_KERNELS = 125 - 79


def forward(tape: Tape, rows: Routed) -> None:
    """Router and experts; norms and the residual add are the layer's."""
    n, s, h, f = rows.tokens, rows.copies, rows.layer.hidden, rows.experts.ffn
    experts, top_k = rows.experts.total, rows.experts.top_k
    eager.router_forward(tape, n, experts, h, kernels=2)
    tape.run(eager.kernel("sort_int64", s, 1), kernels=4)
    eager.tiny(tape, s, 8)
    tape.run(eager.kernel("index_select", s, h))
    tape.fresh(eager.kernel("masked_fill", s, h))
    _grouped(tape, rows, 2 * f, h, "forward")
    _cleared(tape, s, 2 * f)
    tape.run(eager.kernel("silu", s, f))
    tape.fresh(eager.kernel("mul", s, f))
    _grouped(tape, rows, h, f, "forward")
    _cleared(tape, s, h)
    _weighted(tape, rows)
    eager.tiny(tape, s, 2)
    width = _width(rows)
    tape.run(eager.kernel("index_select", s, width))
    tape.run(eager.kernel("sum_rows", n * top_k, width))
    tape.run(eager.kernel("cast_down", n, h))


def backward(tape: Tape, rows: Routed) -> None:
    """The gradient of :func:`forward` in the order of the autograd engine."""
    n, s, h, f = rows.tokens, rows.copies, rows.layer.hidden, rows.experts.ffn
    width = _width(rows)
    tape.run(eager.kernel("cast_up", n, h))
    tape.run(eager.kernel("copy_fp32", s, width // 2))
    tape.run(eager.kernel("fill", s, width))
    tape.run(eager.kernel("embedding_backward", s, width), kernels=6)
    _weighted(tape, rows)
    _weighted(tape, rows)
    tape.run(eager.kernel("sum_fp32" if width > h else "sum_rows", s, h))
    _cleared(tape, s, h)
    _grouped(tape, rows, h, f, "dgrad")
    _grouped(tape, rows, h, f, "wgrad")
    tape.run(eager.kernel("mul", s, f))
    tape.run(eager.kernel("mul", s, f))
    tape.fresh(eager.kernel("silu_backward", s, f))
    tape.run(eager.kernel("cat", s, 2 * f))
    _cleared(tape, s, 2 * f)
    _grouped(tape, rows, 2 * f, h, "dgrad")
    _grouped(tape, rows, 2 * f, h, "wgrad")
    _cleared(tape, s, h)
    tape.run(eager.kernel("fill", n, h))
    tape.run(eager.kernel("embedding_backward", s, h), kernels=6)
    eager.tiny(tape, n, 10)
    eager.linear_backward(tape, n, rows.experts.total, h)
    tape.run(eager.kernel("add", n, h))


def _grouped(tape: Tape, rows: Routed, out: int, into: int, kind: GemmKind) -> None:
    tape.run(rows.grouped(out, into, kind, impl="torch"))


def _cleared(tape: Tape, rows: int, cols: int) -> None:
    """``masked_fill`` out of place: a copy, and rows beyond the last expert's set to zero."""
    tape.run(eager.kernel("copy_fp32", rows, cols // 2))
    tape.fresh(eager.kernel("masked_fill", rows, cols))


def _weighted(tape: Tape, rows: Routed) -> None:
    """Rows times the router's weight."""
    width = rows.layer.hidden
    tape.run(eager.kernel("mul_rows" if _narrow(rows) else "mul_rows_fp32", rows.copies, width))


def _narrow(rows: Routed) -> bool:
    """Scores are cast to bf16 (Qwen3), so that products with them stay narrow."""
    return rows.layer.qk_norm


def _width(rows: Routed) -> int:
    """Columns of a weighted row, counted in two-byte numbers."""
    return rows.layer.hidden * (1 if _narrow(rows) else 2)
