"""``predictor report --search``: the page of what a search found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from predictor.errors import PredictorError
from predictor.files import MEBIBYTE, read_json
from predictor.report.page.parts import Chart, Figure, Page, Section, Table, axis, colour, layout
from predictor.report.page.parts import words as escaped
from predictor.report.page.writing import write_page
from predictor.report.quantities import (
    bytes_text,
    count_text,
    percent_text,
    seconds_text,
    seconds_texts,
    usd_text,
)
from predictor.units import GIB

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Plan = dict[str, Any]

NEEDED: Final = (
    "iteration_seconds",
    "interval_seconds",
    "mfu",
    "memory_reserved_bytes_per_gpu",
    "case",
)
SECTIONS: Final = ("training", "plan", "cluster")
"""Sections of a case whose fields tell plans apart."""

TABLE_ROWS: Final = 25
MAX_FILE_BYTES: Final = 16 * MEBIBYTE
NEARLY: Final = 1e-9
_RULE: Final = "not what `predictor search --json` prints"


def write_search(source: Path, path: Path) -> None:
    """Write the page of a file that ``predictor search --json`` printed.

    Raises:
        PredictorError: The file is no such thing, plotly or jinja2 is not installed, or the page
            cannot be written.
    """
    write_page(read_search(source), path)


def read_search(source: Path) -> Page:
    """The page of a file that ``predictor search --json`` printed.

    Raises:
        PredictorError: The file is no such thing.
    """
    try:
        return search_page(_read(source))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PredictorError(f"{source}: {_RULE}: {error!r}") from error


def _read(source: Path) -> dict[str, Any]:
    found = read_json(source, PredictorError, MAX_FILE_BYTES)
    rule = f"{source}: {_RULE}"
    if not isinstance(found, dict) or not isinstance(found.get("plans"), list):
        raise PredictorError(f'{rule}: an object with "plans"')
    if not found["plans"]:
        raise PredictorError(f"{source}: holds no plan; nothing fitted")
    for place, plan in enumerate(found["plans"]):
        missing = [key for key in NEEDED if not isinstance(plan, dict) or key not in plan]
        if missing:
            raise PredictorError(f"{rule}: plan {place} lacks {', '.join(missing)}")
    return found


def search_page(found: dict[str, Any]) -> Page:
    """The page of a search's result."""
    plans: list[Plan] = found["plans"]
    varied = _varied(plans)
    charts = [_pareto("memory", plans, varied, "memory_reserved_bytes_per_gpu", GIB, "GiB a GPU")]
    prices = {plan.get("usd_per_iteration") for plan in plans}
    machines = {
        f"{each['case']['cluster']['num_gpus']} x {each['case']['cluster']['gpu']}"
        for each in plans
    }
    if None not in prices and len(machines) > 1:
        charts.append(_pareto("price", plans, varied, "usd_per_iteration", 1.0, "USD an iteration"))
    best = plans[0]
    case = best["case"]
    model = case["model"].get("name") or f"{case['model']['num_layers']} layers"
    sections = (
        Section(name="pareto", title="Time against what it needs", charts=tuple(charts)),
        Section(
            name="plans",
            title="Plans",
            lead=f"The first {min(len(plans), TABLE_ROWS)} of {len(plans)}, best first; columns "
            "are what they differ in.",
            table=_table(plans, varied),
        ),
        Section(name="left-out", title="Left out", notes=(*_rejected(found), *_missed(found))),
    )
    return Page(
        title=f"Plans for {model} on {' or '.join(sorted(machines))}",
        lines=(f"Best: {_told(best, varied)}",),
        figures=_figures(found, best),
        sections=tuple(each for each in sections if each.charts or each.table or each.notes),
    )


def _figures(found: dict[str, Any], best: Plan) -> tuple[tuple[str, str, str], ...]:
    low, high = best["interval_seconds"]
    told = [
        (
            "best iteration",
            seconds_text(best["iteration_seconds"]),
            f"90 % in {seconds_text(low)} to {seconds_text(high)}",
        ),
        ("MFU", percent_text(best["mfu"]), ""),
        ("memory", bytes_text(best["memory_reserved_bytes_per_gpu"]), "reserved a GPU"),
    ]
    if "plans_evaluated" in found:
        seconds = found.get("search_seconds")
        note = f"in {seconds_text(seconds)}" if seconds else ""
        told.append(("plans evaluated", count_text(found["plans_evaluated"]), note))
    return tuple(told)


