"""How tokens travel to their experts and back: what each dispatcher sends.

``tokens`` are those that a rank routes, ``copies`` the rows they become, one for each expert
visited. All-to-all buffers are those of the fullest rank: a dispatch ends when it has its tokens.

    allgather     every rank gets every token of the expert group and keeps what is its own
    alltoall      every copy is sent to its expert's rank (Megatron-Core's default for experts)
    hierarchical  copies cross nodes between ranks of one place in each, then spread inside the node
    deepep        a token is sent once to each node it visits and once to each rank there, over
                  network and NVLink at once (DeepEP; HybridEP does the same)
"""

from collections.abc import Callable

from predictor.iteration.launches import Stream, Tape
from predictor.iteration.layer_parts import Experts
from predictor.iteration.moe.mapping import ExpertPlan, places_visited
from predictor.operators import Collective

COUNT_BYTES = 8.0
"""A count of tokens an expert, as int64."""

Transfer = tuple[Collective | None, Stream]
Way = Callable[[Experts, ExpertPlan, float, int], list[Transfer]]
"""``dispatch`` or ``combine``."""


def counts(experts: Experts, plan: ExpertPlan) -> Collective | None:
    """Every rank tells the others how many tokens each expert gets from it."""
    return plan.expert.all_gather(COUNT_BYTES * experts.total * plan.expert.ranks)


def dispatch(experts: Experts, plan: ExpertPlan, row_bytes: float, tokens: int) -> list[Transfer]:
    """Transfers that bring ``tokens`` rows of ``row_bytes`` to their experts."""
    return _transfers(experts, plan, row_bytes, tokens, gathers=True)


def combine(experts: Experts, plan: ExpertPlan, row_bytes: float, tokens: int) -> list[Transfer]:
    """Transfers that bring the experts' rows back."""
    return _transfers(experts, plan, row_bytes, tokens, gathers=False)


def queue(tape: Tape, transfers: list[Transfer]) -> None:
    """Queue transfers beside the compute stream."""
    for collective, stream in transfers:
        tape.start(collective, stream)


def wait(tape: Tape, transfers: list[Transfer]) -> None:
    """Let the compute stream wait for their streams."""
    for stream in dict.fromkeys(stream for collective, stream in transfers if collective):
        tape.wait(stream)


def _transfers(
    experts: Experts, plan: ExpertPlan, row_bytes: float, tokens: int, *, gathers: bool
) -> list[Transfer]:
    size = row_bytes * plan.compression
    copies = tokens * experts.top_k
    match plan.dispatcher:
        case "allgather":
            whole = size * tokens * plan.expert.ranks
            one = plan.expert.all_gather(whole) if gathers else plan.expert.reduce_scatter(whole)
            return [(one, "expert")]
        case "hierarchical":
            buffer = size * copies * plan.load.kept
            steps = [plan.outer.all_to_all(buffer), plan.inner.all_to_all(buffer)]
            return [(step, "expert") for step in (steps if gathers else reversed(steps))]
        case "deepep":
            return _deduplicated(experts, plan, size * tokens * plan.load.kept)
        case _:
            return [(plan.expert.all_to_all(size * copies * plan.load.kept), "expert")]


def _deduplicated(experts: Experts, plan: ExpertPlan, whole: float) -> list[Transfer]:
    """Each token once to each node it visits, and inside nodes once to each rank it visits.

    ``whole`` is all tokens once. A buffer of ``b`` over ``p`` ranks sends ``b/p`` to each, so
    buffers here are the bytes of all places, a rank's own among them.
    """
    across, inside = (
        whole * places_visited(experts, places, consecutive=plan.consecutive)
        for places in (plan.outer.ranks, plan.expert.ranks)
    )
    return [(plan.outer.all_to_all(across), "expert"), (plan.inner.all_to_all(inside), "tensor")]
