"""The page of a search's result: a front, a table of what differs, errors for other files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from predictor.cli import run
from predictor.report.page.search import search_page
from predictor.report.page.search_charts import front

if TYPE_CHECKING:
    from pathlib import Path


def plan(seconds: float, gib: float, **fields: Any) -> dict[str, Any]:
    return {
        "iteration_seconds": seconds,
        "interval_seconds": [0.9 * seconds, 1.1 * seconds],
        "mfu": 0.4,
        "memory_reserved_bytes_per_gpu": gib * 2**30,
        "usd_per_iteration": seconds * fields.get("num_gpus", 8),
        "case": {
            "model": {"name": "<b>toy</b>"},
            "plan": {"tensor_parallel": fields.get("tensor_parallel", 1), "overlap_p2p": True},
            "cluster": {"gpu": "toy-gpu", "num_gpus": fields.get("num_gpus", 8)},
        },
    }


FOUND = {
    "plans": [plan(1, 60, tensor_parallel=2), plan(2, 20), plan(3, 40, tensor_parallel=4)],
    "plans_evaluated": 1_234,
    "search_seconds": 0.5,
    "rejected": {"few": 1, "<i>many</i>": 9},
    "near_misses": [
        {
            "plan": {"tensor_parallel": 8},
            "missing_bytes": 2**30,
            "remedies": ["recompute = full"],
        }
    ],
}


def test_a_front_holds_what_nothing_beats_in_both() -> None:
    assert front([(60, 1), (20, 2), (40, 3), (10, 5), (10, 4)]) == [4, 1, 0]
    assert front([(1, 1), (1, 1)]) == [0]


def test_plans_are_told_by_what_they_differ_in() -> None:
    page = search_page(FOUND)
    pareto, plans, left_out = page.sections
    assert [chart.name for chart in pareto.charts] == ["pareto-memory"]
    assert [row[0] for row in pareto.charts[0].table.rows] == [
        "tensor parallel 1",
        "tensor parallel 2",
    ]
    assert plans.table is not None
    assert plans.table.head[-1] == "tensor parallel"
    assert left_out.notes == (
        ("9 left out", "<i>many</i>"),
        ("1 left out", "few"),
        ("nearly fits", "tensor parallel 8: lacks 1.0 GiB a GPU; recompute = full would do"),
    )
    assert "&lt;" not in page.title


def test_machines_of_different_price_have_a_chart_of_it() -> None:
    mixed = {"plans": [plan(1, 60, num_gpus=16), plan(2, 20)]}
    assert [chart.name for chart in search_page(mixed).sections[0].charts] == [
        "pareto-memory",
        "pareto-price",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("not json", "not JSON"),
        ("[]", 'an object with "plans"'),
        ('{"plans": []}', "holds no plan"),
        ('{"plans": [{"mfu": 1}]}', "plan 0 lacks iteration_seconds"),
        (json.dumps({"plans": [plan(1, 2) | {"case": {}}]}), "KeyError"),
        (json.dumps({"plans": [plan(1, 2) | {"interval_seconds": 3}]}), "not what"),
    ],
)
def test_another_file_is_an_error_to_act_on(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "results.json"
    path.write_text(text, encoding="utf-8")
    page = tmp_path / "page.html"
    assert run(["report", "--search", str(path), "-o", str(page)]) == 2
    assert words in capsys.readouterr().err
    assert not page.exists()


def test_a_result_becomes_a_page(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    pytest.importorskip("jinja2")
    path = tmp_path / "results.json"
    path.write_text(json.dumps(FOUND), encoding="utf-8")
    page = tmp_path / "page.html"
    assert run(["report", "--search", str(path), "-o", str(page)]) == 0
    shell = page.read_text(encoding="utf-8").split('<script type="application/json"')[0]
    assert "&lt;b&gt;toy" in shell
    assert "<b>" not in shell
    assert "<i>" not in shell


def test_a_case_beside_a_result_is_refused(tmp_path: Path) -> None:
    arguments = ["report", "llama3-8b", "--search", "x.json", "-o", str(tmp_path / "x.html")]
    assert run(arguments) == 2
