"""Charts of measured curves: points, the fit between them, and its interval."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from predictor.report.page.parts import (
    Chart,
    Figure,
    Page,
    Section,
    Table,
    axis,
    binary_ticks,
    colour,
    layout,
)
from predictor.report.page.writing import write_page

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from predictor.report.curves import Curve

COLOURS: Final = ("gemm", "communication", "optimizer", "attention", "memory-bound", "host")
HEIGHT: Final = 340


def curve_chart(name: str, line: Sequence[Curve], *, asked: float | None = None) -> Chart:
    """One line of an operator, on one GPU or several.

    Args:
        name: Of the chart, unique on its page.
        line: A curve of each GPU.
        asked: Size that the case asks for, marked by a line.
    """
    data: list[Figure] = []
    for each, shade in zip(line, COLOURS, strict=False):
        data += _traces(each, shade)
    least = min(float(each.fit.size[0]) for each in line)
    most = max(float(each.fit.size[-1]) for each in line)
    marks = [] if asked is None else [_mark(asked)]
    figure: Figure = {
        "data": data,
        "layout": layout(
            shapes=marks,
            xaxis=axis(
                line[0].axis.replace("_", " "),
                type="log",
                range=[math.log10(least), math.log10(most)],
                **binary_ticks(least, most, size=line[0].axis == "bytes"),
            ),
            yaxis=axis(line[0].unit, rangemode="tozero"),
        ),
    }
    points = sum(len(each.points.size) for each in line)
    told = f"{points} measured points" if points else "No point was measured on this line: a fit"
    summary = f"{told}; the band holds 90 %."
    if len(line) > 1 and line[1].title != line[0].title:
        summary += f" Measured nearest to it: {line[1].title}."
    if asked is not None:
        summary += f" The dotted line is the case: {line[0].axis.replace('_', ' ')} {asked:,.0f}."
    return Chart(
        name=name,
        title=line[0].title,
        summary=summary,
        figure=figure,
        table=_table(line),
        height=HEIGHT,
    )


def _traces(each: Curve, shade: str) -> list[Figure]:
    fit, points = each.fit, each.points
    band = {
        "type": "scatter",
        "mode": "lines",
        "x": [*fit.size.tolist(), *fit.size[::-1].tolist()],
        "y": [*fit.high.tolist(), *fit.low[::-1].tolist()],
        "fill": "toself",
        "fillcolor": colour(shade),
        "opacity": 0.18,
        "line": {"width": 0},
        "hoverinfo": "skip",
    }
    line = {
        "type": "scatter",
        "mode": "lines",
        "name": f"{each.label}, fitted",
        "x": fit.size.tolist(),
        "y": fit.rate.tolist(),
        "line": {"color": colour(shade), "width": 2},
        "hovertemplate": f"%{{y:.0f}} {each.unit} at %{{x:,}}<extra>fitted</extra>",
    }
    dots = {
        "type": "scatter",
        "mode": "markers",
        "name": f"{each.label}, measured",
        "x": points.size.tolist(),
        "y": points.rate.tolist(),
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": (points.high - points.rate).tolist(),
            "arrayminus": (points.rate - points.low).tolist(),
            "color": colour(shade),
            "thickness": 1,
            "width": 3,
        },
        "marker": {
            "color": colour(shade),
            "size": 8,
            "line": {"color": colour("paper"), "width": 1},
        },
        "hovertemplate": f"%{{y:.0f}} {each.unit} at %{{x:,}}<extra>measured</extra>",
    }
    return [band, line, *([dots] if len(points.size) else [])]


def _mark(size: float) -> Figure:
    return {
        "type": "line",
        "x0": size,
        "x1": size,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": {"color": colour("muted"), "width": 1.5, "dash": "dot"},
    }


def _table(line: Sequence[Curve]) -> Table:
    """Measured points, or where there are none every eighth of the fit."""
    rows = []
    for each in line:
        span, origin = (each.points, "measured") if len(each.points.size) else (each.fit, "fitted")
        step = 1 if origin == "measured" else 8
        for size, rate, low, high in zip(
            span.size[::step], span.rate[::step], span.low[::step], span.high[::step], strict=True
        ):
            rows.append(
                (each.label, f"{size:,.0f}", f"{rate:,.1f}", f"{low:,.1f}", f"{high:,.1f}", origin)
            )
    head = ("line", line[0].axis, line[0].unit, "slow end", "fast end", "origin")
    return Table(head=head, rows=tuple(rows), numeric=frozenset({1, 2, 3, 4}))


def write_curves(operator: str, lines: Sequence[Sequence[Curve]], path: Path) -> None:
    """Write a page of an operator's curves.

    Raises:
        PredictorError: Plotly or jinja2 is not installed, or the file cannot be written.
    """
    charts = tuple(curve_chart(f"line-{place}", line) for place, line in enumerate(lines))
    gpus = ", ".join(each.label for each in lines[0])
    page = Page(
        title=f"{operator} on {gpus}",
        lines=("Measured points, fitted curves and their 90 % intervals, as achieved rates.",),
        sections=(Section(name="curves", title="Curves", charts=charts),),
    )
    write_page(page, path)
