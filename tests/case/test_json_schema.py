"""The JSON schema says of a case what the reader says, but for rules between fields."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from predictor.case import Case, model_names
from predictor.case.json_schema import case_schema
from predictor.case.model_schema import Mla, Moe
from predictor.case.schema import SECTIONS
from predictor.case.section import kinds
from predictor.cli import run
from predictor.errors import CaseError

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))
CHECKED = Draft202012Validator(case_schema())


def case(**changes: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "model": {"num_layers": 2, "hidden_size": 64, "num_attention_heads": 4},
        "training": {"seq_length": 128},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 1},
    }
    for path, value in changes.items():
        section, _, name = path.partition("__")
        whole.setdefault(section, {})[name] = value
    return whole


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(case_schema())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_pass(path: Path) -> None:
    assert list(CHECKED.iter_errors(tomllib.loads(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize("name", model_names())
def test_every_preset_passes_as_the_case_that_it_becomes(name: str) -> None:
    asked = case()
    asked["model"] = {"preset": name}
    whole = Case.from_dict(asked).to_dict()
    assert list(CHECKED.iter_errors(whole)) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"model__num_layers": 0},
        {"model__num_layers": 2.5},
        {"model__num_layers": "2"},
        {"model__num_layer": 2},
        {"training__precision": "bf15"},
        {"training__seq_length": True},
        {"plan__sequence_parallel": 1},
        {"plan__layers_per_stage": [1, "x"]},
        {"cluster__num_gpus": 2**40},
        {"cluster__inter_node_latency_seconds": 0},
        {"model__moe": {"num_experts": 4}},
        {
            "model__moe": {
                "num_experts": 4,
                "top_k": 1,
                "expert_ffn_hidden_size": 8,
                "imbalance": "zip",
            }
        },
    ],
)
def test_what_the_reader_refuses_the_schema_refuses(changes: dict[str, Any]) -> None:
    with pytest.raises(CaseError):
        Case.from_dict(case(**changes))
    assert not CHECKED.is_valid(case(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"plan__tensor_parallel": None},
        {"plan__overlap_detail": "the source's words"},
        {"plan__layers_per_stage": [2]},
        {
            "model__moe": {
                "num_experts": 4,
                "top_k": 1,
                "expert_ffn_hidden_size": 8,
                "imbalance": "zipf:1.1",
            }
        },
        {
            "model__moe": {
                "num_experts": 4,
                "top_k": 1,
                "expert_ffn_hidden_size": 8,
                "imbalance": 1.5,
            }
        },
    ],
)
def test_what_the_reader_takes_the_schema_takes(changes: dict[str, Any]) -> None:
    Case.from_dict(case(**changes))
    assert CHECKED.is_valid(case(**changes))


def test_every_field_is_in_it_with_words() -> None:
    tables = case_schema()["properties"]
    for name, section in SECTIONS.items():
        for field in kinds(section):
            assert tables[name]["properties"][field]["description"]
    for name, part in (("moe", Moe), ("mla", Mla)):
        inner = tables["model"]["properties"][name]["anyOf"][0]["properties"]
        assert set(kinds(part)) <= set(inner)


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["case", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == case_schema()
