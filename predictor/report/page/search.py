"""``predictor report --search``: the page of what a search found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from predictor.errors import PredictorError
from predictor.files import MEBIBYTE, read_json
from predictor.report.page.parts import Page, Section, Table
from predictor.report.page.search_charts import pareto_chart
from predictor.report.page.search_plans import fields_of, plan_text, value_text, varied_fields
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

    from predictor.report.page.search_plans import Plan

NEEDED: Final = (
    "iteration_seconds",
    "interval_seconds",
    "mfu",
    "memory_reserved_bytes_per_gpu",
    "case",
)
TABLE_ROWS: Final = 25
MAX_FILE_BYTES: Final = 16 * MEBIBYTE
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
    varied = varied_fields(plans)
    charts = [
        pareto_chart("memory", plans, varied, "memory_reserved_bytes_per_gpu", GIB, "GiB a GPU")
    ]
    prices = {plan.get("usd_per_iteration") for plan in plans}
    machines = {
        f"{each['case']['cluster']['num_gpus']} x {each['case']['cluster']['gpu']}"
        for each in plans
    }
    if None not in prices and len(machines) > 1:
        charts.append(
            pareto_chart("price", plans, varied, "usd_per_iteration", 1.0, "USD an iteration")
        )
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
        lines=(f"Best: {plan_text(best, varied)}",),
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


def _table(plans: Sequence[Plan], varied: Sequence[str]) -> Table:
    shown = plans[:TABLE_ROWS]
    seconds = seconds_texts(plan["iteration_seconds"] for plan in shown)
    rows = []
    for place, (plan, text) in enumerate(zip(shown, seconds, strict=True), start=1):
        fields = fields_of(plan)
        price = plan.get("usd_per_iteration")
        rows.append(
            (
                str(place),
                text,
                percent_text(plan["mfu"]),
                bytes_text(plan["memory_reserved_bytes_per_gpu"]),
                "" if price is None else usd_text(price),
                *(value_text(fields.get(name)) for name in varied),
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
            f"{name.replace('_', ' ')} {value_text(v)}" for name, v in miss["plan"].items()
        )
        lacks = f"lacks {bytes_text(miss['missing_bytes'])} a GPU"
        remedies = f"; {' or '.join(miss['remedies'])} would do" if miss["remedies"] else ""
        told.append(("nearly fits", f"{plan}: {lacks}{remedies}"))
    return told
