"""What a page holds, without a browser: every string escaped, every chart told in numbers too."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from predictor.case import Case, bench_results_folder
from predictor.errors import PredictorError
from predictor.report import page as package
from predictor.report.page.case import case_page
from predictor.report.page.parts import Page, binary_ticks, ticks
from predictor.report.page.writing import html, write_page

pytest.importorskip("plotly")
pytest.importorskip("jinja2")
MEASURED = (bench_results_folder() / "h100-sxm5-80gb" / "fit.json").is_file()
pytestmark = pytest.mark.skipif(not MEASURED, reason="no fitted tables of the H100")

EVIL = "</script><script>alert(1)</script><b>x"
STYLE = (Path(package.__file__).parent / "page.css").read_text(encoding="utf-8")
PLANS = {
    "one": ({"preset": "gpt2"}, "hf-eager", {}, 1),
    "node": (
        {"preset": "llama3.2-1b", "name": EVIL},
        "megatron-core-te",
        {"tensor_parallel": 2},
        8,
    ),
    "stages": ({"preset": "llama3-8b"}, "megatron-core-te", {"pipeline_parallel": 4}, 32),
}


@pytest.fixture(scope="module", params=PLANS)
def page(request: pytest.FixtureRequest) -> Page:
    model, stack, plan, gpus = PLANS[request.param]
    return case_page(
        Case.from_dict(
            {
                "model": model,
                "training": {"seq_length": 1024, "global_batch_size": 32},
                "plan": {"tensor_parallel": 1} | plan,
                "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": gpus},
                "implementation": stack,
            }
        )
    )


def colours(value: object) -> set[str]:
    """Return every variable that a figure refers to."""
    return set(re.findall(r"var\((--[^)]*)\)", json.dumps(value)))


def test_a_page_has_what_people_ask(page: Page) -> None:
    names = {chart.name for section in page.sections for chart in section.charts}
    assert names >= {"waterfall", "pipeline", "memory", "roofline", "sensitivity", "curve-product"}
    assert {label for label, _, _ in page.figures} >= {"iteration", "MFU", "memory", "energy"}
    assert page.sections[-1].name == "foundations"


def test_every_chart_is_a_sentence_and_a_table_too(page: Page) -> None:
    for section in page.sections:
        for chart in section.charts:
            assert chart.summary.endswith(".")
            assert chart.table.rows
            assert all(len(row) == len(chart.table.head) for row in chart.table.rows)


def test_every_figure_is_one_that_plotly_draws(page: Page) -> None:
    from plotly.graph_objects import Figure  # noqa: PLC0415

    for section in page.sections:
        for chart in section.charts:
            plain = re.sub(r"var\(--[a-z-]+\)", "#123456", json.dumps(chart.figure))
            assert Figure(json.loads(plain)).data


def test_every_colour_is_in_the_style_sheet_light_and_dark(page: Page) -> None:
    light, dark = STYLE.split("@media screen and (prefers-color-scheme: dark)")
    for section in page.sections:
        for name in colours([chart.figure for chart in section.charts]):
            assert f"{name}:" in light
            assert f"{name}:" in dark


def test_the_waterfall_adds_up(page: Page) -> None:
    (chart,) = [c for s in page.sections for c in s.charts if c.name == "waterfall"]
    bars = chart.figure["data"][0]
    ends = [base + width for base, width in zip(bars["base"], bars["x"], strict=True)]
    assert bars["base"][1:-1] == pytest.approx(ends[:-2])
    assert ends[-2] == pytest.approx(ends[-1], rel=5e-3)


def test_text_of_a_case_is_never_markup(page: Page) -> None:
    text = html(page)
    shell = text.split('<script type="application/json"')[0]
    assert "<script" not in shell
    assert "<b>" not in shell
    figures = re.search(r'id="figures">(.*?)</script>', text, re.DOTALL)
    assert figures is not None
    assert "<" not in figures[1]
    assert json.loads(figures[1])


def test_a_page_asks_nothing_of_the_network(page: Page) -> None:
    shell = html(page).split("<script>")[0]
    assert "default-src 'none'" in shell
    assert not re.search(r"""(src|href)=["'](?!#|data:)""", shell)
    assert "url(" not in STYLE
    assert "@import" not in STYLE


def test_a_page_that_cannot_be_written_is_an_error_to_act_on(page: Page, tmp_path: Path) -> None:
    with pytest.raises(PredictorError, match="folder that exists"):
        write_page(page, tmp_path / "nowhere" / "report.html")
    assert not (tmp_path / "nowhere").exists()


def test_ticks_are_round_numbers() -> None:
    assert ticks(8, 60)["ticktext"] == ["10", "20", "50"]
    assert ticks(0.1, 2e4)["ticktext"][:3] == ["0.1", "1", "10"]
    sizes = binary_ticks(1024, 2**30, size=True)
    assert sizes["ticktext"][0] == "1 KiB"
    assert len(sizes["ticktext"]) <= 6
    assert binary_ticks(100, 600, size=False)["ticktext"] == ["128", "256", "512"]
