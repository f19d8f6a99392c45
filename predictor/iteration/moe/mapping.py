"""Where experts lie: a mapping of their own, folded over the ranks of attention's.

Attention cuts the ranks of a pipeline stage as tp x cp x dp, experts cut the same ranks as
etp x ep x edp (MoE Parallel Folding, arXiv:2504.14960, section 3). Ranks of one expert's tensor
group sit next to each other, then those that share the experts, then those that hold the same ones
(Megatron-Core's order ``tp-ep-dp``), whatever attention does with them.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from math import comb, gcd
from typing import Final

from predictor.case import Case
from predictor.iteration.groups import Group
from predictor.iteration.layer_parts import Experts
from predictor.iteration.moe.imbalance import Load, load_of
from predictor.values import frozen

COPYING: Final = frozenset({"alltoall", "hierarchical"})
"""Dispatchers that send a copy of a token for each expert it visits."""


@frozen(kw_only=True)
class ExpertPlan:
    """What a rank's expert layers follow from, beside the layer itself.

    Attributes:
        expert: Ranks that share the experts of a layer.
        tensor: Ranks that share one expert.
        data: Ranks that hold the same experts, whose gradients are summed over them.
        inner: Of the expert ranks, those in one node.
        outer: One rank of each node among the expert ranks.
        dispatcher: How tokens travel.
        experts: How a rank runs its experts: ``sequential``, ``grouped``, ``fused`` or ``batched``.
        load: What reaches the fullest rank.
        consecutive: A token's experts lie next to each other, else anywhere.
        padded: Experts run at their whole capacity, so that no count need be known.
        dispatch_bytes: Bytes a number of a dispatched token.
        compression: Bytes sent over bytes before, of dispatch and combine.
        fused_permutation: One kernel puts tokens in their experts' order, one adds them up again.
        shared_overlap: Shared experts run beside dispatch and combine; None: as the stack does.
        overlap: Dispatch and combine run beside another micro-batch; None: as the stack does.
        lone: In this pass no other micro-batch's runs beside it.
        fused_clamp: An activation that cuts its input off does so itself; a bias before it is
            added apart.
    """

    expert: Group
    tensor: Group
    data: Group
    inner: Group
    outer: Group
    dispatcher: str
    experts: str
    load: Load
    consecutive: bool = False
    padded: bool = False
    dispatch_bytes: float = 2.0
    compression: float = 1.0
    fused_permutation: bool = True
    shared_overlap: bool | None = None
    overlap: bool | None = None
    lone: bool = False
    fused_clamp: bool = False

    @property
    def hides(self) -> bool:
        """Whether another micro-batch's computation hides dispatch and combine."""
        return self.overlap is True and not self.lone

    def sorts(self, experts: Experts) -> bool:
        """Whether rows that arrive rank by rank must be put in the order of the experts.

        Megatron-Core does so wherever a rank has several, even if they have come from itself alone
        (``token_dispatcher.py`` 0.12 to 0.19).
        """
        return experts.held > 1 and self.dispatcher in COPYING


def expert_plan(case: Case, *, tokens: int, groups: Mapping[str, Group]) -> ExpertPlan | None:
    """The mapping of a case's experts; None for a dense model.

    Args:
        case: Resolved.
        tokens: Tokens of a micro-batch that one rank routes.
        groups: Of the case, by name.
    """
    moe, plan = case.model.moe, case.plan
    if moe is None:
        return None
    etp, ep = plan.expert_tensor_parallel, plan.expert_parallel
    expert = groups["expert"]
    return ExpertPlan(
        expert=expert,
        tensor=groups["expert_tensor"],
        data=groups["expert_data"],
        inner=replace(expert, ranks=expert.ranks_per_node),
        outer=replace(expert, ranks=-(-ep // expert.ranks_per_node), ranks_per_node=1),
        dispatcher=str(plan.moe_dispatcher),
        experts=str(plan.moe_experts),
        load=load_of(moe, ranks=ep, copies=tokens * moe.top_k * ep * etp),
        consecutive=moe.imbalance == "consecutive",
        padded=bool(moe.pad_to_capacity),
        dispatch_bytes=1.0 if plan.moe_dispatch_dtype == "fp8" else 2.0,
        compression=float(plan.moe_compression),
        fused_permutation=plan.moe_permute_fusion is not False,
        shared_overlap=plan.moe_shared_overlap,
        overlap=plan.moe_overlap,
    )


@lru_cache(maxsize=256)
def places_visited(experts: Experts, places: int, *, consecutive: bool = False) -> float:
    """Expected number of ``places`` that a token visits whose experts are picked evenly.

    Of ``n`` experts that may be picked, a place that holds ``g`` of them is left out with the
    hypergeometric probability that none of the ``top_k`` lies there. Routing limited to groups
    (DeepSeek-V3, arXiv:2412.19437, section 2.1.2) picks groups evenly first: a group lies on many
    places, or a place holds several, of which it has as many picked ones as chance gives.
    Consecutive experts begin at multiples of ``top_k`` and touch ``1 + (top_k - gcd(top_k, g))/g``
    places on average.
    """
    top_k, held = experts.top_k, experts.total // places
    if consecutive:
        return 1.0 + (top_k - gcd(top_k, held)) / held
    visited = experts.groups_visited
    groups = experts.groups if visited < experts.groups else 1
    visited, size = min(visited, groups), experts.total // groups
    eligible, groups_held, here = visited * size, max(1, held // size), min(held, size)
    missed = 0
    for picked in range(min(groups_held, visited) + 1):
        others = comb(groups - groups_held, visited - picked)
        missed += comb(groups_held, picked) * others * comb(eligible - picked * here, top_k)
    return places * (1.0 - missed / (comb(groups, visited) * comb(eligible, top_k)))
