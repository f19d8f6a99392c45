"""A validation report: worst first, refusals counted by reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from predictor.report.accuracy import accuracy_markdown, write_accuracy
from predictor.report.validation import reasons, validation_text
from predictor.validate import Checked, ValidationReport

if TYPE_CHECKING:
    from pathlib import Path


def predicted(identity: str, measured: float, seconds: float) -> Checked:
    return Checked(
        identity=identity,
        source="lab",
        measured_seconds=measured,
        predicted_seconds=seconds,
        low=0.9 * seconds,
        high=1.1 * seconds,
        measured_bytes=8e9,
        predicted_bytes=9e9,
    )


def refused(identity: str, why: str) -> Checked:
    return Checked(
        identity=identity, source="paper", measured_seconds=1.0, refused=f"{identity}: {why}"
    )


@pytest.fixture
def report() -> ValidationReport:
    return ValidationReport(
        records=(
            predicted("near", 1.0, 1.01),
            predicted("far", 2.0, 1.5),
            refused("a", "experts are not supported"),
            refused("b", "experts are not supported"),
            refused("c", "model.num_attention_heads is needed | null"),
        )
    )


def test_the_worst_record_comes_first(report: ValidationReport) -> None:
    lines = validation_text(report).splitlines()
    names = [line.split()[0] for line in lines if line.startswith(("near", "far"))]
    assert names == ["far", "near"]
    assert any("-25.0 %" in line for line in lines)


def test_refusals_are_counted_by_reason_without_their_id(report: ValidationReport) -> None:
    counted = reasons(report.to_dict()["records"])
    assert counted[0] == ("experts are not supported", 2)
    assert "2  experts are not supported" in validation_text(report)


def test_a_report_of_nothing_but_refusals_has_no_figures() -> None:
    text = validation_text(ValidationReport(records=(refused("a", "no"),)))
    assert "worst first" not in text
    assert "1  no" in text


def test_the_page_lists_every_record_and_survives_a_bar(report: ValidationReport) -> None:
    page = accuracy_markdown([("runs.jsonl", report)])
    assert "## runs.jsonl" in page
    assert page.index("| far |") < page.index("| near |")
    assert "+12.5 %" in page
    assert "needed \\| null" in page
    assert "| lab | 2 | 0 |" in page
    assert "| paper | 0 | 3 |" in page


def test_the_page_is_written_whole(tmp_path: Path, report: ValidationReport) -> None:
    path = tmp_path / "accuracy.md"
    write_accuracy(path, [("runs.jsonl", report)])
    assert path.read_text(encoding="utf-8") == accuracy_markdown([("runs.jsonl", report)])
    assert list(tmp_path.iterdir()) == [path]


def test_twenty_records_are_shown_and_the_better_ones_counted() -> None:
    records = tuple(predicted(f"r{n}", 1.0, 1.0 + 0.01 * n) for n in range(23))
    lines = validation_text(ValidationReport(records=records)).splitlines()
    assert len([line for line in lines if line.startswith("r")]) == 20
    assert "... and 3 better ones" in lines
    few = validation_text(ValidationReport(records=records[:20]))
    assert "better ones" not in few
    assert "refused\n" not in few


def test_figures_of_a_record_end_flush_right(report: ValidationReport) -> None:
    lines = validation_text(report).splitlines()
    head = next(line for line in lines if line.startswith("worst first"))
    far = next(line for line in lines if line.startswith("far"))
    for name, cell in (("measured", "2.000 s"), ("predicted", "1.500 s"), ("error", "-25.0 %")):
        assert head.index(name) + len(name) == far.index(cell) + len(cell)


def test_a_summary_has_a_line_for_each_of_several_sources(report: ValidationReport) -> None:
    lines = validation_text(report).splitlines()
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["all", "2", "3"],
        ["lab", "2", "0"],
        ["paper", "0", "3"],
    ]
    alone = ValidationReport(records=report.records[:2])
    assert "lab" not in [line.split()[0] for line in validation_text(alone).splitlines() if line]
