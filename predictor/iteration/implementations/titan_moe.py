"""The expert half of a torchtitan layer: grouped products, tokens put in order by eager kernels.

Read in torchtitan of 2025-10 to 2026-01, ``models/moe/moe.py`` and
``distributed/expert_parallel.py``: a router with its scores in fp32, tokens sorted by expert and
gathered, multiplied with their scores before the experts, three ``grouped_mm`` a layer and a
compiled gate, the result added into the shared experts' output by ``scatter_add``. A gather on
either side of the products pads every expert's rows, and puts them in the order of the rank's
experts. With expert parallelism the counts go round, the host reads them, and tokens go there and
back by all-to-all. Tensor parallelism of such layers is not modelled.
"""

from typing import Final

from predictor.iteration.implementations import eager_blocks as eager
from predictor.iteration.implementations.hf_compile import triton
from predictor.iteration.launches import Tape
from predictor.iteration.moe import dispatch as moe
from predictor.iteration.moe.shape import Routed
from predictor.operators.gemm import GemmKind

GRADIENTS: Final[tuple[GemmKind, ...]] = ("dgrad", "wgrad")
ROUTER_KERNELS = 8
"""Small launches of bias, gathered scores, their sum and scale, and the histogram."""


def forward(tape: Tape, rows: Routed) -> None:
    """Router, shared and routed experts; the norm before and the add behind are the layer's."""
    n, h = rows.tokens, rows.layer.hidden
    eager.router_forward(tape, n, rows.experts.total, h, kernels=ROUTER_KERNELS)
    tape.run(eager.kernel("sort_int64", rows.copies, 1), kernels=4)
    tape.run(eager.kernel("index_select", rows.copies, h))
    tape.fresh(eager.kernel("mul_rows", rows.copies, h))
    if rows.plan.expert.ranks > 1:
        tape.collective(moe.counts(rows.experts, rows.plan), "expert")
        tape.sync()
    _travel(tape, rows, moe.dispatch)
    _products(tape, rows, "forward")
    _travel(tape, rows, moe.combine)
    if shared := rows.experts.shared_ffn:
        for _ in range(2):
            eager.linear_forward(tape, n, shared, h)
        tape.fresh(triton("silu_mul", n, shared))
        eager.linear_forward(tape, n, h, shared)
    else:
        tape.run(eager.kernel("fill", n, h))
    tape.run(eager.kernel("index_add", rows.copies, h))


def backward(tape: Tape, rows: Routed) -> None:
    """The gradient of :func:`forward`."""
    n, h = rows.tokens, rows.layer.hidden
    tape.run(eager.kernel("index_select", rows.copies, h))
    if shared := rows.experts.shared_ffn:
        eager.linear_backward(tape, n, h, shared)
        tape.fresh(triton("silu_mul_backward", n, shared))
        for _ in range(2):
            eager.linear_backward(tape, n, shared, h)
    _travel(tape, rows, moe.dispatch)
    _products(tape, rows, "dgrad")
    _travel(tape, rows, moe.combine)
    for _ in range(2):  # gradients of the rows and of their scores
        tape.run(eager.kernel("mul_rows", rows.copies, h))
    tape.run(eager.kernel("sum_rows", rows.copies, h))
    tape.run(eager.kernel("fill", n, h))
    tape.run(eager.kernel("index_add", rows.copies, h))
    eager.tiny(tape, n, ROUTER_KERNELS)
    eager.linear_backward(tape, n, rows.experts.total, h)


def _products(tape: Tape, rows: Routed, kind: GemmKind) -> None:
    """Gate, up and down, each a grouped product of its own; backward both gradients of each."""
    h, ffn = rows.layer.hidden, rows.experts.ffn
    widths = (ffn, ffn) if rows.layer.gated else (ffn,)
    if kind == "forward":
        for width in widths:
            tape.run(rows.grouped(width, h, "forward", impl="torch"))
        tape.fresh(triton("silu_mul", rows.rows, ffn))
        tape.run(rows.grouped(h, ffn, "forward", impl="torch"))
        return
    for gradient in GRADIENTS:
        tape.run(rows.grouped(h, ffn, gradient, impl="torch"))
    tape.fresh(triton("silu_mul_backward", rows.rows, ffn))
    for width in widths:
        for gradient in GRADIENTS:
            tape.run(rows.grouped(width, h, gradient, impl="torch"))
    if rows.layer.gated:
        tape.run(eager.kernel("add", rows.rows, h))


def _travel(tape: Tape, rows: Routed, way: moe.Way) -> None:
    """Rows to their experts' ranks, or back, and into padded order there."""
    if way is moe.combine:
        tape.run(eager.kernel("index_select", rows.received, rows.layer.hidden))
    transfers = way(rows.experts, rows.plan, 2.0 * rows.layer.hidden, rows.tokens)
    moe.queue(tape, transfers)
    moe.wait(tape, transfers)
    if way is moe.dispatch:
        tape.run(eager.kernel("index_select", rows.received, rows.layer.hidden))
