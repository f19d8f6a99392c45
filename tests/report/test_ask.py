"""compare, explain and what-if: numbers that add up, sentences that say what the numbers say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from predictor.case import Case, bench_results_folder
from predictor.cli import run
from predictor.errors import CaseError
from predictor.iteration import estimate
from predictor.iteration.account import account_of
from predictor.iteration.what_if import what_if
from predictor.report.comparison import Comparison
from predictor.report.comparison_text import comparison_text
from predictor.report.explanation import explanation_of, explanation_text
from predictor.report.reasons import reasons
from predictor.report.table import paragraph

pytestmark = pytest.mark.skipif(
    not (bench_results_folder() / "h100-sxm5-80gb" / "fit.json").is_file(),
    reason="no fitted tables of the H100",
)


def case(**sections: dict[str, Any]) -> Case:
    whole: dict[str, Any] = {
        "model": {"preset": "llama3-8b", "num_layers": 8},
        "training": {"seq_length": 4096, "global_batch_size": 16},
        "plan": {"tensor_parallel": 2},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 8},
    }
    for name, values in sections.items():
        whole[name] = {**whole[name], **values}
    return Case.from_dict(whole)


def compared(*cases: Case) -> Comparison:
    names = tuple("ABCDEFGH"[: len(cases)])
    return Comparison(names=names, estimates=tuple(estimate(each) for each in cases))


def test_a_comparison_names_what_differs_and_adds_up() -> None:
    told = compared(case(), case(plan={"tensor_parallel": 4}))
    assert {each.path for each in told.differences()} == {
        "plan.tensor_parallel",
        "plan.data_parallel",
    }
    for at, whole in enumerate(told.seconds):
        assert sum(values[at] for values in told.parts().values()) == pytest.approx(whole)


def test_how_ranks_work_together_differs_only_where_there_are_several() -> None:
    kinds = ({"context_parallel_kind": kind} for kind in ("ring", "all-gather"))
    ring, gather = ({"tensor_parallel": 1, **kind} for kind in kinds)
    assert not compared(case(plan=ring), case(plan=gather)).differences()
    two = (case(plan={**plan, "context_parallel": 2}) for plan in (ring, gather))
    (found,) = compared(*two).differences()
    assert (found.path, found.values) == ("plan.context_parallel_kind", ("ring", "all-gather"))


def test_the_reason_is_about_the_part_that_differs_most() -> None:
    wide = {"preset": "llama3-70b", "num_layers": 8}
    told = compared(case(model=wide), case(model=wide, plan={"tensor_parallel": 8}))
    (reason,) = reasons(told)
    assert reason.startswith("A is ")
    assert "less on communication" in reason
    assert "plan.tensor_parallel (2 against 8)" in reason


def test_the_reason_names_no_field_that_cannot_matter_to_the_part() -> None:
    told = compared(case(), case(model={"num_attention_heads": 16, "ffn_hidden_size": 7168}))
    (reason,) = reasons(told)
    assert "Differences that influence matrix products: " in reason
    told = compared(case(), case(training={"seq_length": 16384}, model={"ffn_hidden_size": 14400}))
    (reason,) = reasons(told)
    assert "less on attention" in reason
    assert reason.endswith(
        "Differences that influence attention: training.seq_length (4096 against 16384)."
    )


def test_a_faster_case_that_does_not_fit_says_so() -> None:
    large = {"preset": "llama3-70b", "num_layers": 80}
    told = compared(case(model=large), case(model=large, training={"recompute": "full"}))
    (reason,) = reasons(told)
    assert reason.endswith("But A does not fit in the GPUs' memory.")


def test_different_work_is_compared_by_the_token() -> None:
    told = compared(case(), case(training={"global_batch_size": 32}))
    assert told.unit == "GPU-seconds for a million tokens"
    for each, seconds in zip(told.estimates, told.seconds, strict=True):
        assert seconds == pytest.approx(1e6 / each.tokens_per_second_per_gpu)


def test_a_case_beside_itself_is_the_same() -> None:
    told = compared(case(), case())
    assert reasons(told) == ("A and B take the same time within 1.0 %.",)
    assert "the cases are the same" in comparison_text(told)


@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_a_comparison_fits_a_hundred_columns(count: int) -> None:
    told = compared(*(case(training={"global_batch_size": 16 * n}) for n in range(1, count + 1)))
    text = comparison_text(told)
    assert max(len(line) for line in text.splitlines()) <= 100
    assert all(name in text for name in told.names)


def test_losses_add_up_to_the_iteration() -> None:
    for asked in (
        case(),
        case(training={"recompute": "full"}),
        case(plan={"pipeline_parallel": 2}),
    ):
        account = account_of(asked)
        assert sum(account.losses.values()) == pytest.approx(account.estimate.iteration_seconds)
        assert all(seconds >= -1e-12 for seconds in account.losses.values())


def test_recomputation_is_arithmetic_beyond_the_models_own() -> None:
    plain = account_of(case()).losses["extra arithmetic"]
    full = account_of(case(training={"recompute": "full"})).losses["extra arithmetic"]
    ideal = account_of(case()).losses["ideal"]
    layers = 8 * (2 * 4096 * 5120 + 3 * 4096 * 14336)  # weights; the head is not replayed
    share = layers / (layers + 4096 * 128256)
    assert full - plain == pytest.approx(ideal / 3 * share, rel=0.05)


def test_the_terms_of_the_interval_are_those_of_the_estimate() -> None:
    account = account_of(case())
    low, high = account.estimate.interval_seconds
    squares = sum(term * term for term in account.uncertainties.values())
    assert (high - low) / 2 == pytest.approx(squares**0.5)


def test_an_explanation_has_the_bubbles_formula_with_its_numbers() -> None:
    asked = case(plan={"tensor_parallel": 1, "pipeline_parallel": 4})
    told = explanation_of(asked)
    text = explanation_text(told)
    assert "(p - 1)/m = (4 - 1)/8 = 37.5 %" in " ".join(text.split())
    assert max(len(line) for line in text.splitlines()) <= 100
    assert json.loads(json.dumps(told.to_dict()))["bubble"]["formula_share"] == 3 / 8


def test_one_gpu_has_neither_bubble_nor_communication_to_explain() -> None:
    told = explanation_of(case(plan={"tensor_parallel": 1}, cluster={"num_gpus": 1}))
    assert not {"bubble", "communication"} & set(told.to_dict())


def test_a_number_stays_with_its_unit() -> None:
    lines = paragraph("x " * 45 + "takes 12.5 % of it", 98)
    assert any("12.5 %" in line for line in lines)


@pytest.mark.parametrize("name", ["hbm_bandwidth", "tensor_peak", "num_sms", "power_cap", "nvlink"])
def test_more_hardware_is_never_slower_and_none_changes_nothing(name: str) -> None:
    same = what_if(case(), hardware=[f"{name}=x1"])
    assert same.after.iteration_seconds == pytest.approx(same.before.iteration_seconds, rel=1e-9)
    more = what_if(case(), hardware=[f"{name}=x2"])
    assert more.after.iteration_seconds <= more.before.iteration_seconds * (1 + 1e-3)


def test_each_property_moves_the_part_that_it_bounds() -> None:
    def saved(change: str, part: str) -> float:
        found = what_if(case(), hardware=[change])
        return 1.0 - found.after.breakdown[part] / found.before.breakdown[part]

    assert saved("hbm_bandwidth=x2", "memory_bound") > 0.3
    assert saved("tensor_peak=x2", "gemm") > 0.3
    assert saved("nvlink=x2", "communication") > 0.15
    assert abs(saved("nvlink=x2", "gemm")) < 0.04  # less waiting heats the GPU


def test_changed_hardware_is_extrapolated_with_a_wider_interval() -> None:
    found = what_if(case(), hardware=["tensor_peak=x2"])
    assert found.after.origin["extrapolated"] > 0.6 > found.before.origin["extrapolated"]

    def width(answer: Any) -> float:
        low, high = answer.interval_seconds
        return float((high - low) / answer.iteration_seconds)

    assert width(found.after) > 1.1 * width(found.before)


def test_changes_are_texts_or_values_by_name() -> None:
    fields = {
        "plan.tensor_parallel": 4,
        "plan.sequence_parallel": True,
        "training.recompute": "full",
        "cluster.gpus_per_node": None,
    }
    texts = ["plan.tensor_parallel=4", "plan.sequence_parallel=true", "training.recompute=full"]
    named = what_if(case(), fields=fields, hardware={"hbm_bandwidth": "x2"})
    told = what_if(
        case(), fields=[*texts, "cluster.gpus_per_node=none"], hardware="hbm_bandwidth=x2"
    )
    assert named.after.to_dict() == told.after.to_dict()
    assert named.after.case.plan.sequence_parallel is True


def test_less_memory_does_not_fit_and_takes_the_same_time() -> None:
    found = what_if(case(), hardware=["memory_bytes=8GiB"])
    assert found.before.fits
    assert not found.after.fits
    assert found.after.iteration_seconds == found.before.iteration_seconds


def test_the_network_changes_what_crosses_nodes() -> None:
    wide = case(cluster={"num_gpus": 32}, training={"global_batch_size": 32})
    found = what_if(wide, hardware=["network=x0.25"])
    assert found.after.iteration_seconds > 1.02 * found.before.iteration_seconds


def test_fields_may_be_set_and_taken_away() -> None:
    found = what_if(case(), fields=["plan.tensor_parallel=4", "training.global_batch_size=none"])
    assert found.after.case.plan.tensor_parallel == 4
    assert found.after.case.training.global_batch_size == 16  # 2 replicas, 8 micro-batches each


@pytest.mark.parametrize(
    ("fields", "hardware", "words"),
    [
        (["plan.tensor_parallel"], [], "section.field=value"),
        (["plan.tensor_paralel=4"], [], "did you mean 'tensor_parallel'"),
        (["cluster.gpu=h10"], [], "unknown name"),
        (["model.num_layers.x=4"], [], "is not a table"),
        ([], ["hbm=x2"], "unknown property"),
        ([], ["hbm_bandwidth"], "must be a factor"),
        ([], ["hbm_bandwidth=x0"], "must be a factor"),
        ([], ["hbm_bandwidth=-100%"], "must be a factor"),
        ([], ["hbm_bandwidth=fast"], "must be a factor"),
        ([], ["hbm_bandwidth=x1000"], "must be between"),
        ([], ["memory_bytes=1"], "must be between"),
        ([], ["network=x2"], "inside one node"),
    ],
)
def test_a_change_that_cannot_be_is_one_error(
    fields: list[str], hardware: list[str], words: str
) -> None:
    with pytest.raises(CaseError) as raised:
        what_if(case(), fields=fields, hardware=hardware)
    assert words in str(raised.value)


MEGATRON = "--num-layers 2 --hidden-size 256 --num-attention-heads 4 --seq-length 128 --bf16"
EXAMPLE = "examples/llama3_8b_one_node.toml"
MODEL = ["--gpu", "h100-sxm5-80gb", "--num-gpus", "8"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["compare", "llama3-8b", "qwen3-8b", *MODEL],
        ["compare", "llama3-8b", *MODEL, "--gpu", "h100-sxm5-80gb, h200-sxm5-141gb"],
        [
            "compare",
            "--from",
            MEGATRON,
            *MODEL,
            "--gpu",
            "h100-sxm5-80gb,h200-sxm5-141gb",
        ],
        ["explain", "llama3-8b", *MODEL],
        ["what-if", "llama3-8b", *MODEL, "--hardware", "hbm_bandwidth=+20%"],
    ],
)
def test_the_commands_print_text_or_json(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 0
    text = capsys.readouterr().out
    assert max(len(line) for line in text.splitlines()) <= 100
    assert run([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare", "llama3-8b", *MODEL], "two cases or more"),
        (["compare", *MODEL], "two cases or more"),
        (["what-if", "llama3-8b", *MODEL], "needs --set"),
    ],
)
def test_a_question_without_an_object_is_bad_input(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    assert words in capsys.readouterr().err
