"""Rules between fields, each broken alone."""

from __future__ import annotations

from typing import Any

import pytest

from predictor.case import Case
from predictor.errors import CaseError

MOE = {"num_experts": 8, "top_k": 2, "expert_ffn_hidden_size": 1024}


def mapping(**sections: dict[str, Any]) -> dict[str, Any]:
    """Return 8 layers of 1024 with 16 heads on 16 GPUs, with fields changed."""
    base: dict[str, dict[str, Any]] = {
        "model": {"num_layers": 8, "hidden_size": 1024, "num_attention_heads": 16},
        "training": {"seq_length": 1024},
        "plan": {"tensor_parallel": 1},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 16},
    }
    return {name: {**base[name], **sections.get(name, {})} for name in base}


def test_the_base_of_these_tests_is_legal() -> None:
    assert Case.from_dict(mapping()).model.num_layers == 8


BROKEN = {
    "groups divide heads": (
        {"model": {"num_query_groups": 3}},
        "model.num_query_groups = 3: must divide num_attention_heads (16)",
    ),
    "heads divide the width": (
        {"model": {"hidden_size": 1000}},
        "model.num_attention_heads = 16: must divide hidden_size (1000)",
    ),
    "tensor ranks divide heads": (
        {"model": {"num_attention_heads": 4, "head_dim": 64}, "plan": {"tensor_parallel": 8}},
        "plan.tensor_parallel = 8: must divide num_attention_heads (4)",
    ),
    "tensor ranks and groups": (
        {
            "model": {"num_attention_heads": 12, "num_query_groups": 2, "head_dim": 64},
            "plan": {"tensor_parallel": 3},
            "cluster": {"num_gpus": 3},
        },
        "plan.tensor_parallel = 3: must divide num_query_groups (2) or be a multiple",
    ),
    "tensor ranks divide the feed-forward": (
        {"model": {"ffn_hidden_size": 1001}, "plan": {"tensor_parallel": 2}},
        "plan.tensor_parallel = 2: must divide ffn_hidden_size (1001)",
    ),
    "sequence parallel": (
        {
            "training": {"seq_length": 1023},
            "plan": {"tensor_parallel": 2, "sequence_parallel": True},
        },
        "must divide seq_length (1023) under sequence_parallel",
    ),
    "context": (
        {"training": {"seq_length": 1023}, "plan": {"context_parallel": 2}},
        "plan.context_parallel = 2: must divide seq_length (1023)",
    ),
    "ulysses": (
        {
            "model": {"num_attention_heads": 2, "head_dim": 64},
            "plan": {"context_parallel": 4, "context_parallel_kind": "ulysses"},
        },
        "must divide num_attention_heads (2) under ulysses",
    ),
    "world": (
        {"plan": {"tensor_parallel": 2}, "cluster": {"num_gpus": 9}},
        "cluster.num_gpus = 9: must be a multiple of",
    ),
    "replicas follow": (
        {"plan": {"tensor_parallel": 2, "data_parallel": 4}},
        "plan.data_parallel = 4: num_gpus (16) over the other degrees (2) is 8",
    ),
    "batch": (
        {"training": {"micro_batch_size": 2, "global_batch_size": 48}},
        "training.global_batch_size = 48: must be a multiple of micro_batch_size x data_parallel",
    ),
    "chunks need stages": (
        {"plan": {"virtual_pipeline": 2}},
        "plan.virtual_pipeline = 2: needs pipeline_parallel",
    ),
    "interleaving needs chunks": (
        {"plan": {"pipeline_parallel": 2, "virtual_pipeline": 1, "schedule": "interleaved"}},
        "plan.schedule = interleaved: needs virtual_pipeline",
    ),
    "more chunks than layers": (
        {"plan": {"pipeline_parallel": 4, "virtual_pipeline": 3}},
        "may not exceed num_layers + 2 (10)",
    ),
    "stages have layers": (
        {"plan": {"pipeline_parallel": 2, "layers_per_stage": [4]}},
        "must have one entry for each of 2 stages",
    ),
    "layers add up": (
        {"plan": {"pipeline_parallel": 2, "layers_per_stage": [4, 5]}},
        "add up to num_layers (8)",
    ),
    "recomputed layers": (
        {"training": {"recompute_layers": 9}},
        "training.recompute_layers = 9: may not exceed num_layers (8)",
    ),
    "sharding group": (
        {"plan": {"sharding_group": 3}},
        "plan.sharding_group = 3: must divide data_parallel x context_parallel (16)",
    ),
    "experts need a model": (
        {"plan": {"expert_parallel": 2}},
        "plan.expert_parallel = 2: needs a model with experts",
    ),
    "ranks divide experts": (
        {"model": {"moe": MOE}, "plan": {"expert_parallel": 16}},
        "plan.expert_parallel = 16: must divide num_experts (8)",
    ),
    "expert ranks divide the stage": (
        {
            "model": {"moe": MOE},
            "plan": {"expert_parallel": 8, "expert_tensor_parallel": 4, "tensor_parallel": 2},
        },
        "plan.expert_parallel = 8: times expert_tensor_parallel (4) must divide",
    ),
    "choices of a token": (
        {"model": {"moe": {**MOE, "top_k": 9}}},
        "model.moe.top_k = 9: may not exceed num_experts (8)",
    ),
    "dense layers": (
        {"model": {"moe": {**MOE, "first_dense_layers": 9}}},
        "model.moe.first_dense_layers = 9: may not exceed num_layers (8)",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_names_field_value_and_rule(name: str) -> None:
    sections, words = BROKEN[name]
    with pytest.raises(CaseError) as caught:
        Case.from_dict(mapping(**sections))
    assert words in str(caught.value)


LEGAL = {
    "layers divide unevenly": {"plan": {"pipeline_parallel": 3}, "cluster": {"num_gpus": 12}},
    "embedding and loss take a layer's place": {
        "plan": {"pipeline_parallel": 2, "virtual_pipeline": 5},
    },
    "a node may be larger than the job": {
        "cluster": {"num_gpus": 2, "gpus_per_node": 8},
    },
    "more tensor ranks than groups": {
        "model": {"num_query_groups": 4},
        "plan": {"tensor_parallel": 8},
    },
    "stages with unequal layers": {
        "plan": {"pipeline_parallel": 2, "layers_per_stage": [5, 3]},
    },
    "experts folded over data and tensor ranks": {
        "model": {"moe": MOE},
        "plan": {"tensor_parallel": 4, "expert_parallel": 8, "expert_tensor_parallel": 1},
    },
}


@pytest.mark.parametrize("name", LEGAL)
def test_what_frameworks_allow_is_legal(name: str) -> None:
    sections: dict[str, dict[str, Any]] = LEGAL[name]
    Case.from_dict(mapping(**sections))


def test_changing_a_case_holds_the_rules_again() -> None:
    case = Case.from_dict(mapping())
    assert case.replace(plan={"tensor_parallel": 4}).plan.tensor_parallel == 4
    with pytest.raises(CaseError, match="must divide num_attention_heads"):
        case.replace(plan={"tensor_parallel": 32})
