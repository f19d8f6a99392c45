"""The expert half of a layer in Megatron-Core's local spec: eager kernels, experts one by one.

Read in Megatron-Core 0.19.2 ``transformer/moe`` (``router.py``, ``moe_utils.py``,
``token_dispatcher.py``, ``experts.py`` SequentialMLP) without Transformer Engine or Apex, launches
counted in a trace of a Mixtral layer over two expert and two tensor ranks: tokens are picked by a
stable sort of their map and ``index_select``, chunks are sorted by a concatenation, every expert is
an MLP of its own (two products around a compiled activation with the probability in it), and what
comes back is added into zeros.

Once a layer the host waits for the device: for counts that it needs to send or sort rows. It has
queued their permutation by then. The counts are of all ranks that share the experts, so that there
all of their hosts meet.

What queueing costs the host differs along a layer: dozens of small launches route, then three an
expert wait for the Python of a whole MLP. Experts are a section of their own.
"""

import numpy as np

from predictor.iteration.groups import Group
from predictor.iteration.implementations import eager_blocks as eager
from predictor.iteration.launches import BARE_LAUNCH, HostWork, Tape
from predictor.iteration.moe import dispatch as moe
from predictor.iteration.moe.shape import PROBABILITY_BYTES, Routed
from predictor.iteration.stack import module_launches
from predictor.operators import Gemm, Host, MemoryBound

STACK = "megatron-core-local"
ROUTER_KERNELS = 24
"""Small launches of scores, their normalisation, their map, the auxiliary loss' own top-k."""

COUNT_KERNELS = 9
"""Sums of the auxiliary loss, and of this rank's tokens by expert and by rank."""

SPLIT_KERNELS = 4
"""Sums of what other ranks send."""

SPLIT_LAUNCHES = SPLIT_KERNELS + 1 + 3
"""What the host queues only among expert ranks: a sum more, and copies of three sums to itself."""

PICK_KERNELS = 8
"""The map turned and sorted, its places turned into rows, their probabilities."""

ROUTER_BACKWARD_KERNELS = 30

UNSEEN_LAUNCHES = {"forward": 64, "backward": 90}
"""Host work of an expert's products whose numbers of rows have not come before, in bare launches:
cuBLAS chooses a kernel for each, and remembers it."""

ROWS_DEVIATION = 0.2
"""Of an expert's rows over their mean, as a router of random weights deals them."""

PASSES_BEFORE = 80
"""Expert layers that a rank has run in earlier micro-batches: an estimate is of a young run."""


def forward(tape: Tape, rows: Routed, tensor: Group) -> None:
    """Router and experts; the norm before and the add behind are the layer's.

    Args:
        tape: Where launches go.
        rows: What the rank's experts run.
        tensor: Ranks that share a sequence, and so the auxiliary loss.
    """
    n, h = rows.tokens, rows.layer.hidden
    eager.router_forward(tape, n, rows.experts.total, h, kernels=ROUTER_KERNELS)
    tape.collective(tensor.all_reduce(moe.COUNT_BYTES * rows.experts.total))
    eager.tiny(tape, n, COUNT_KERNELS)
    counted = moe.counts(rows.experts, rows.plan)
    if counted:
        tape.collective(counted, "expert")
        eager.tiny(tape, n, SPLIT_KERNELS)
    eager.tiny(tape, n * rows.experts.total, PICK_KERNELS)
    tape.run(eager.kernel("index_select", rows.sent, h))
    tape.sync(counted.ranks if counted else 1)
    _travel(tape, rows, moe.dispatch, probabilities=True)
    _sorted(tape, rows)
    experts = Tape()
    for count in rows.each():
        _expert_forward(experts, rows, count)
    tape.section(held_host("forward", rows), experts.steps())
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
    experts = Tape()
    for count in reversed(rows.each()):
        _expert_backward(experts, rows, count)
    tape.section(held_host("backward", rows), experts.steps())
    tape.run(eager.kernel("cat", rows.rows, h))
    _sorted(tape, rows)
    _travel(tape, rows, moe.combine, probabilities=True)
    tape.run(eager.kernel("fill", n, h))
    tape.run(eager.kernel("index_add", rows.sent, h))
    eager.tiny(tape, n, ROUTER_BACKWARD_KERNELS)
    eager.linear_backward(tape, n, rows.experts.total, h)
    tape.run(eager.kernel("add", n, h))


