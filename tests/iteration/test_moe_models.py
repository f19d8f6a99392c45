"""Sizes of mixture-of-experts models against what their authors published, and by hand."""

from dataclasses import replace

import pytest

from predictor.case import Case, is_hybrid, load_model
from predictor.errors import CaseError
from predictor.iteration.dimensions import (
    layer_of,
    layers_of,
    mean_keys,
    model_flops,
    parameters_of,
)

# Total and active parameters as published, half a unit of the last printed digit of the active
# count, and what that count or the total leaves out or adds beside the transformer:
#   input  the input table is not counted     tables  neither table is
PUBLISHED = {
    # Mistral, "Mixtral of Experts", arXiv:2401.04088, section 1
    "mixtral-8x7b": (46.7e9, 12.9e9, 0.05e9, ""),
    # Mistral's announcement of Mixtral 8x22B, April 2024
    "mixtral-8x22b": (141e9, 39e9, 0.5e9, ""),
    # Qwen2 technical report, arXiv:2407.10671, table 1 and section 2.2.2
    "qwen2-57b-a14b": (57.4e9, 14e9, 0.5e9, ""),
    # Qwen3 technical report, arXiv:2505.09388, table 2; model card of Qwen3-30B-A3B (30.5B, 3.3B)
    "qwen3-30b-a3b": (30.5e9, 3.3e9, 0.06e9, ""),
    "qwen3-235b-a22b": (235e9, 22e9, 0.5e9, ""),
    # DeepSeek-V2, arXiv:2405.04434, abstract
    "deepseek-v2": (236e9, 21e9, 0.5e9, "input"),
    # DeepSeek-V3, README_WEIGHTS.md of its repository: 671B, 36.7B
    "deepseek-v3": (671e9, 36.7e9, 0.05e9, "input"),
    # Kimi-K2-Instruct's model card: 1T, 32B
    "kimi-k2": (1.0e12, 32e9, 0.5e9, "input"),
    # "Muon is scalable for LLM training", arXiv:2502.16982: 15.29B, 2.24B without embeddings
    "moonlight-16b-a3b": (15.29e9, 2.24e9, 0.005e9, "tables"),
    # gpt-oss model card, arXiv:2508.10925, table 1
    "gpt-oss-20b": (20.9e9, 3.6e9, 0.05e9, "input"),
    "gpt-oss-120b": (116.8e9, 5.1e9, 0.05e9, "input"),
    # github.com/xai-org/grok-1 README: 314B; the active count is only given as a share
    "grok-1": (314e9, None, 0.0, ""),
    # Llama 4 model cards: 109B and 400B with the vision encoder, 17B active
    "llama4-scout": (109e9, 17e9, 0.5e9, ""),
    "llama4-maverick": (400e9, 17e9, 0.5e9, ""),
    # github.com/databricks/dbrx README
    "dbrx": (132e9, 36e9, 0.5e9, ""),
    # Snowflake's announcement of Arctic: 480B, 17B active
    "snowflake-arctic": (480e9, 17e9, 0.5e9, ""),
}
# Llama 4's vision encoder, adapter and projector, from its configuration: 34 layers of width 1408
# and 5632, an adapter 5632 -> 4096 -> 4096 and a projector 4096 -> 5120.
VISION = 34 * (4 * 1408**2 + 2 * 1408 * 5632) + 4096 * (5632 + 4096 + 5120)
BESIDE = {"llama4-scout": VISION, "llama4-maverick": VISION}
# Kimi-K2's card prints one digit; its configuration counts 1.026e12.
ROUNDED = {"kimi-k2": 0.05e12}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_total_parameters_are_the_published_within_one_percent(name):
    model = load_model(name)
    published, _, _, left_out = PUBLISHED[name]
    counted = parameters_of(model).total + BESIDE.get(name, 0)
    if left_out == "tables":
        counted -= 2 * model.vocab_size * model.hidden_size
    assert abs(counted - published) <= max(0.01 * published, ROUNDED.get(name, 0.0))


@pytest.mark.parametrize("name", sorted(n for n, row in PUBLISHED.items() if row[1]))
def test_active_parameters_are_the_published_within_one_percent_or_their_rounding(name):
    model = load_model(name)
    _, published, half_a_digit, left_out = PUBLISHED[name]
    tables = {"": 0, "input": 1, "tables": 2}[left_out]
    counted = parameters_of(model).active - tables * model.vocab_size * model.hidden_size
    assert abs(counted - published) <= max(0.01 * published, half_a_digit)


