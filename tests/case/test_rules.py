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
    "full attention among windows": (
        {"model": {"full_attention_frequency": 4}},
        "model.full_attention_frequency = 4: needs attention_window",
    ),
    "a count for each expert": (
        {"model": {"moe": {**MOE, "expert_tokens": [1.0] * 7}}},
        "model.moe.expert_tokens = 7 counts: must have a count for each of num_experts (8)",
    ),
    "some tokens": (
        {"model": {"moe": {**MOE, "expert_tokens": [0.0] * 8}}},
        "model.moe.expert_tokens = 8 counts: must have a count for each of num_experts (8)",
    ),
    "padding needs a capacity": (
        {"model": {"moe": {**MOE, "pad_to_capacity": True}}},
        "model.moe.pad_to_capacity = True: needs capacity_factor",
    ),
    "groups divide experts": (
        {"model": {"moe": {**MOE, "routing_groups": 3}}},
        "model.moe.routing_groups = 3: must divide num_experts (8)",
    ),
    "groups of a token": (
        {"model": {"moe": {**MOE, "routing_groups": 4, "groups_per_token": 5}}},
        "model.moe.groups_per_token = 5: may not exceed routing_groups (4)",
    ),
    "groups of a token need groups": (
        {"model": {"moe": {**MOE, "groups_per_token": 1}}},
        "model.moe.groups_per_token = 1: may not exceed routing_groups (None)",
    ),
    "experts of a token's groups": (
        {"model": {"moe": {**MOE, "top_k": 5, "routing_groups": 4, "groups_per_token": 2}}},
        "model.moe.top_k = 5: may not exceed the experts of a token's groups (4)",
    ),
    "tensor ranks divide an expert": (
        {
            "model": {"moe": {**MOE, "expert_ffn_hidden_size": 1023}},
            "plan": {"expert_tensor_parallel": 2},
        },
        "plan.expert_tensor_parallel = 2: must divide expert_ffn_hidden_size (1023)",
    ),
    "replayed experts": (
        {"training": {"recompute": "selective", "recompute_modules": ["mlp", "moe_act"]}},
        "training.recompute_modules = moe_act: names a part of layers that have model.moe",
    ),
    "replayed latent attention": (
        {"training": {"recompute": "selective", "recompute_modules": ["mla_up_proj"]}},
        "training.recompute_modules = mla_up_proj: names a part of layers that have model.mla",
    ),
    "a GPU for each stage": (
        {"plan": {"pipeline_parallel": 2}, "cluster": {"stage_gpus": ["h100-sxm5-80gb"]}},
        "must name one for each of pipeline_parallel (2) stages",
    ),
    "the first stage's GPU": (
        {
            "plan": {"pipeline_parallel": 2},
            "cluster": {"stage_gpus": ["a100-sxm4-80gb", "h100-sxm5-80gb"]},
        },
        "must begin with cluster.gpu (h100-sxm5-80gb)",
    ),
    "a square of rates": (
        {"cluster": {"gpus_per_node": 8, "links": {"bytes_per_second": [[0.0, 1e9], [1e9]]}}},
        "cluster.links.bytes_per_second[1] = 1 rates: must have as many entries as there are rows",
    ),
    "a rate between different places": (
        {
            "cluster": {
                "gpus_per_node": 8,
                "links": {"bytes_per_second": [[0.0, 1e9], [0.0, 0.0]]},
            }
        },
        "cluster.links.bytes_per_second[1][0] = 0.0: must be at least",
    ),
    "an override of two places": (
        {"cluster": {"gpus_per_node": 8, "links": {"overrides": [[1, 1, 1e9]]}}},
        "cluster.links.overrides[0] = [1.0, 1.0, 1000000000.0]: must be [from, to, bytes_per",
    ),
    "an override of whole numbers": (
        {"cluster": {"gpus_per_node": 8, "links": {"overrides": [[0.5, 1, 1e9]]}}},
        "from and to must be whole numbers of 0 to 2047",
    ),
    "a place for each node": (
        {"cluster": {"gpus_per_node": 8, "links": {"placement": [0, 0]}}},
        "cluster.links.placement = 2 places: must be 2 different numbers of 0 to 2047",
    ),
    "nodes that are described": (
        {
            "cluster": {
                "num_gpus": 24,
                "gpus_per_node": 8,
                "links": {"bytes_per_second": [[0.0, 1e9], [1e9, 0.0]]},
            }
        },
        "cluster.num_gpus = 24: needs 3 nodes, cluster.links describes 2 at most",
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
    "a token may visit every expert": {
        "model": {"moe": {**MOE, "top_k": 8, "first_dense_layers": 8}},
    },
    "a token's experts may fill its groups": {
        "model": {"moe": {**MOE, "top_k": 4, "routing_groups": 4, "groups_per_token": 2}},
    },
    "a token may visit every group": {
        "model": {"moe": {**MOE, "top_k": 8, "routing_groups": 4, "groups_per_token": 4}},
    },
    "experts may get no token": {
        "model": {"moe": {**MOE, "expert_tokens": [0.0] * 7 + [1.0]}},
    },
    "every layer may be replayed": {
        "training": {"recompute": "full", "recompute_layers": 8},
    },
    "nodes in another order": {
        "cluster": {
            "gpus_per_node": 8,
            "links": {
                "bytes_per_second": [[0.0, 1e9], [1e9, 0.0]],
                "overrides": [[0, 1, 2e9]],
                "placement": [1, 0],
            },
        },
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
