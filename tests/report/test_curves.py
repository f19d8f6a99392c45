"""Measured points beside their fit, on lines of one running size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from predictor.case import bench_results_folder
from predictor.costs import load_costs
from predictor.errors import PredictorError
from predictor.operators import AllReduce, Gemm, Operator
from predictor.report.curves import curve
from predictor.report.lines import common_lines, line_of, lines_of, nearest_line
from predictor.report.plot import curves_of, plot_operator

if TYPE_CHECKING:
    from pathlib import Path

SKU = "h100-sxm5-80gb"
MEASURED = (bench_results_folder() / SKU / "fit.json").is_file()
pytestmark = pytest.mark.skipif(not MEASURED, reason="no fitted tables of the H100")


def test_points_of_a_curve_lie_in_their_rounds_and_the_fit_passes_near() -> None:
    (line,) = curves_of("gemm", [SKU], {"n": "4096", "k": "4096", "kind": "dgrad"})[:1]
    points, fit = line[0].points, line[0].fit
    assert line[0].unit == "TFLOP/s"
    assert (points.low <= points.rate).all()
    assert (points.rate <= points.high).all()
    assert (fit.low < fit.rate).all()
    assert (fit.rate < fit.high).all()
    assert fit.size.min() < points.size.min()
    assert fit.size.max() > points.size.max()


def test_a_rate_is_work_over_seconds() -> None:
    costs = load_costs(SKU)
    operator = Gemm(m=8192, n=4096, k=4096, dtype="bf16", kind="forward")
    drawn = curve(costs, operator, [])
    place = int(abs(drawn.fit.size - 8192).argmin())
    asked = Gemm(m=int(drawn.fit.size[place]), n=4096, k=4096, dtype="bf16", kind="forward")
    seconds = costs.predict([asked]).seconds[0]
    assert drawn.fit.rate[place] == pytest.approx(2 * asked.m * 4096 * 4096 / seconds / 1e12)
    assert len(drawn.points.size) == 0


def test_collectives_are_bus_bandwidth() -> None:
    operator = AllReduce(bytes=2**20, ranks=8, ranks_per_node=8)
    drawn = curve(load_costs(SKU), operator, [])
    assert drawn.unit == "GB/s"
    assert drawn.fit.rate.max() < 450 * 8 / 7


def test_the_nearest_line_is_of_the_same_kind_and_format() -> None:
    costs = load_costs(SKU)
    asked = Gemm(m=8192, n=7168, k=8192, dtype="bf16", kind="wgrad")
    near = nearest_line(costs, asked)
    assert len(near) >= 2
    assert {(each.kind, each.dtype) for each in near} == {("wgrad", "bf16")}
    assert [each.m for each in near] == sorted({each.m for each in near})
    assert {line_of(each) for each in near} == {line_of(near[0])}


def test_lines_with_most_points_come_first_and_of_different_kinds() -> None:
    tables = {SKU: lines_of(load_costs(SKU), "gemm")}
    chosen = common_lines(tables, 3)
    assert {dict(line)["kind"] for line in chosen} == {"forward", "dgrad", "wgrad"}
    most = max(len(points) for points in tables[SKU].values())
    assert len(tables[SKU][chosen[0]]) == most


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ({"nn": "1"}, "no field of a line"),
        ({"n": "17"}, "was not measured; there are"),
        ({"n": "4096", "k": "768", "dtype": "tf32"}, "leave some of it out"),
    ],
)
def test_a_line_that_was_not_measured_says_what_was(where: dict[str, str], words: str) -> None:
    with pytest.raises(PredictorError, match=words):
        curves_of("gemm", [SKU], where)


def test_an_unknown_operator_names_the_nearest() -> None:
    with pytest.raises(PredictorError, match="did you mean 'gemm'"):
        curves_of("gem", [SKU])


def test_what_nobody_measured_cannot_be_plotted() -> None:
    with pytest.raises(PredictorError, match="was not measured on h800"):
        curves_of("gemm", ["h800-sxm5-80gb"])


def test_a_picture_is_written_as_the_suffix_says(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "gemm.svg"
    assert plot_operator("all_reduce", [SKU], path) > 10
    assert "<svg" in path.read_text(encoding="utf-8")


def test_a_page_of_curves_is_written(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    path = tmp_path / "gemm.html"
    assert plot_operator("gemm", [SKU, "h200-sxm5-141gb"], path) > 10
    assert "h200-sxm5-141gb, measured" in path.read_text(encoding="utf-8")


def measured(n: int, k: int, points: int = 2, **fields: str) -> list[Operator]:
    """A line of products of one width, as the tables of a GPU hold it."""
    return [Gemm(m=64 << at, n=n, k=k, **fields) for at in range(points)]


@pytest.mark.parametrize(
    ("lines", "nearest"),
    [
        ([measured(8192, 4096), measured(2048, 2048)], 0),  # a factor of two against two of them
        ([measured(1024, 4096), measured(4096, 8192)], 1),  # smaller is as far as larger
        ([measured(4096, 4096, points=1), measured(1024, 1024)], 1),  # a point is no line
        ([measured(8192, 4096), measured(4096, 8192, points=3)], 1),  # as far, with more points
        ([measured(4096, 4096, kind="wgrad"), measured(64, 64)], 1),  # another kind is not alike
        ([measured(4096, 4096, dtype="fp8")], None),
    ],
)
def test_the_nearest_line_is_the_nearest_by_ratios_of_sizes(
    monkeypatch: pytest.MonkeyPatch, lines: list[list[Operator]], nearest: int | None
) -> None:
    there = {line_of(line[0]): line for line in lines}
    monkeypatch.setattr("predictor.report.lines.lines_of", lambda *_: there)
    found = nearest_line(load_costs(SKU), Gemm(m=64, n=4096, k=4096))
    assert found == ([] if nearest is None else lines[nearest])
