"""A comparison in words: every figure, difference, part and reason, from estimates made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from predictor.case import Case, resolve
from predictor.iteration import Estimate
from predictor.report.comparison import Comparison
from predictor.report.comparison_text import comparison_text
from predictor.report.reasons import reasons, value_text
from predictor.units import GIB

PARTS = {"gemm": 1.5, "communication": 0.4, "memory_bound": 0.1, "bubble": 0.0}


def made(parts: dict[str, float] = PARTS, **sections: dict[str, Any]) -> Estimate:
    """An estimate whose seconds are the sum of its parts."""
    whole: dict[str, Any] = {
        "model": {"preset": "llama3-8b"},
        "training": {"seq_length": 1000, "global_batch_size": 16},
        "plan": {"tensor_parallel": 2},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 8},
    }
    for name, values in sections.items():
        whole[name] = {**whole[name], **values}
    seconds = sum(parts.values())
    return Estimate(
        case=resolve(Case.from_dict(whole)).case,
        iteration_seconds=seconds,
        interval_seconds=(0.9 * seconds, 1.2 * seconds),
        tokens_per_second_per_gpu=1234.4,
        model_flops_per_second_per_gpu=480e12,
        mfu=0.485,
        memory_bytes_per_gpu=50 * GIB,
        memory_reserved_bytes_per_gpu=55 * GIB,
        memory_parts={"parameters": 50 * GIB},
        fits=True,
        usd_per_iteration=0.5,
        joules_per_iteration=9_000.0,
        breakdown=parts,
        exposed_communication_seconds=0.4,
        bubble_seconds=0.0,
        origin={"measured": 1.0},
        defaults_taken=(),
        notes=(),
        top_operators=(),
    )


def compared(*estimates: Estimate, names: tuple[str, ...] = ()) -> Comparison:
    return Comparison(names=names or tuple("ABCDEFG"[: len(estimates)]), estimates=estimates)


def rows(text: str) -> dict[str, list[str]]:
    """Cells behind the first of each line of a block, which two spaces part."""
    parted = [line.strip().split("  ") for line in text.splitlines() if line.strip()]
    return {cells[0]: [cell.strip() for cell in cells[1:] if cell.strip()] for cells in parted}


def test_figures_of_two_cases_stand_side_by_side() -> None:
    dear = replace(made({"gemm": 2.5}), fits=False, usd_per_iteration=None)
    figures = rows(comparison_text(compared(made(), dear)))
    assert figures["iteration"] == ["2.000 s", "2.500 s"]
    assert figures["90 % from"] == ["1.800 s", "2.250 s"]
    assert figures["90 % to"] == ["2.400 s", "3.000 s"]
    assert figures["tokens/s a GPU"] == ["1,234", "1,234"]
    assert figures["MFU"] == ["48.5 %", "48.5 %"]
    assert figures["memory reserved"] == ["55.0 GiB", "55.0 GiB"]
    assert figures["fits"] == ["yes", "NO"]
    assert figures["price"] == ["0.500 USD", "-"]


def test_columns_end_flush_right() -> None:
    lines = comparison_text(compared(made(), made({"gemm": 12.5}))).splitlines()
    heads, iteration, fits = lines[0], lines[1], lines[7]
    assert len(heads) == len(iteration) == len(fits)
    assert (heads[-1], iteration[-1], fits[-3:]) == ("B", "s", "yes")


def test_parts_are_ranked_with_the_change_as_a_share_of_the_first() -> None:
    slow = {**PARTS, "communication": 2.4, "memory_bound": 0.09}
    text = comparison_text(compared(made(), made(slow)))
    block = text[text.index("time by part, seconds of an iteration; last column: change") :]
    lines = block.split("\n\n")[0].splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["communication", "gemm", "memory", "all"]
    assert rows(block)["communication"] == ["0.400 s", "2.400 s", "+100.0 %"]
    assert rows(block)["memory bound"] == ["0.100 s", "0.090 s", "-0.5 %"]
    assert rows(block)["all"] == ["2.000 s", "3.990 s", "+99.5 %"]


def test_a_part_of_half_a_percent_has_a_line_and_a_smaller_one_has_none() -> None:
    parts = {"gemm": 1.0 - 0.005 - 0.004, "host": 0.005, "optimizer": 0.004}
    shown = rows(comparison_text(compared(made(parts), made(parts))))
    assert "host" in shown
    assert "optimizer" not in shown


def test_three_cases_have_no_column_of_changes() -> None:
    text = comparison_text(compared(made(), made(), made()))
    assert "last column" not in text
    assert rows(text)["gemm"] == ["1.500 s"] * 3


def test_five_cases_are_shown_four_at_a_time() -> None:
    text = comparison_text(compared(*(made({"gemm": 1.0 + at}) for at in range(5))))
    first, second = (block for block in text.split("\n\n") if "iteration  " in block)
    assert rows(first)["iteration"] == ["1.000 s", "2.000 s", "3.000 s", "4.000 s"]
    assert rows(second)["iteration"] == ["5.000 s"]


def test_names_too_long_for_a_column_are_numbered_in_a_legend() -> None:
    names = ("sixteen-letters!", "seventeen-letters")
    text = comparison_text(compared(made(), made(), names=names))
    assert text.startswith("case 1: sixteen-letters!\ncase 2: seventeen-letters\n\n")
    short = comparison_text(compared(made(), made(), names=("sixteen-letters!", "b")))
    assert short.splitlines()[0].split() == ["sixteen-letters!", "b"]


def test_what_differs_has_a_line_a_field_until_there_are_too_many() -> None:
    other = made(plan={"tensor_parallel": 4}, training={"recompute": "full"})
    text = comparison_text(compared(made(), other))
    assert rows(text)["plan.tensor_parallel"] == ["2", "4"]
    assert rows(text)["training.recompute"] == ["none", "full"]
    assert "more; --json lists all" not in text
    moe = {"num_experts": 8, "top_k": 2, "expert_ffn_hidden_size": 14336}
    own = {"preset": "deepseek-v3", "num_layers": 8, "moe": {**moe, "first_dense_layers": 0}}
    many = compared(made(), made(model=own, plan={"expert_parallel": 4}))
    left = len(many.differences()) - 24
    assert left > 0
    assert f"\n  ... and {left} more; --json lists all\n" in comparison_text(many)


def test_the_reason_lists_gains_above_half_a_percent_and_what_they_cost() -> None:
    slow = {"gemm": 1.0, "communication": 1.9, "attention": 0.6, "memory_bound": 0.111}
    fast = {"gemm": 1.4, "communication": 0.5, "attention": 0.5, "memory_bound": 0.110}
    (reason,) = reasons(compared(made(slow), made(fast, plan={"tensor_parallel": 4})))
    assert reason == (
        "B is 1.44 times as fast as A (2.510 s against 3.611 s): it spends 1.400 s less on "
        "communication and 100.0 ms less on attention, though 400.0 ms more on matrix products. "
        "Differences that influence communication: plan.tensor_parallel (4 against 2), "
        "plan.data_parallel (2 against 4)."
    )


def test_more_than_three_fields_are_counted() -> None:
    slow = {**PARTS, "communication": 1.4}
    plan = {"tensor_parallel": 4, "sequence_parallel": False}
    other = made(slow, plan=plan, training={"micro_batch_size": 2, "seq_length": 1000})
    (reason,) = reasons(compared(made(), other))
    assert "plan.sequence_parallel (yes against no) and 1 more." in reason


@pytest.mark.parametrize(("slower", "same"), [(2.0198, True), (2.021, False)])
def test_less_than_one_percent_is_the_same_time(slower: float, same: bool) -> None:  # noqa: FBT001
    (reason,) = reasons(compared(made({"gemm": 2.0}), made({"gemm": slower})))
    assert ("take the same time within 1.0 %" in reason) is same


def test_a_case_of_other_work_is_compared_by_the_token() -> None:
    twice = made({"gemm": 3.0}, training={"global_batch_size": 32})
    both = compared(made({"gemm": 2.0}), twice)
    assert both.seconds == pytest.approx((8 * 2.0 / 0.016, 8 * 3.0 / 0.032))
    (reason,) = reasons(both)
    assert reason.startswith("B is 1.33 times as fast as A (12.5 min against 16.7 min, in GPU time")


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (True, "yes"), (False, "no"), (1.4e-05, "1.4e-05"), (3, "3")]
)
def test_a_value_in_words(value: object, text: str) -> None:
    assert value_text(value) == text
