"""How tokens reach their experts in Megatron-Core on Transformer Engine, and come back.

Read in Megatron-Core 0.12 to 0.19 (``transformer/moe/token_dispatcher.py``, ``moe_utils.py``).
Permutation is one fused kernel each way or, without ``moe_permute_fusion``, a map sorted by small
kernels, an ``index_select`` and a ``scatter_add`` into zeros.

Without padding, the host reads the counts of tokens before it sends anything: it waits for the
device once a layer in the forward pass, and what it queues next finds the device idle. The backward
pass knows the counts.
"""

from predictor.iteration.implementations import eager_blocks as eager
from predictor.iteration.implementations import te_blocks as te
from predictor.iteration.implementations.local_moe import PICK_KERNELS
from predictor.iteration.launches import Tape
from predictor.iteration.moe import dispatch as moe
from predictor.iteration.moe.mapping import COPYING
from predictor.iteration.moe.shape import PROBABILITY_BYTES, Routed
from predictor.operators import MemoryBound

MAP_KERNELS = 3
"""Passes that make rows of a map of tokens to experts before fused permutation (Transformer Engine
2.8 ``triton/permutation.py``, ``make_row_id_map``); the backward pass has their result."""

MULTIHOT_KERNELS = 1
"""What arrives through DeepEP lists experts, which are made that map first
(``fused_indices_to_multihot.py`` 0.13 to 0.19)."""

MOST_OF_TWO = 3
"""Up to so many experts a token, permutation is timed as that to two places, beyond as to eight."""


def dispatch(tape: Tape, rows: Routed, *, probabilities: bool) -> list[moe.Transfer]:
    """Counts, permutation, and the tokens under way with their probabilities.

    The host reads the counts to send by them: behind the permutation, which needs none of them
    (``token_dispatcher.py``, ``before_ep_alltoall``), or inside DeepEP's dispatch.
    """
    counted = rows.plan.expert.ranks > 1 and rows.plan.dispatcher != "allgather"
    if counted:
        tape.collective(moe.counts(rows.experts, rows.plan), "expert")
    if rows.plan.dispatcher in COPYING:
        te.tiny(tape, rows.tokens, MAP_KERNELS if rows.plan.fused_permutation else PICK_KERNELS)
        _spread(tape, rows)
    if counted and not rows.plan.padded and not rows.plan.hides:
        tape.sync()  # else another micro-batch's layer is queued meanwhile
    return _send(tape, rows, moe.dispatch, probabilities=probabilities)


def combine(tape: Tape, rows: Routed, *, probabilities: bool = False) -> list[moe.Transfer]:
    """The experts' rows on their way back: out of the experts' order, then summed over a group."""
    if rows.plan.sorts(rows.experts):
        tape.run(te.fused("copy", rows.rows, rows.layer.hidden))
    for size in rows.shared_bytes(probabilities=probabilities):
        tape.collective(rows.plan.tensor.reduce_scatter(size), "expert")
    if rows.plan.dispatcher not in COPYING:
        tape.run(_permutation("unpermute", rows, rows.received))
    return _send(tape, rows, moe.combine, probabilities=probabilities)


def arrive(
    tape: Tape, rows: Routed, transfers: list[moe.Transfer], *, probabilities: bool = False
) -> None:
    """Tokens are here: at every rank of an expert, and in the order of their experts.

    The forward pass' bring their probabilities, and make the map of that order.
    """
    if not rows.plan.hides:
        moe.wait(tape, transfers)
    if rows.plan.dispatcher not in COPYING:
        if probabilities:
            te.tiny(tape, rows.received, MULTIHOT_KERNELS + MAP_KERNELS)
        tape.run(_permutation("permute", rows, rows.received))
    for size in rows.shared_bytes(probabilities=probabilities):
        tape.collective(rows.plan.tensor.all_gather(size), "expert")
    if rows.plan.sorts(rows.experts):
        tape.run(te.fused("copy", rows.rows, rows.layer.hidden))


def leave(tape: Tape, rows: Routed, transfers: list[moe.Transfer]) -> None:
    """The experts' rows are back: summed into their tokens."""
    if not rows.plan.hides:
        moe.wait(tape, transfers)
    if rows.plan.dispatcher in COPYING:
        _gathered(tape, rows)


def send_gradients(tape: Tape, rows: Routed) -> list[moe.Transfer]:
    """The gradient of what came back, on its way to the experts that it came from."""
    _spread(tape, rows)
    return _send(tape, rows, moe.dispatch, probabilities=False)


def _spread(tape: Tape, rows: Routed) -> None:
    """Each token's copies, in the order of their experts."""
    if rows.plan.fused_permutation:
        tape.run(_permutation("permute", rows, rows.sent))
    else:
        tape.run(eager.kernel("index_select", rows.sent, rows.layer.hidden))


def _gathered(tape: Tape, rows: Routed) -> None:
    """Each token's copies summed; unless fused they are added into zeros, number by number."""
    if rows.plan.fused_permutation:
        tape.run(_permutation("unpermute", rows, rows.sent))
        return
    tape.run(eager.kernel("fill", rows.tokens, rows.layer.hidden))
    tape.run(eager.kernel("index_add", rows.sent, rows.layer.hidden))


def _send(tape: Tape, rows: Routed, way: moe.Way, *, probabilities: bool) -> list[moe.Transfer]:
    """Queue the rows, and where they travel apart the probabilities."""
    plan = rows.plan
    size = plan.dispatch_bytes if way is moe.dispatch else 2.0
    transfers = way(rows.experts, plan, size * rows.layer.hidden, rows.tokens)
    if probabilities and plan.dispatcher in COPYING:
        transfers += way(rows.experts, plan, PROBABILITY_BYTES, rows.tokens)
    moe.queue(tape, transfers)
    return transfers


def _permutation(name: str, rows: Routed, count: int) -> MemoryBound:
    places = 2 if rows.experts.top_k <= MOST_OF_TWO else 8
    return te.fused(f"{name}_top{places}", count, rows.layer.hidden)
