"""Choices among whole runs, and the command that makes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from predictor import Case, load_model
from predictor.cli import run as command
from predictor.errors import CaseError, NotPredictable
from predictor.search.choices import doubling_counts, gpu_counts
from predictor.search.request import ASKED, answer, read_request
from predictor.search.scaled_models import scaled_family

if TYPE_CHECKING:
    from pathlib import Path

CASE = Case.from_dict(
    {
        "model": {"preset": "llama3-8b"},
        "training": {"seq_length": 8192, "global_batch_size": 64},
        "plan": {"tensor_parallel": 2},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 16},
    }
)


def test_counts_follow_from_plan_and_batch() -> None:
    assert gpu_counts(CASE) == [2, 4, 8, 16, 32, 64, 128]


def test_the_fewest_gpus_make_the_deadline_and_one_step_less_does_not() -> None:
    choice = answer(CASE, read_request(tokens="100B", deadline="5d"))
    best = choice.best
    assert best.seconds <= 5 * 86400
    assert list(choice.rejected) == [f"{count} GPUs" for count in (2, 4, 8, 16)]
    assert best.case.cluster.num_gpus == 32
    assert best.case.training.global_batch_size == 64
    surely = answer(CASE, read_request(tokens="100B", deadline="5d", surely=True)).best
    assert surely.interval_seconds[1] <= 5 * 86400


def test_a_deadline_that_nothing_makes_says_what_was_tried() -> None:
    with pytest.raises(NotPredictable, match=r"128 GPUs: [\d.]+ days, more than 0\.1"):
        _ = answer(CASE, read_request(tokens="100B", deadline="2.4h")).best


def test_the_cheapest_gpu_comes_first_and_refusals_keep_their_reason() -> None:
    choice = answer(CASE, read_request(tokens="1T", skus="all", prices="nebius"))
    costs = [run.usd for run in choice.runs.values()]
    assert costs == sorted(costs, key=lambda usd: usd or 0.0)
    assert set(choice.runs) == {"h100-sxm5-80gb", "h200-sxm5-141gb", "b200-sxm"}
    assert "no price of a100-sxm4-80gb" in choice.rejected["a100-sxm4-80gb"]
    assert {run.case.training.global_batch_size for run in choice.runs.values()} == {64}


def test_a_budget_leaves_out_the_gpus_that_it_does_not_pay_for() -> None:
    free = answer(CASE, read_request(tokens="1T", skus="h100-sxm5-80gb,h200-sxm5-141gb"))
    dear = list(free.runs)[1]
    between = sum(run.usd or 0.0 for run in free.runs.values()) / 2
    told = answer(
        CASE,
        read_request(tokens="1T", skus="h100-sxm5-80gb,h200-sxm5-141gb", budget=f"{between:.0f}"),
    )
    assert [*told.runs, *told.rejected] == list(free.runs)
    assert "more than" in told.rejected[dear]


def test_the_largest_model_within_a_budget_is_larger_with_more_money() -> None:
    names = "llama3.2-1b,llama3.2-3b,llama3-8b"
    small, large = (
        answer(CASE, read_request(tokens="100B", models=names, budget=budget)).best
        for budget in ("10k", "100k")
    )
    assert small.usd is not None
    assert small.usd <= 10_000
    assert large.case.model.name == "llama3-8b"
    assert large.case.model.num_layers > small.case.model.num_layers


def test_a_scaled_family_keeps_head_size_and_proportions() -> None:
    family = scaled_family(load_model("llama3-8b"), [0.5, 1.0, 2.0])
    half, one, two = family.values()
    assert (one.hidden_size, one.num_layers, one.ffn_hidden_size) == (4096, 32, 14336)
    assert (half.hidden_size, half.num_layers, half.ffn_hidden_size) == (2048, 16, 7168)
    assert (two.hidden_size, two.num_attention_heads, two.head_dim) == (8192, 64, 128)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({}, "exactly one of --tokens"),
        ({"tokens": "1T", "tokens_per_parameter": "20"}, "exactly one of --tokens"),
        ({"tokens": "1T", "models": "all"}, "needs a budget or a deadline"),
        ({"tokens": "1T", "budget": "1M"}, "name some in --skus, --models"),
        ({"tokens": "1T", "mtbf": "1d"}, "are needed together"),
        ({"tokens": "1T", "models": "all", "scales": "1", "budget": "1"}, "give one of them"),
        ({"tokens": "1T", "scales": "1,x", "budget": "1M"}, "scales = x"),
        ({"tokens": "1T", "batch_size_ramp": "1,2"}, "START,INCREMENT,SAMPLES"),
    ],
)
def test_a_request_that_contradicts_itself_is_refused(words: dict[str, str], expected: str) -> None:
    with pytest.raises(CaseError, match=expected):
        answer(CASE, read_request(**words))


FLAGS = ("run", "llama3-8b", "--gpu", "h100-sxm5-80gb", "--num-gpus", "8")


def test_the_command_prints_json_alone_or_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert command([*FLAGS, "--tokens", "1B", "--json"]) == 0
    captured = capsys.readouterr()
    parsed = json.loads(captured.out)
    assert captured.err == ""
    assert parsed["ranking"][0]["num_gpus"] == 8
    assert command([*FLAGS, "--tokens", "1B", "--skus", "all"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines) <= 100
    assert "left out" in lines


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--tokens", "many"), "tokens = 'many'"),
        (("--tokens", "1T", "--prices", "aw"), "did you mean 'aws'"),
        (("--tokens", "1T", "--deadline", "1s"), "no run does what was asked"),
        (("--tokens", "1T", "--skus", "h100"), "did you mean 'h100-sxm5-80gb'"),
        (("--tokens", "1T", "--models", "gpt5", "--budget", "1M"), "gpt5"),
        ((), "--tokens"),
    ],
)
def test_bad_requests_are_one_line(
    capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], words: str
) -> None:
    assert command([*FLAGS, *flags]) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""
    assert captured.err.count("\n") == 1


def test_the_plan_of_the_run_that_is_shown_becomes_a_case_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "best.toml"
    asked = [*FLAGS, "--tokens", "1B", "--skus", "h200-sxm5-141gb", "--json", "-o", str(path)]
    assert command(asked) == 0
    told = json.loads(capsys.readouterr().out)
    assert Case.from_file(path).to_dict() == told["case"]
    assert command(asked) == 2
    assert "--force replaces it" in capsys.readouterr().err


def test_every_word_of_a_request_is_a_flag() -> None:
    from predictor.cli import predictor  # noqa: PLC0415

    flags = {parameter.name for parameter in predictor.commands["run"].params}
    assert set(ASKED) <= flags


def test_a_searched_plan_is_no_slower_than_the_case_s_own() -> None:
    own = answer(CASE, read_request(tokens="100B")).best
    found = answer(CASE, read_request(tokens="100B", search=True)).best
    assert found.fits
    assert found.seconds <= own.seconds * 1.0001
    assert found.case.cluster.num_gpus == own.case.cluster.num_gpus
    assert found.case.training.global_batch_size == 64


@pytest.mark.slow
def test_a_searched_deadline_doubles_nodes() -> None:
    assert doubling_counts(CASE) == [8, 16, 32, 64, 128, 256, 512]
    best = answer(CASE, read_request(tokens="100B", deadline="5d", search=True)).best
    assert best.case.cluster.num_gpus == 32
    assert best.seconds <= 5 * 86400
