"""Hugging Face ``config.json`` as fields of a model, of the families named in ``_FAMILIES``.

Keys that change what an iteration costs and that are not understood become notes, so that an
estimate says what it left out; keys that cost nothing (token ids, initial values) are passed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from predictor.case.hf_experts import (
    EXPERT_KEYS,
    LATENT_KEYS,
    SLIDING,
    add_experts,
    full_attention_frequency,
)
from predictor.errors import CaseError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

_LLAMA_KEYS = {
    "num_hidden_layers": "num_layers",
    "hidden_size": "hidden_size",
    "intermediate_size": "ffn_hidden_size",
    "num_attention_heads": "num_attention_heads",
    "num_key_value_heads": "num_query_groups",
    "head_dim": "head_dim",
    "vocab_size": "vocab_size",
    "tie_word_embeddings": "tied_embeddings",
    "max_position_embeddings": "max_position_embeddings",
}
_GPT2_KEYS = {
    "n_layer": "num_layers",
    "n_embd": "hidden_size",
    "n_inner": "ffn_hidden_size",
    "n_head": "num_attention_heads",
    "vocab_size": "vocab_size",
    "tie_word_embeddings": "tied_embeddings",
    "n_positions": "max_position_embeddings",
}
_OTHER_KEYS = {
    "hidden_act": "activation",
    "activation_function": "activation",
    "sliding_window": "attention_window",
    "attention_bias": "linear_bias",
    "num_nextn_predict_layers": "mtp_num_layers",
    "layer_types": "full_attention_frequency",
    "model_type": "name",
}
_DENSE = ("gpt2", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3")
_FAMILIES = (*_DENSE, *EXPERT_KEYS)
_WITH_QK_NORM = frozenset({"olmo2", "qwen3", "qwen3_moe"})
_WITH_QKV_BIAS = frozenset({"qwen2", "qwen2_moe"})
_ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu",
    "gelu_pytorch_tanh": "gelu",
    "relu": "relu",
}
FREE_KEYS = frozenset(
    (
        "_name_or_path",
        "architectures",
        "aux_loss_alpha",
        "attention_dropout",
        "attn_pdrop",
        "auto_map",
        "bos_token_id",
        "dtype",
        "ep_size",
        "experts_per_token",
        "initial_context_length",
        "norm_topk_prob",
        "original_max_position_embeddings",
        "routed_scaling_factor",
        "scoring_func",
        "seq_aux",
        "swiglu_limit",
        "topk_method",
        "embd_pdrop",
        "eos_token_id",
        "id2label",
        "initializer_range",
        "label2id",
        "layer_norm_epsilon",
        "max_window_layers",
        "model_type",
        "n_ctx",
        "output_router_logits",
        "pad_token_id",
        "pretraining_tp",
        "reorder_and_upcast_attn",
        "resid_pdrop",
        "rms_norm_eps",
        "rope_parameters",
        "rope_scaling",
        "rope_theta",
        "rotary_emb_base",
        "router_aux_loss_coef",
        "router_jitter_noise",
        "scale_attn_by_inverse_layer_idx",
        "scale_attn_weights",
        "summary_activation",
        "summary_first_dropout",
        "summary_proj_to_labels",
        "summary_type",
        "summary_use_proj",
        "task_specific_params",
        "torch_dtype",
        "transformers_version",
        "unk_token_id",
        "use_cache",
        "use_sliding_window",
    )
)
"""Keys that change nothing that is counted here."""


def model_fields_from_hf(config: Mapping[str, object]) -> dict[str, Any]:
    """Return the fields of a model that a Hugging Face configuration describes.

    Raises:
        CaseError: The family is not one of those read here.
    """
    family = str(config.get("model_type"))
    if "model_type" not in config:
        known = ", ".join(_FAMILIES)
        raise CaseError(f"model.hf_config: model_type is needed; known: {known}")
    if family not in _FAMILIES:
        raise CaseError(
            f"model.hf_config: model_type = {family!r}: is not read"
            f"{nearest(family, _FAMILIES)}; known: {', '.join(_FAMILIES)}"
        )
    names = _GPT2_KEYS if family == "gpt2" else _LLAMA_KEYS
    fields = {
        ours: config[theirs] for theirs, ours in names.items() if config.get(theirs) is not None
    }
    understood = {*names, *FREE_KEYS, "activation_function", "hidden_act"}
    understood |= _add_family(fields, family, config)
    _add_activation(fields, config)
    unknown = sorted(key for key in config if key not in understood and config[key] is not None)
    fields["notes"] = [f"hf_config: {key} = {config[key]!r} is not modelled" for key in unknown]
    return {"name": family, **fields}


def _add_family(fields: dict[str, Any], family: str, config: Mapping[str, object]) -> set[str]:
    """Add what the family's code fixes; return the keys that were read."""
    if family == "gpt2":
        fields.setdefault("tied_embeddings", True)
        fields |= {
            "gated_mlp": False,
            "normalization": "layernorm",
            "position_embedding": "learned",
            "linear_bias": "all",
        }
        return set()
    fields.setdefault("tied_embeddings", False)
    fields |= {
        "gated_mlp": True,
        "normalization": "rmsnorm",
        "position_embedding": "rope",
        "qk_norm": family in _WITH_QK_NORM,
        "linear_bias": _linear_bias(family, config),
    }
    if config.get("sliding_window") is not None and config.get("use_sliding_window", True):
        fields["attention_window"] = config["sliding_window"]
        every = full_attention_frequency(config)
        if every is not None:
            fields["full_attention_frequency"] = every
    read = {"sliding_window", "attention_bias", "mlp_bias"}
    if "attention_window" not in fields or _pattern_is_told(fields, config):
        read.add("layer_types")
    return read | add_experts(fields, family, config)


def _pattern_is_told(fields: Mapping[str, object], config: Mapping[str, object]) -> bool:
    """Whether the fields say which layers have a window."""
    types = config.get("layer_types")
    alike = not isinstance(types, list) or all(each == SLIDING for each in types)
    return alike or "full_attention_frequency" in fields


def _linear_bias(family: str, config: Mapping[str, object]) -> str:
    if config.get("attention_bias") and config.get("mlp_bias"):
        return "all"
    if family == "gpt_oss":
        return "all"
    return "qkv" if family in _WITH_QKV_BIAS or config.get("attention_bias") else "none"


def _add_activation(fields: dict[str, Any], config: Mapping[str, object]) -> None:
    theirs = str(config.get("activation_function", config.get("hidden_act", "gelu_new")))
    if theirs not in _ACTIVATIONS:
        raise CaseError(
            f"model.hf_config: activation = {theirs!r}: is not read"
            f"{nearest(theirs, _ACTIVATIONS)}; known: {', '.join(sorted(_ACTIVATIONS))}"
        )
    fields["activation"] = _ACTIVATIONS[theirs]


def key_of(path: str, config: Mapping[str, object]) -> str | None:
    """Return the key of a configuration that tells a field, None where its family does."""
    leaf = path.rpartition(".")[2]
    experts = EXPERT_KEYS.get(str(config.get("model_type")), {})
    tables = (_GPT2_KEYS, _LLAMA_KEYS, LATENT_KEYS, experts, _OTHER_KEYS)
    keys = (theirs for table in tables for theirs, ours in table.items() if ours == leaf)
    return next((key for key in keys if config.get(key) is not None), None)
