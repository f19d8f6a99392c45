"""Pages in headless Chromium: every chart drawn, nothing clipped, nothing asked of the network."""

from __future__ import annotations

import html
import json
import re
import subprocess
from pathlib import Path
from urllib.parse import urlencode

import pytest

from predictor.case import Case, bench_results_folder

pytest.importorskip("plotly")
pytest.importorskip("jinja2")

MEASURED = (bench_results_folder() / "h100-sxm5-80gb" / "fit.json").is_file()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not MEASURED, reason="no fitted tables of the H100"),
]
HARNESS = Path(__file__).with_name("browser.html")
SCHEMES = {"dark": 0, "light": 1}
PAPER = {"dark": "rgb(18, 22, 27)", "light": "rgb(255, 255, 255)"}
PHONE, DESKTOP = 390, 1280


def browse(browser: str, url: str, *arguments: str) -> tuple[str, list[str]]:
    """Return the document that a page ends up as, and what its console said."""
    done = subprocess.run(
        [
            browser,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--allow-file-access-from-files",
            "--enable-logging=stderr",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--virtual-time-budget=20000",
            f"--window-size={DESKTOP},900",
            *arguments,
            url,
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from predictor import estimate  # noqa: PLC0415
    from predictor.report.page.case import write_report  # noqa: PLC0415
    from predictor.report.page.search import write_search  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("pages")
    report, found = folder / "report.html", folder / "search.html"
    cases = [case_of(tensor, pipeline) for tensor, pipeline in ((8, 4), (8, 8), (4, 8))]
    write_report(cases[0], report)
    plans = [estimate(case).to_dict() for case in cases]
    (folder / "results.json").write_text(json.dumps({"plans": plans}), encoding="utf-8")
    write_search(folder / "results.json", found)
    return {"report": report, "search": found}


def case_of(tensor: int, pipeline: int) -> Case:
    return Case.from_dict(
        {
            "model": {"preset": "llama3-70b", "name": "<script>alert(1)</script> & <b>70b</b>"},
            "training": {"global_batch_size": 64},
            "plan": {"tensor_parallel": tensor, "pipeline_parallel": pipeline},
            "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 128},
        }
    )


@pytest.mark.parametrize(
    ("name", "charts", "width", "scheme"),
    [("report", 8, PHONE, "dark"), ("report", 8, DESKTOP, "light"), ("search", 1, PHONE, "light")],
)
def test_a_page_is_drawn_whole(
    browser: str, pages: dict[str, Path], name: str, charts: int, width: int, scheme: str
) -> None:
    query = urlencode({"page": pages[name].as_uri(), "width": width})
    settings = f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}"
    document, console = browse(browser, f"{HARNESS.as_uri()}?{query}", settings, "--dump-dom")
    written = re.search(r'<pre id="found">(.*?)</pre>', document, re.DOTALL)
    assert written is not None
    assert written[1], "the page never became ready"
    found = json.loads(html.unescape(written[1]))
    assert console == []
    assert found["plots"] == found["drawn"] == charts
    assert found["clipped"] == []
    assert found["width"] <= width
    assert found["paper"] == PAPER[scheme]
    assert found["focusable"] >= 2 * found["plots"]
    assert [name for name in found["resources"] if not name.startswith("data:")] == []


def test_a_page_prints(browser: str, pages: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "report.pdf"
    _, console = browse(browser, pages["report"].as_uri(), f"--print-to-pdf={path}")
    assert console == []
    assert path.read_bytes().startswith(b"%PDF")
