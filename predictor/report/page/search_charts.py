"""The chart of a search's result: every plan as a dot, and the line that no other plan beats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from predictor.report.page.parts import Chart, Figure, Table, axis, colour, layout
from predictor.report.page.parts import words as escaped
from predictor.report.page.search_plans import Plan, plan_text
from predictor.report.quantities import percent_text, seconds_text, seconds_texts

if TYPE_CHECKING:
    from collections.abc import Sequence

NEARLY: Final = 1e-9
"""Seconds by which a plan must be faster than those that need less, to be on the line."""


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the points that no other beats in both coordinates, from left to right."""
    best = float("inf")
    found = []
    for place in sorted(range(len(points)), key=lambda place: points[place]):
        if points[place][1] < best - NEARLY:
            best = points[place][1]
            found.append(place)
    return found


def pareto_chart(
    name: str, plans: Sequence[Plan], varied: Sequence[str], key: str, scale: float, title: str
) -> Chart:
    """Time of each plan over what it needs, and the plans that no other beats in both.

    Args:
        name: What is needed, in a word.
        plans: All of them, best first.
        varied: Fields in which they differ.
        key: What is needed, as the estimate calls it.
        scale: What a unit of the axis is in the estimate's unit.
        title: Of the axis, with its unit.
    """
    points = [(plan[key] / scale, float(plan["iteration_seconds"])) for plan in plans]
    best = front(points)
    labels = [
        f"{seconds_text(plan['iteration_seconds'])}, MFU {percent_text(plan['mfu'])}<br>"
        + escaped(plan_text(plan, varied)).replace(", ", "<br>")
        for plan in plans
    ]
    dots = {
        **_trace("plans", points, labels),
        "mode": "markers",
        "marker": {"color": colour("gemm"), "size": 8, "opacity": 0.55},
    }
    chosen = [points[place] for place in best], [labels[place] for place in best]
    line = {
        **_trace("nothing is better in both", *chosen),
        "mode": "lines+markers",
        "line": {"color": colour("communication"), "width": 1.5, "shape": "hv"},
        "marker": {"color": colour("communication"), "size": 9},
    }
    figure: Figure = {
        "data": [dots, line],
        "layout": layout(
            hovermode="closest",
            xaxis=axis(title),
            yaxis=axis("seconds an iteration"),
        ),
    }
    seconds = seconds_texts(points[place][1] for place in best)
    rows = [
        (plan_text(plans[place], varied), text, f"{points[place][0]:.3g}")
        for place, text in zip(best, seconds, strict=True)
    ]
    return Chart(
        name=f"pareto-{name}",
        title=f"Time against {name}",
        summary=f"{len(plans)} plans; on the line are those that no other beats in both. Hover, or "
        "open the numbers, for what they are.",
        figure=figure,
        table=Table(head=("plan", "iteration", title), rows=tuple(rows), numeric=frozenset({1, 2})),
        height=440,
    )


def _trace(
    name: str, points: Sequence[tuple[float, float]], labels: Sequence[str]
) -> dict[str, object]:
    """Points of plotly with the text that stands under the pointer."""
    return {
        "type": "scatter",
        "name": name,
        "x": [x for x, _ in points],
        "y": [y for _, y in points],
        "customdata": list(labels),
        "hovertemplate": "%{customdata}<extra></extra>",
    }
