"""A whole run in words: its plan, its figures with their intervals, its ramp, its choice."""

from __future__ import annotations

import pytest

from predictor.case import Case, bench_results_folder
from predictor.report.training_run import choice_text, training_run_text
from predictor.search.choices import Choice
from predictor.search.failures import Failures
from predictor.search.ramp import Ramp
from predictor.search.training_run import training_run

pytestmark = pytest.mark.skipif(
    not (bench_results_folder() / "h100-sxm5-80gb" / "fit.json").is_file(),
    reason="no fitted tables of the H100",
)

CASE = Case.from_dict(
    {
        "model": {"preset": "llama3-8b"},
        "training": {"seq_length": 8192, "global_batch_size": 128},
        "plan": {"tensor_parallel": 2, "pipeline_parallel": 4, "virtual_pipeline": 2},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 16},
    }
)
TOKENS = 1000 * 128 * 8192


def value_of(text: str, name: str) -> str:
    """Return what stands behind a name at the beginning of a line."""
    (line,) = (line for line in text.splitlines() if line.split("  ")[0] == name)
    return line.removeprefix(name).strip()


def test_the_plan_and_the_figures_of_a_run_are_told() -> None:
    run = training_run(CASE, tokens=TOKENS)
    text = training_run_text(run)
    assert text.startswith("llama3-8b on 16 x h100-sxm5-80gb, megatron-core-te: 1.049 B tokens\n")
    assert (
        "tensor 2, pipeline 4 (interleaved, 2 chunks a stage), data 2; sharding optimizer" in text
    )
    assert value_of(text, "iterations").startswith("1,000; ")
    assert value_of(text, "GPU-hours").startswith(f"{run.gpu_hours:,.0f}, ")
    assert value_of(text, "time").startswith(f"{run.seconds / 3600:.1f} h, 90 % in ")
    assert value_of(text, "memory").endswith("reserved of 80.0 GiB: fits")
    assert "at 6.88 USD/GPU-hour (AWS p5.48xlarge" in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_peak_of_other_numbers_than_the_products_is_named() -> None:
    narrow = training_run(CASE.replace(training={"precision": "fp8"}), tokens=TOKENS)
    assert value_of(training_run_text(narrow), "throughput").endswith(" % of the bf16 peak")
    wide = training_run(CASE, tokens=TOKENS)
    assert value_of(training_run_text(wide), "throughput").endswith(" %")


def test_each_step_of_a_long_ramp_has_a_line_until_there_are_too_many() -> None:
    ramp = Ramp(start=8, increment=8, samples=10_000)
    lines = training_run_text(training_run(CASE, tokens=TOKENS, ramp=ramp)).splitlines()
    first = lines.index("batch size ramp: iterations") + 1
    shown = lines[first : lines.index("", first)]
    assert len(shown) == 13  # of 16 batch sizes six from each end, and a line for the four between
    assert "of 8 sequences" in shown[0]
    assert shown[6].strip() == "(4 more)"
    assert "of 128 sequences" in shown[-1]


def test_failures_and_a_lack_of_memory_are_not_kept_quiet() -> None:
    failing = Failures(mtbf_seconds=86_400.0, checkpoint_seconds=60.0, restart_seconds=600.0)
    text = training_run_text(training_run(CASE, tokens=TOKENS, failures=failing))
    assert " of the time is lost; a checkpoint every " in value_of(text, "failures")
    large = CASE.replace(training={"micro_batch_size": 16})
    text = training_run_text(training_run(large, tokens=TOKENS))
    assert value_of(text, "memory").endswith("DOES NOT FIT")
    assert text.endswith("--search takes the fastest plan that does")


def test_a_choice_ranks_what_is_possible_and_names_what_is_not() -> None:
    single = training_run(CASE, tokens=TOKENS)
    choice = Choice(runs={"a": single, "b": single}, rejected={"c": "too little memory"})
    text = choice_text(choice)
    assert text.startswith(training_run_text(single))
    assert "\n\nranking\n  a  16 GPUs  " in text
    assert text.endswith("left out\n  c  too little memory")
