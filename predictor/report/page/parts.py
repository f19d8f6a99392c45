"""What a page is made of: sections of charts and tables, as values."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from html import escape
from typing import Any, Final

KIB: Final = 1024
FEW_DECADES: Final = 3
MOST_TICKS: Final = 6

Figure = dict[str, Any]
"""``data`` and ``layout`` of plotly; a colour is ``var(--name)`` of the style sheet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under a head.

    Attributes:
        head: Names of the columns.
        rows: Cells as text.
        numeric: Columns that are set flush right.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A figure with what it says in words and in numbers.

    Attributes:
        name: Unique on its page; letters and dashes.
        title: What is shown.
        summary: What one sees in it, a sentence or two.
        figure: For plotly.
        table: The same numbers.
        height: Pixels.
    """

    name: str
    title: str
    summary: str
    figure: Figure
    table: Table
    height: int = 320

    @property
    def legend(self) -> tuple[tuple[str, str, str], ...]:
        """Name, colour and mark of each trace that has a name: ``bar``, ``line`` or ``dot``."""
        return tuple(
            (trace["name"], *_mark(trace)) for trace in self.figure["data"] if "name" in trace
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a page.

    Attributes:
        name: Unique on its page; letters and dashes.
        title: Heading.
        lead: A paragraph before the rest.
        charts: Figures in order.
        table: One more table.
        notes: Lines at the end, each with a word before it.
    """

    name: str
    title: str
    lead: str = ""
    charts: tuple[Chart, ...] = ()
    table: Table | None = None
    notes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page.

    Attributes:
        title: Heading, and the title of the window.
        lines: What stands under it.
        figures: Key numbers: label, value, and what qualifies it.
        sections: In order.
    """

    title: str
    lines: tuple[str, ...] = ()
    figures: tuple[tuple[str, str, str], ...] = ()
    sections: tuple[Section, ...] = field(default=())


def _mark(trace: Figure) -> tuple[str, str]:
    if trace["type"] == "bar":
        return trace["marker"]["color"], "bar"
    if trace["mode"] == "lines":
        return trace["line"]["color"], "line"
    return trace["marker"]["color"], "dot"


def words(text: object) -> str:
    """Text as plotly shall print it; plotly reads tags in labels."""
    return escape(str(text), quote=False)


def colour(name: str) -> str:
    """A colour of the style sheet."""
    return f"var(--{name})"


def axis(title: str = "", **more: Any) -> dict[str, Any]:  # noqa: ANN401
    """An axis with the common look."""
    return {
        "title": {"text": words(title), "standoff": 8},
        "gridcolor": colour("grid"),
        "linecolor": colour("line"),
        "zeroline": False,
        "automargin": True,
        **more,
    }


def ticks(least: float, most: float) -> dict[str, Any]:
    """Ticks of a logarithmic axis at 1, 2 and 5 of every decade, or at every decade if too many."""
    decades = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    steps = (1, 2, 5) if len(decades) <= FEW_DECADES else (1,)
    values = [step * 10.0**decade for decade in decades for step in steps]
    shown = [value for value in values if least <= value <= most]
    return {
        "tickvals": shown,
        "ticktext": [f"{value:,.0f}" if value >= 1 else f"{value:g}" for value in shown],
    }


def binary_ticks(least: float, most: float, *, size: bool) -> dict[str, Any]:
    """Ticks of a logarithmic axis at powers of two; of bytes (``size``) in their units."""
    first, last = math.ceil(math.log2(least)), math.floor(math.log2(most))
    step = max(1, math.ceil((last - first + 1) / MOST_TICKS))
    shown = [2.0**power for power in range(first, last + 1, step)]
    text = [_binary(value) if size else f"{value:,.0f}" for value in shown]
    return {"tickvals": shown, "ticktext": text}


def _binary(size: float) -> str:
    power, units = 0, ("B", "KiB", "MiB", "GiB", "TiB")
    while size >= KIB and power < len(units) - 1:
        size, power = size / KIB, power + 1
    return f"{size:.0f} {units[power]}"


def layout(**more: Any) -> dict[str, Any]:  # noqa: ANN401
    """A layout with the common look."""
    return {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": colour("ink"), "size": 13},
        "hoverlabel": {
            "bgcolor": colour("paper"),
            "bordercolor": colour("line"),
            "font": {"color": colour("ink")},
        },
        "margin": {"l": 8, "r": 16, "t": 8, "b": 8},
        "showlegend": False,
        **more,
    }
