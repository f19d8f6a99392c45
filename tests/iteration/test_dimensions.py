"""Parameter counts against what the models' authors published."""

import pytest

from predictor.case import load_model
from predictor.iteration.dimensions import layer_of, model_flops, parameters_of

PUBLISHED = {
    "gpt2": 124.4e6,
    "gpt2-medium": 354.8e6,
    "gpt2-xl": 1557.6e6,
    "llama2-7b": 6.738e9,
    "llama2-70b": 68.98e9,
    "llama3-8b": 8.030e9,
    "llama3-70b": 70.55e9,
    "llama3-405b": 405.9e9,
    "llama3.2-1b": 1.236e9,
    "qwen3-0.6b": 0.596e9,
    "qwen3-8b": 8.191e9,
    "qwen3-32b": 32.76e9,
    "mistral-7b": 7.248e9,
    "gpt3-175b": 174.6e9,
}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_parameters_match_the_published_count_within_one_percent(name):
    model = load_model(name)
    counted = parameters_of(model, seq_length=model.max_position_embeddings or 2048).total
    assert counted == pytest.approx(PUBLISHED[name], rel=0.01)


def test_model_flops_of_a_toy_model_by_hand():
    model = load_model("llama3.2-1b")
    layer = layer_of(model)
    matrices = 16 * (2048 * (2 * 2048 + 2 * 512) + 3 * 2048 * 8192)
    assert layer.matrix_parameters * 16 == matrices
    expected = 10 * (6 * (matrices + 128256 * 2048) + 6 * 16 * 4096 * 2048)
    assert model_flops(model, tokens=10, seq_length=4096) == expected


def test_tensor_parallel_cuts_columns_and_keeps_the_residual_stream():
    whole, half = (
        layer_of(load_model("llama3-8b")),
        layer_of(load_model("llama3-8b"), tensor_parallel=2),
    )
    assert (half.q, half.kv, half.ffn) == (whole.q // 2, whole.kv // 2, whole.ffn // 2)
    assert half.hidden == whole.hidden
