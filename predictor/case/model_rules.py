"""Rules between fields of a model: heads, groups, experts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from predictor.case.rule import RuleError, check_divides

if TYPE_CHECKING:
    from predictor.case.model_schema import Model, Moe


def check_model(model: Model) -> None:
    """Hold the rules of a model.

    Raises:
        RuleError: The first rule that is broken.
    """
    heads, groups = model.num_attention_heads, model.num_query_groups
    check_divides("model.num_query_groups", groups, of="num_attention_heads", dividend=heads)
    if heads is not None and model.head_dim is None and model.hidden_size % heads:
        rule = f"must divide hidden_size ({model.hidden_size}) where head_dim is not given"
        raise RuleError("model.num_attention_heads", heads, rule)
    every = model.full_attention_frequency
    if every is not None and model.attention_window is None:
        raise RuleError("model.full_attention_frequency", every, "needs attention_window")
    if model.moe is not None:
        _check_moe(model.moe, model.num_layers)


def _check_moe(moe: Moe, num_layers: int) -> None:
    if moe.top_k > moe.num_experts:
        raise RuleError(
            "model.moe.top_k", moe.top_k, f"may not exceed num_experts ({moe.num_experts})"
        )
    _check_groups(moe)
    if (moe.first_dense_layers or 0) > num_layers:
        rule = f"may not exceed num_layers ({num_layers})"
        raise RuleError("model.moe.first_dense_layers", moe.first_dense_layers, rule)
    if moe.expert_tokens is not None and (
        len(moe.expert_tokens) != moe.num_experts or sum(moe.expert_tokens) <= 0
    ):
        rule = f"must have a count for each of num_experts ({moe.num_experts}), not all of them 0"
        raise RuleError("model.moe.expert_tokens", f"{len(moe.expert_tokens)} counts", rule)
    if moe.pad_to_capacity and moe.capacity_factor is None:
        raise RuleError("model.moe.pad_to_capacity", moe.pad_to_capacity, "needs capacity_factor")


def _check_groups(moe: Moe) -> None:
    groups, visited = moe.routing_groups, moe.groups_per_token
    if visited is not None and visited > (groups or 0):
        rule = f"may not exceed routing_groups ({groups})"
        raise RuleError("model.moe.groups_per_token", visited, rule)
    if groups is None:
        return
    check_divides("model.moe.routing_groups", groups, of="num_experts", dividend=moe.num_experts)
    within = moe.num_experts // groups * (visited or groups)
    if moe.top_k > within:
        rule = f"may not exceed the experts of a token's groups ({within})"
        raise RuleError("model.moe.top_k", moe.top_k, rule)
