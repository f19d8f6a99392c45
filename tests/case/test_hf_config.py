"""Hugging Face configurations: the presets they must agree with, and what is not understood."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from predictor.case import Case, load_model
from predictor.errors import CaseError

if TYPE_CHECKING:
    from pathlib import Path

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
    "max_position_embeddings": 8192,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
}
GPT2 = {
    "model_type": "gpt2",
    "n_layer": 12,
    "n_embd": 768,
    "n_head": 12,
    "n_inner": None,
    "vocab_size": 50257,
    "n_positions": 1024,
    "activation_function": "gelu_new",
}
MIXTRAL = {
    **LLAMA,
    "model_type": "mixtral",
    "vocab_size": 32000,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 32768,
}


QWEN_MOE = {
    "model_type": "qwen3_moe",
    "num_hidden_layers": 48,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "hidden_act": "silu",
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 768,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "norm_topk_prob": True,
}
DEEPSEEK = {
    "model_type": "deepseek_v2",
    "num_hidden_layers": 27,
    "hidden_size": 2048,
    "intermediate_size": 10944,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "vocab_size": 102400,
    "max_position_embeddings": 163840,
    "hidden_act": "silu",
    "n_routed_experts": 64,
    "num_experts_per_tok": 6,
    "moe_intermediate_size": 1408,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "q_lora_rank": None,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
}
GPT_OSS = {
    "model_type": "gpt_oss",
    "num_hidden_layers": 24,
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "vocab_size": 201088,
    "max_position_embeddings": 131072,
    "hidden_act": "silu",
    "attention_bias": True,
    "num_local_experts": 32,
    "num_experts_per_tok": 4,
    "sliding_window": 128,
    "layer_types": ["sliding_attention", "full_attention"] * 12,
}


def read(folder: Path, config: dict[str, Any], **model: Any) -> Case:
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    case = folder / "case.json"
    sections = {
        "model": {"hf_config": "config.json", **model},
        "training": {"seq_length": 1024},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 1},
    }
    case.write_text(json.dumps(sections), encoding="utf-8")
    return Case.from_file(case)


@pytest.mark.parametrize(
    ("config", "preset", "left_out"),
    [
        (LLAMA, "llama3-8b", {"name", "head_dim"}),
        (GPT2, "gpt2", {"name", "head_dim", "num_query_groups", "ffn_hidden_size", "qk_norm"}),
        (MIXTRAL, "mixtral-8x7b", {"name", "head_dim", "moe"}),
        (QWEN_MOE, "qwen3-30b-a3b", {"name", "moe"}),
        (DEEPSEEK, "deepseek-v2-lite", {"name", "moe", "mla"}),
        (GPT_OSS, "gpt-oss-20b", {"name", "moe"}),
    ],
)
def test_a_configuration_agrees_with_the_preset(
    tmp_path: Path, config: dict[str, Any], preset: str, left_out: set[str]
) -> None:
    model, expected = read(tmp_path, config).to_dict()["model"], load_model(preset)
    for key, value in model.items():
        if key not in left_out:
            assert value == getattr(expected, key), key


def test_mixtral_has_its_experts(tmp_path: Path) -> None:
    moe = read(tmp_path, MIXTRAL).model.moe
    assert moe is not None
    assert (moe.num_experts, moe.top_k, moe.expert_ffn_hidden_size) == (8, 2, 14336)


@pytest.mark.parametrize(
    ("config", "preset"),
    [(QWEN_MOE, "qwen3-30b-a3b"), (DEEPSEEK, "deepseek-v2-lite"), (GPT_OSS, "gpt-oss-20b")],
)
def test_experts_and_latent_attention_agree_with_the_preset(
    tmp_path: Path, config: dict[str, Any], preset: str
) -> None:
    model, expected = read(tmp_path, config).model, load_model(preset)
    for part in ("moe", "mla"):
        own, told = getattr(model, part), getattr(expected, part)
        assert (own is None) == (told is None)
        for key in ("num_experts", "top_k", "expert_ffn_hidden_size", "kv_lora_rank"):
            assert getattr(own, key, None) == getattr(told, key, None), key
        shared = "shared_expert_ffn_hidden_size"
        assert (getattr(own, shared, 0) or 0) == (getattr(told, shared, 0) or 0)
    assert model.notes == ()


def test_a_pattern_of_layers_without_a_period_is_listed(tmp_path: Path) -> None:
    types = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
    case = read(tmp_path, {**GPT_OSS, "num_hidden_layers": 4, "layer_types": types})
    assert any("layer_types" in note for note in case.model.notes)


def test_qwen_has_its_biases_and_norms(tmp_path: Path) -> None:
    qwen2 = read(tmp_path, {**LLAMA, "model_type": "qwen2"}).model
    assert (qwen2.linear_bias, qwen2.qk_norm) == ("qkv", False)
    qwen3 = read(tmp_path, {**LLAMA, "model_type": "qwen3", "head_dim": 128}).model
    assert (qwen3.linear_bias, qwen3.qk_norm) == ("none", True)


def test_a_window_counts_only_where_it_is_used(tmp_path: Path) -> None:
    windowed = {**LLAMA, "model_type": "mistral", "sliding_window": 4096}
    assert read(tmp_path, windowed).model.attention_window == 4096
    unused = {**windowed, "model_type": "qwen2", "use_sliding_window": False}
    assert read(tmp_path, unused).model.attention_window is None


def test_a_field_beside_the_configuration_wins(tmp_path: Path) -> None:
    assert read(tmp_path, LLAMA, num_layers=2).model.num_layers == 2


def test_what_is_not_understood_becomes_a_note(tmp_path: Path) -> None:
    case = read(tmp_path, {**LLAMA, "attn_logit_softcapping": 50.0})
    assert case.model.notes == ("hf_config: attn_logit_softcapping = 50.0 is not modelled",)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "lama"}, "did you mean 'llama'"),
        ({"hidden_act": "mish"}, "activation = 'mish'"),
        ({"num_hidden_layers": None}, "model.num_layers is needed"),
        ({"hidden_size": 4096.5}, "model.hidden_size = 4096.5: must be a whole number"),
    ],
)
def test_a_bad_configuration_is_one_message(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(CaseError, match=words):
        read(tmp_path, {**LLAMA, **change})
