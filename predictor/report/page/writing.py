"""A page as one HTML file: template, style and script of this folder, and plotly.js."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from predictor.errors import PredictorError
from predictor.files import write_result

if TYPE_CHECKING:
    from pathlib import Path

    from predictor.report.page.parts import Page


def write_page(page: Page, path: Path) -> None:
    """Write a page, whole or not at all.

    Raises:
        PredictorError: Plotly or jinja2 is not installed, or the file cannot be written.
    """
    write_result(path, html(page), PredictorError)


def html(page: Page) -> str:
    """Return a page as HTML that asks nothing of the network.

    Raises:
        PredictorError: Plotly or jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - optional
        from plotly.offline import get_plotlyjs  # noqa: PLC0415 - optional
    except ImportError as error:
        raise PredictorError(
            "a page needs plotly and jinja2: pip install 'llm-iteration-predictor[report]'"
        ) from error
    environment = Environment(
        loader=PackageLoader("predictor.report.page", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["tight"] = _tight
    folder = files("predictor.report.page")
    figures = {chart.name: chart.figure for section in page.sections for chart in section.charts}
    text: str = environment.get_template("page.html").render(
        page=page,
        style=_raw(folder.joinpath("page.css").read_text(encoding="utf-8")),
        script=_raw(folder.joinpath("page.js").read_text(encoding="utf-8")),
        plotly=_raw(get_plotlyjs()),
        figures=_raw(_json(figures)),
    )
    return text


def _tight(text: str) -> str:
    """Keep a number and its unit on one line."""
    return re.sub(r"(?<=\d) (?=\S)", "\u00a0", text)


def _raw(text: str) -> Any:  # noqa: ANN401
    """Text that is ours and must not be escaped."""
    from markupsafe import Markup  # noqa: PLC0415 - comes with jinja2

    return Markup(text)  # noqa: S704 - our files, plotly.js, JSON without "<"  # nosec B704


def _json(value: object) -> str:
    """JSON that cannot end the element that it stands in."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