def test_the_prediction_module_of_deepseek_v3_has_its_published_size():
    # README_WEIGHTS.md: 11.5B unique parameters, shared embedding and head left out
    assert parameters_of(load_model("deepseek-v3")).prediction == pytest.approx(11.5e9, rel=0.01)


def test_latent_attention_of_deepseek_v3_by_hand():
    layer = layer_of(load_model("deepseek-v3"))
    down_and_up = 7168 * 1536 + 1536 * 128 * 192
    keys_and_values = 7168 * (512 + 64) + 512 * 128 * (128 + 128)
    assert layer.attention_parameters == down_and_up + keys_and_values + 128 * 128 * 7168
    assert (layer.q, layer.v) == (128 * 192, 128 * 128)


def test_tensor_ranks_share_heads_but_not_the_down_projections():
    whole = layer_of(load_model("deepseek-v3"))
    half = layer_of(load_model("deepseek-v3"), tensor_parallel=2)
    down = 7168 * 1536 + 7168 * (512 + 64)
    assert half.attention_parameters - down == (whole.attention_parameters - down) // 2


def test_experts_are_cut_by_their_own_degrees():
    row = layers_of(
        load_model("mixtral-8x7b"), tensor_parallel=4, expert_parallel=8, expert_tensor_parallel=1
    )
    assert (row[0].experts.held, row[0].experts.ffn) == (1, 14336)
    assert row[0].expert_parameters == 3 * 4096 * 14336
    assert row[0].q == 32 * 128 // 4


def test_kinds_of_layers_stand_where_their_models_have_them():
    deepseek = layers_of(load_model("deepseek-v3"))
    assert [bool(x.experts) for x in deepseek] == [False] * 3 + [True] * 59
    assert [x.predicts for x in deepseek] == [False] * 61 + [True]
    maverick = layers_of(load_model("llama4-maverick"))
    assert sum(bool(x.experts) for x in maverick) == 24
    assert [x.window for x in maverick[:5]] == [8192, 8192, 8192, None, 8192]
    gpt_oss = layers_of(load_model("gpt-oss-20b"))
    assert [x.window for x in gpt_oss[:4]] == [128, None, 128, None]


def test_arctic_runs_a_dense_feed_forward_beside_its_experts():
    layer = layer_of(load_model("snowflake-arctic"))
    plain = replace(layer, experts=replace(layer.experts, residual_ffn=0))
    norm = 7168
    assert layer.parameters - plain.parameters == 3 * 7168 * 7168 + norm


@pytest.mark.parametrize(
    ("seq_length", "window", "keys"), [(8, None, 4), (8, 8, 4), (8, 16, 4), (8, 2, 1.75)]
)
def test_mean_keys_of_a_window(seq_length, window, keys):
    assert mean_keys(seq_length, window) == keys


def test_model_flops_count_the_visited_experts_alone():
    model = load_model("mixtral-8x7b")
    attention = 4096 * (2 * 4096 + 2 * 1024)
    visited = 2 * 3 * 4096 * 14336
    matrices = 32 * (attention + 4096 * 8 + visited) + 32000 * 4096
    expected = 3 * (6 * matrices + 6 * 32 * 1024 * 4096)
    assert model_flops(model, tokens=3, seq_length=1024) == expected


@pytest.mark.parametrize(
    "name",
    [
        "Nemotron-H-56B",
        "NVIDIA-Nemotron-Nano-9B-v2",
        "Nemotron-3-Nano-30B-A3B",
        "Nemotron 3 Super",
        "Jamba-1.5-Large",
        "Qwen3-Next-80B-A3B",
        "MiniMax-M1",
    ],
)
def test_hybrid_models_are_known_by_name(name):
    assert is_hybrid(name)


@pytest.mark.parametrize("name", ["Nemotron4-340B", "Nemotron-8B", "MiniMax-M2", "Qwen3-30B-A3B"])
def test_attention_models_are_not_taken_for_hybrids(name):
    assert not is_hybrid(name)


def test_a_hybrid_preset_is_refused_with_its_reason():
    with pytest.raises(CaseError, match="mixes state-space"):
        Case.from_dict(
            {
                "model": {"preset": "Nemotron-H-8B"},
                "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 8},
            }
        )
