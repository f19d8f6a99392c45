"""Experts, latent attention and layer patterns of Hugging Face configurations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOCAL = {
    "num_local_experts": "num_experts",
    "num_experts_per_tok": "top_k",
    "intermediate_size": "expert_ffn_hidden_size",
}
_QWEN = {
    "num_experts": "num_experts",
    "num_experts_per_tok": "top_k",
    "moe_intermediate_size": "expert_ffn_hidden_size",
    "shared_expert_intermediate_size": "shared_expert_ffn_hidden_size",
    "decoder_sparse_step": "moe_layer_frequency",
}
_DEEPSEEK = {
    "n_routed_experts": "num_experts",
    "num_experts_per_tok": "top_k",
    "moe_intermediate_size": "expert_ffn_hidden_size",
    "n_shared_experts": "num_shared_experts",
    "first_k_dense_replace": "first_dense_layers",
    "moe_layer_freq": "moe_layer_frequency",
    "n_group": "routing_groups",
    "topk_group": "groups_per_token",
}
EXPERT_KEYS: dict[str, dict[str, str]] = {
    "mixtral": _LOCAL,
    "gpt_oss": _LOCAL,
    "qwen2_moe": _QWEN,
    "qwen3_moe": _QWEN,
    "deepseek_v2": _DEEPSEEK,
    "deepseek_v3": _DEEPSEEK,
    "kimi_k2": _DEEPSEEK,
}
"""Keys of a family's experts, and the field that each is."""

LATENT_KEYS = {
    key: key
    for key in (
        "q_lora_rank",
        "kv_lora_rank",
        "qk_nope_head_dim",
        "qk_rope_head_dim",
        "v_head_dim",
    )
}
_LATENT_FAMILIES = frozenset({"deepseek_v2", "deepseek_v3", "kimi_k2"})
SLIDING, FULL = "sliding_attention", "full_attention"


def add_experts(fields: dict[str, Any], family: str, config: Mapping[str, object]) -> set[str]:
    """Add what a family's experts and latent attention are; return the keys that were read."""
    names = EXPERT_KEYS.get(family)
    if names is None:
        return set()
    moe = {ours: config[key] for key, ours in names.items() if config.get(key) is not None}
    read = set(names)
    shared, width = moe.get("num_shared_experts"), moe.get("expert_ffn_hidden_size")
    if isinstance(shared, int) and isinstance(width, int):
        moe["shared_expert_ffn_hidden_size"] = shared * width
    elif moe.get("shared_expert_ffn_hidden_size"):
        moe["num_shared_experts"] = 1
    only = config.get("mlp_only_layers")
    if isinstance(only, list) and only == list(range(len(only))):
        moe.setdefault("first_dense_layers", len(only))
        read.add("mlp_only_layers")
    fields["moe"] = moe
    if family in _LATENT_FAMILIES:
        read |= _add_latent(fields, config)
    return read


def _add_latent(fields: dict[str, Any], config: Mapping[str, object]) -> set[str]:
    mla = {ours: config[key] for key, ours in LATENT_KEYS.items() if config.get(key) is not None}
    fields["mla"] = mla
    parts = mla.get("qk_nope_head_dim"), mla.get("qk_rope_head_dim")
    if all(isinstance(part, int) for part in parts):
        fields["head_dim"] = sum(parts)
    if config.get("num_nextn_predict_layers") is not None:
        fields["mtp_num_layers"] = config["num_nextn_predict_layers"]
    return {*LATENT_KEYS, "num_nextn_predict_layers", "qk_head_dim"}


def full_attention_frequency(config: Mapping[str, object]) -> int | None:
    """Every how many layers one sees the whole sequence; None where all layers are alike.

    A pattern without a period is none of ours either, and stays to be listed.
    """
    types = config.get("layer_types")
    if not isinstance(types, list) or FULL not in types or SLIDING not in types:
        return None
    every = types.index(FULL) + 1
    pattern = [FULL if at % every == 0 else SLIDING for at in range(1, len(types) + 1)]
    return every if types == pattern else None
