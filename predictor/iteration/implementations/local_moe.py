"""The expert half of a layer in Megatron-Core's local spec: eager kernels, experts one by one.

Read in Megatron-Core 0.19 ``transformer/moe`` (``router.py``, ``moe_utils.py``,
``token_dispatcher.py``, ``experts.py`` SequentialMLP) without Transformer Engine or Apex: tokens
are picked by ``masked_select`` and ``index_select``, chunks are sorted by a concatenation, every
expert is an MLP of its own (two products around a compiled activation with the probability in it),
and what comes back is added into zeros.

Three times a layer the host waits for the device: for two ``masked_select`` and for the counts.
"""

from predictor.iteration.implementations import eager_blocks as eager
from predictor.iteration.launches import Tape
from predictor.iteration.moe import dispatch as moe
from predictor.iteration.moe.shape import Routed
from predictor.operators import Gemm, MemoryBound

ROUTER_KERNELS = 22
"""Small launches of scores, their normalisation, the auxiliary loss, the map and its transposes."""

ROUTER_BACKWARD_KERNELS = 16
PROBABILITY_BYTES = 4.0


def forward(tape: Tape, rows: Routed) -> None:
    """Router and experts; the norm before and the add behind are the layer's."""
    n, h = rows.tokens, rows.layer.hidden
    eager.router_forward(tape, n, rows.experts.total, h, kernels=ROUTER_KERNELS)
    tape.collective(moe.counts(rows.experts, rows.plan), "expert")
    for _ in range(2):
        tape.sync()
    tape.run(eager.kernel("index_select", rows.sent, h))
    _travel(tape, rows, moe.dispatch, probabilities=True)
    _sorted(tape, rows)
    tape.sync()
    for count in rows.each():
        _expert_forward(tape, rows, count)
    tape.run(eager.kernel("cat", rows.rows, h))
    _sorted(tape, rows)
    _travel(tape, rows, moe.combine, probabilities=False)
    tape.run(eager.kernel("fill", n, h))
    tape.run(eager.kernel("index_add", rows.sent, h))


def backward(tape: Tape, rows: Routed) -> None:
    """The gradient of :func:`forward`."""
    n, h = rows.tokens, rows.layer.hidden
    tape.run(eager.kernel("index_select", rows.sent, h))
    _travel(tape, rows, moe.dispatch, probabilities=False)
    _sorted(tape, rows)
    for count in reversed(rows.each()):
        _expert_backward(tape, rows, count)
    tape.run(eager.kernel("cat", rows.rows, h))
    _sorted(tape, rows)
    _travel(tape, rows, moe.combine, probabilities=True)
    tape.run(eager.kernel("fill", n, h))
    tape.run(eager.kernel("index_add", rows.sent, h))
    eager.tiny(tape, n, ROUTER_BACKWARD_KERNELS)
    eager.linear_backward(tape, n, rows.experts.total, h)
    tape.run(eager.kernel("add", n, h))


def _expert_forward(tape: Tape, rows: Routed, count: int) -> None:
    h, f = rows.layer.hidden, rows.experts.ffn
    tape.run(Gemm(m=count, n=rows.up, k=h, kind="forward"))
    tape.fresh(_compiled("silu_mul_halves" if rows.layer.gated else "gelu", count, f))
    tape.run(Gemm(m=count, n=h, k=f, kind="forward"))


def _expert_backward(tape: Tape, rows: Routed, count: int) -> None:
    """Both gradients of both products; the probability's gradient is a sum over its row."""
    h, f = rows.layer.hidden, rows.experts.ffn
    tape.run(Gemm(m=count, n=h, k=f, kind="dgrad"))
    tape.run(Gemm(m=count, n=h, k=f, kind="wgrad"))
    tape.fresh(
        _compiled("silu_mul_halves_backward" if rows.layer.gated else "gelu_backward", count, f)
    )
    tape.run(_compiled("silu_mul_halves" if rows.layer.gated else "gelu", count, f))
    tape.run(Gemm(m=count, n=rows.up, k=h, kind="dgrad"))
    tape.run(Gemm(m=count, n=rows.up, k=h, kind="wgrad"))


def _compiled(name: str, count: int, cols: int) -> MemoryBound:
    return MemoryBound(kernel=name, rows=count, cols=cols, impl="inductor")


def _sorted(tape: Tape, rows: Routed) -> None:
    """Chunks by source rank become chunks by expert, or back; a copy of its own in between."""
    if rows.plan.sorts(rows.experts):
        tape.run(eager.kernel("cat", rows.received, rows.layer.hidden))


def _travel(tape: Tape, rows: Routed, way: moe.Way, *, probabilities: bool) -> None:
    """All-to-all of the rows and of what belongs to them; a tensor group gathers or sums."""
    plan, size = rows.plan, 2.0 * rows.layer.hidden
    gathered = 2.0 * rows.rows * rows.layer.hidden
    if way is moe.combine:
        tape.collective(plan.tensor.reduce_scatter(gathered), "expert")
    transfers = way(rows.experts, plan, size, rows.tokens)
    if probabilities:
        transfers += way(rows.experts, plan, PROBABILITY_BYTES, rows.tokens)
    moe.queue(tape, transfers)
    moe.wait(tape, transfers)
    if way is moe.dispatch:
        tape.collective(plan.tensor.all_gather(gathered), "expert")