def spread_host(phase: str, rows: Routed) -> HostWork:
    """What queueing a layer's forward pass costs beyond that of one whose experts one rank has."""
    launches = SPLIT_LAUNCHES if phase == "forward" and rows.plan.expert.ranks > 1 else 0
    return module_launches(phase, launches) if launches else ()


def experts_host(phase: str, experts: int) -> HostWork:
    """What queueing so many experts costs the host, one after another."""
    return ((Host(stack=STACK, block="moe", phase=phase, quantity="expert"), experts),)


def held_host(phase: str, rows: Routed) -> HostWork:
    """What queueing a rank's experts costs the host, kernels chosen for unseen sizes too."""
    return experts_host(phase, rows.experts.held) + unseen_host(phase, rows)


def unseen_host(phase: str, rows: Routed) -> HostWork:
    """What choosing kernels for products of unseen sizes costs the host in a layer.

    Rows differ from expert to expert, layer to layer and micro-batch to micro-batch, and cuBLAS
    chooses a kernel for every number of rows anew. With normal rows, a number of density ``d`` has
    not come in ``n`` experts' turns with probability ``exp(-n d)``.

    Args:
        phase: ``forward`` or ``backward``.
        rows: What the rank's experts run.
    """
    held = rows.experts.held
    deviation = max(ROWS_DEVIATION * rows.rows / held, 1.0)
    places = np.linspace(-4.0, 4.0, 161)
    density = np.exp(-(places**2) / 2.0) / np.sqrt(2.0 * np.pi)
    turns = PASSES_BEFORE * held
    unseen = float(density @ np.exp(-turns * density / deviation) / density.sum())
    return ((BARE_LAUNCH, unseen * UNSEEN_LAUNCHES[phase] * held),)


def _expert_forward(tape: Tape, rows: Routed, count: int) -> None:
    h, f = rows.layer.hidden, rows.experts.ffn
    tape.run(Gemm(m=count, n=rows.up, k=h, kind="forward"))
    tape.fresh(_compiled("silu_mul_halves" if rows.layer.gated else "gelu", count, f))
    tape.run(Gemm(m=count, n=h, k=f, kind="forward"))


def _expert_backward(tape: Tape, rows: Routed, count: int) -> None:
    """Both gradients of both products; the probability's gradient is a sum over its row.

    Each weight's gradient is added into its fp32 buffer as soon as it is made.
    """
    h, f = rows.layer.hidden, rows.experts.ffn
    tape.run(Gemm(m=count, n=h, k=f, kind="dgrad"))
    tape.run(Gemm(m=count, n=h, k=f, kind="wgrad"))
    eager.accumulated(tape, h * f, 1)
    tape.fresh(
        _compiled("silu_mul_halves_backward" if rows.layer.gated else "gelu_backward", count, f)
    )
    tape.run(_compiled("silu_mul_halves" if rows.layer.gated else "gelu", count, f))
    tape.run(Gemm(m=count, n=rows.up, k=h, kind="dgrad"))
    tape.run(Gemm(m=count, n=rows.up, k=h, kind="wgrad"))
    eager.accumulated(tape, h * rows.up, 1)


def _compiled(name: str, count: int, cols: int) -> MemoryBound:
    return MemoryBound(kernel=name, rows=count, cols=cols, impl="inductor")


def _sorted(tape: Tape, rows: Routed) -> None:
    """Chunks by source rank become chunks by expert, or back; a copy of its own in between."""
    if rows.plan.sorts(rows.experts):
        tape.run(eager.kernel("cat", rows.rows, rows.layer.hidden))


def _travel(tape: Tape, rows: Routed, way: moe.Way, *, probabilities: bool) -> None:
    """All-to-all of the rows and of what belongs to them; a tensor group gathers or sums both."""
    plan, size = rows.plan, 2.0 * rows.layer.hidden
    shared = rows.shared_bytes(probabilities=probabilities)
    if way is moe.combine:
        for bytes_ in shared:
            tape.collective(plan.tensor.reduce_scatter(bytes_), "expert")
    transfers = way(rows.experts, plan, size, rows.tokens)
    if probabilities:
        transfers += way(rows.experts, plan, PROBABILITY_BYTES, rows.tokens)
    moe.queue(tape, transfers)
    moe.wait(tape, transfers)
    if way is moe.dispatch:
        for bytes_ in shared:
            tape.collective(plan.tensor.all_gather(bytes_), "expert")
