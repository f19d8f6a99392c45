"""Shipped data: presets, datasheets, networks."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest

from predictor.case import (
    bench_results_folder,
    gpu_names,
    load_gpu,
    load_model,
    load_network,
    model_names,
    network_names,
)
from predictor.case.models import find_preset, model_source
from predictor.case.presets import aliases
from predictor.errors import TableError, UnknownName

if TYPE_CHECKING:
    from pathlib import Path

    from predictor.case import Model


def dense_parameters(model: Model) -> int:
    """Count the parameters of a dense model with rotary or learned positions."""
    attention = model.hidden_size * model.head_dim
    attention *= 2 * model.num_attention_heads + 2 * model.num_query_groups
    feed_forward = (3 if model.gated_mlp else 2) * model.hidden_size * model.ffn_hidden_size
    tables = (1 if model.tied_embeddings else 2) * model.vocab_size * model.hidden_size
    if model.position_embedding == "learned":
        tables += model.max_position_embeddings * model.hidden_size
    return model.num_layers * (attention + feed_forward) + tables


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("gpt2", 124e6),
        ("gpt2-xl", 1.558e9),
        ("gpt3-175b", 175e9),
        ("llama2-7b", 6.74e9),
        ("llama2-70b", 68.98e9),
        ("llama3-8b", 8.03e9),
        ("llama3-70b", 70.6e9),
        ("llama3-405b", 405.9e9),
        ("llama3.2-1b", 1.236e9),
        ("qwen3-0.6b", 0.596e9),
        ("qwen3-32b", 32.8e9),
        ("mistral-7b", 7.24e9),
    ],
)
def test_a_preset_counts_the_published_parameters(name: str, parameters: float) -> None:
    assert dense_parameters(load_model(name)) == pytest.approx(parameters, rel=0.005)


def test_every_model_names_its_source() -> None:
    for name in model_names():
        assert len(model_source(name)) > 20, name


def test_names_and_aliases_are_found_in_any_case() -> None:
    assert find_preset("Llama3.1-70B") == "llama3-70b"
    assert find_preset("Llama3-8B (fine-tune)") == "llama3-8b"
    assert find_preset("DeepSeek-V3-proxy-4L") == "deepseek-v3"
    assert find_preset("llama") is None
    assert set(aliases().values()) <= set(model_names())


def test_an_unknown_model_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'qwen3-8b'"):
        load_model("qwen3-8")


@pytest.mark.parametrize(
    ("asked", "meant"), [("b200-sxm-180gb", "b200-sxm"), ("H100", "h100-sxm5-80gb")]
)
def test_an_unknown_gpu_names_one_of_its_chip(asked: str, meant: str) -> None:
    with pytest.raises(UnknownName, match=f"did you mean '{meant}'"):
        load_gpu(asked)


@pytest.mark.parametrize("sku", gpu_names())
def test_a_datasheet_is_plausible_and_every_value_has_a_source(sku: str) -> None:
    gpu = load_gpu(sku)
    assert 100e12 < gpu.peak_flops_per_second["bf16"] < 10e15
    assert 1e12 < gpu.memory_bytes_per_second < 20e12
    assert 30e9 < gpu.memory_bytes < 500e9
    assert 1e9 < gpu.pcie_bytes_per_second < gpu.memory_bytes_per_second
    assert gpu.network in network_names()
    for key in ("memory_bytes", "power_watts", "peak_flops_per_second.bf16"):
        assert gpu.sources[key], key
    assert (gpu.usd_per_gpu_hour is None) == (not gpu.price_date)


def test_networks_have_rate_latency_and_source() -> None:
    for name in network_names():
        network = load_network(name)
        assert 1e9 < network.inter_node_bytes_per_second_per_gpu < 1e12
        assert 1e-6 < network.inter_node_latency_seconds < 1e-3
        assert network.source


def damaged(folder: Path, old: str, new: str) -> None:
    """Copy one datasheet into a folder of tables, with a change."""
    text = (bench_results_folder() / "h100-sxm5-80gb" / "gpu.toml").read_text(encoding="utf-8")
    assert old in text
    target = folder / "h100-sxm5-80gb"
    target.mkdir()
    (target / "gpu.toml").write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("power_watts =", "power_wats =", "did you mean 'power_watts'"),
        ("power_watts = { value = 700", "power_watts = { value = nan", "number from 1 to 1e[+]06"),
        (
            'sm_count = { value = 132, source = "datasheet" }',
            "sm_count = 132",
            "must be { value, source }",
        ),
        ('"dgx-h100-ndr"', '"dgx-h100-ndx"', "did you mean 'dgx-h100-ndr'"),
        ("value = 3.35e12", "value = 3.35e18", "must be a number from 1e[+]08 to 1e[+]17"),
        ("value = 1978.9e12", "value = 1978.9", "peak_flops_per_second = 1978.9: must be"),
        ("value = 132", "value = -132", "must be a whole number from 1"),
        ("value = 132", "value = 132.5", "sm_count = 132.5: must be a whole number"),
        ("scaleup_gpus = 8", "scaleup_gpus = 0", "scaleup_gpus = 0: must be"),
        ("[sources.flops]", "[sources.flop]", "'flops' is missing"),
        ("[sources.datasheet]", "[sources.datasheet", "gpu.toml"),
        ("architecture = ", "# ", "architecture"),
    ],
)
def test_a_damaged_datasheet_names_file_and_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, words: str
) -> None:
    damaged(tmp_path, old, new)
    monkeypatch.setenv("PREDICTOR_BENCH_RESULTS", str(tmp_path))
    with pytest.raises(TableError, match=words) as caught:
        load_gpu("h100-sxm5-80gb")
    assert "gpu.toml" in str(caught.value)


def test_a_wrong_folder_of_tables_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREDICTOR_BENCH_RESULTS", "/absent")
    with pytest.raises(TableError, match="PREDICTOR_BENCH_RESULTS = /absent"):
        gpu_names()


def test_presets_are_toml_without_surprises() -> None:
    for sku in gpu_names():
        raw = tomllib.loads((bench_results_folder() / sku / "gpu.toml").read_text(encoding="utf-8"))
        used = {entry["source"] for entry in raw.values() if "source" in dict_of(entry)}
        used |= {entry["source"] for entry in raw["peak_flops_per_second"].values()}
        assert used == set(raw["sources"]), sku


def dict_of(entry: object) -> dict[str, object]:
    return entry if isinstance(entry, dict) else {}