def _fields(plan: Plan) -> dict[str, Any]:
    """Fields of a plan's case: ``tensor_parallel`` and the like."""
    case = plan["case"]
    fields = {key: value for section in SECTIONS for key, value in case.get(section, {}).items()}
    return {**fields, "implementation": case.get("implementation")}


def _varied(plans: Sequence[Plan]) -> tuple[str, ...]:
    """Fields in which plans differ, in the order of the case."""
    all_fields = [_fields(plan) for plan in plans]
    names = dict.fromkeys(name for fields in all_fields for name in fields)
    return tuple(
        name for name in names if len({str(fields.get(name)) for fields in all_fields}) > 1
    )


def _told(plan: Plan, varied: Sequence[str]) -> str:
    fields = _fields(plan)
    return ", ".join(
        f"{name.replace('_', ' ')} {_value(fields[name])}"
        for name in varied
        if fields.get(name) not in (None, False)
    )


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the points that no other beats in both coordinates, from left to right."""
    best = float("inf")
    found = []
    for place in sorted(range(len(points)), key=lambda place: points[place]):
        if points[place][1] < best - NEARLY:
            best = points[place][1]
            found.append(place)
    return found


def _pareto(
    name: str, plans: Sequence[Plan], varied: Sequence[str], key: str, scale: float, title: str
) -> Chart:
    points = [(plan[key] / scale, float(plan["iteration_seconds"])) for plan in plans]
    best = front(points)
    labels = [
        f"{seconds_text(plan['iteration_seconds'])}, MFU {percent_text(plan['mfu'])}<br>"
        + escaped(_told(plan, varied)).replace(", ", "<br>")
        for plan in plans
    ]
    dots = {
        "type": "scatter",
        "mode": "markers",
        "name": "plans",
        "x": [x for x, _ in points],
        "y": [y for _, y in points],
        "customdata": labels,
        "hovertemplate": "%{customdata}<extra></extra>",
        "marker": {"color": colour("gemm"), "size": 8, "opacity": 0.55},
    }
    line = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": "nothing is better in both",
        "x": [points[place][0] for place in best],
        "y": [points[place][1] for place in best],
        "customdata": [labels[place] for place in best],
        "hovertemplate": "%{customdata}<extra></extra>",
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
        (_told(plans[place], varied), text, f"{points[place][0]:.3g}")
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


def _table(plans: Sequence[Plan], varied: Sequence[str]) -> Table:
    shown = plans[:TABLE_ROWS]
    seconds = seconds_texts(plan["iteration_seconds"] for plan in shown)
    rows = []
    for place, (plan, text) in enumerate(zip(shown, seconds, strict=True), start=1):
        fields = _fields(plan)
        price = plan.get("usd_per_iteration")
        rows.append(
            (
                str(place),
                text,
                percent_text(plan["mfu"]),
                bytes_text(plan["memory_reserved_bytes_per_gpu"]),
                "" if price is None else usd_text(price),
                *(_value(fields.get(name)) for name in varied),
            )
        )
    names = (name.replace("_", " ") for name in varied)
    head = ("", "iteration", "MFU", "reserved", "price", *names)
    return Table(head=head, rows=tuple(rows), numeric=frozenset(range(len(head))))


def _rejected(found: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Why plans were left out, most frequent first."""
    counts = sorted(found.get("rejected", {}).items(), key=lambda item: -item[1])
    return tuple((f"{count_text(count)} left out", str(reason)) for reason, count in counts)


def _missed(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Plans that nearly fit, and what would make them fit."""
    told = []
    for miss in found.get("near_misses", []):
        plan = ", ".join(
            f"{name.replace('_', ' ')} {_value(v)}" for name, v in miss["plan"].items()
        )
        lacks = f"lacks {bytes_text(miss['missing_bytes'])} a GPU"
        remedies = f"; {' or '.join(miss['remedies'])} would do" if miss["remedies"] else ""
        told.append(("nearly fits", f"{plan}: {lacks}{remedies}"))
    return told
