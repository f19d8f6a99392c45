"""``predictor report``: the page of one case."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from predictor.case import load_gpu
from predictor.costs import load_costs
from predictor.iteration import estimate
from predictor.iteration.built import memory_of_stages, run_of
from predictor.iteration.collectives import collective_costs
from predictor.iteration.sensitivity import sensitivities
from predictor.operators import Collective
from predictor.report.curves import curve
from predictor.report.lines import LEAST_POINTS, RUNNING, line_of, lines_of, nearest_line
from predictor.report.page.curves import curve_chart
from predictor.report.page.foundations import foundations
from predictor.report.page.memory import memory
from predictor.report.page.operators import operators_table, roofline
from predictor.report.page.parts import Chart, Page, Section
from predictor.report.page.sensitivity import sensitivity
from predictor.report.page.time import pipeline, waterfall
from predictor.report.page.writing import write_page
from predictor.report.quantities import (
    bytes_text,
    count_text,
    joules_text,
    percent_text,
    rate_text,
    seconds_text,
    usd_text,
)
from predictor.report.text import heading

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from predictor.case import Case
    from predictor.costs import Costs, Prediction
    from predictor.iteration import Estimate, OperatorShare
    from predictor.operators import Operator
    from predictor.report.curves import Predict

DEEP: Final = 60
"""Operators that are looked at: those beyond take next to nothing."""


def write_report(case: Case, path: Path) -> None:
    """Estimate a case and write its page.

    Raises:
        PredictorError: The case cannot be estimated, plotly or jinja2 is not installed, or the
            file cannot be written.
    """
    write_page(case_page(case), path)


def case_page(case: Case) -> Page:
    """The page of a case.

    Raises:
        CaseError: The case breaks a rule.
        NotPredictable: It cannot be estimated.
    """
    answer = estimate(case)
    resolved = answer.case
    costs = load_costs(resolved.cluster.gpu)
    gpu = load_gpu(resolved.cluster.gpu)
    run = run_of(resolved, costs)
    tops = run.top_operators(DEEP)
    roof = roofline(tops, gpu, answer.iteration_seconds)
    title, *lines = heading(resolved)
    sections = [
        Section(
            name="time",
            title="Where the time goes",
            charts=(waterfall(answer), pipeline(run.playback())),
        ),
        Section(
            name="memory-section",
            title="Where the memory goes",
            charts=(memory(memory_of_stages(resolved), float(gpu.memory_bytes)),),
        ),
        Section(
            name="operators",
            title="Operators",
            lead="The costliest operators of the busiest stage, at the clock that it settles at.",
            charts=() if roof is None else (roof,),
            table=operators_table(tops, answer.iteration_seconds),
        ),
        Section(
            name="curves",
            title="Measured curves",
            lead="Achieved rate of the costliest operators by size, on a cool device.",
            charts=_curves(resolved, costs, tops),
        ),
        Section(name="hardware", title="Hardware", charts=(sensitivity(sensitivities(resolved)),)),
        foundations(answer),
    ]
    return Page(
        title=title,
        lines=tuple(lines),
        figures=_figures(answer),
        sections=tuple(each for each in sections if each.charts or each.table or each.notes),
    )


def _figures(answer: Estimate) -> tuple[tuple[str, str, str], ...]:
    gpu = load_gpu(answer.case.cluster.gpu)
    low, high = answer.interval_seconds
    whole = answer.iteration_seconds
    told = [
        ("iteration", seconds_text(whole), f"90 % in {seconds_text(low)} to {seconds_text(high)}"),
        ("MFU", percent_text(answer.mfu), rate_text(answer.model_flops_per_second_per_gpu)),
        ("throughput", f"{count_text(answer.tokens_per_second_per_gpu)} tokens/s", "a GPU"),
        (
            "memory",
            bytes_text(answer.memory_reserved_bytes_per_gpu),
            f"of {bytes_text(gpu.memory_bytes)}: {'fits' if answer.fits else 'DOES NOT FIT'}",
        ),
        _waiting("exposed communication", answer.exposed_communication_seconds, whole),
        _waiting("pipeline bubble", answer.bubble_seconds, whole),
        ("energy", joules_text(answer.joules_per_iteration), "in all GPUs"),
    ]
    if answer.usd_per_iteration is not None:
        rate = f"at {gpu.usd_per_gpu_hour} USD a GPU-hour"
        told.append(("price", usd_text(answer.usd_per_iteration), rate))
    return tuple(told)


def _waiting(label: str, seconds: float, whole: float) -> tuple[str, str, str]:
    if seconds <= 0:
        return label, "none", ""
    return label, percent_text(seconds / whole), seconds_text(seconds)


def _curves(case: Case, costs: Costs, tops: Sequence[OperatorShare]) -> tuple[Chart, ...]:
    """Lines through the costliest product, attention and collective."""
    fabric = collective_costs(case, costs)

    def collectives(operators: Sequence[Operator]) -> Prediction:
        return fabric([each for each in operators if isinstance(each, Collective)])

    charts = []
    for name, families in (
        ("product", ("gemm", "grouped_gemm")),
        ("attention", ("attention",)),
        ("collective", tuple(RUNNING)),
    ):
        for top in tops:
            remote = isinstance(top.operator, Collective)
            if top.family not in families or remote != (name == "collective"):
                continue
            predict = collectives if remote else costs.predict
            charts.append(_curve(f"curve-{name}", costs, top.operator, predict))
            break
    return tuple(charts)


def _curve(name: str, costs: Costs, operator: Operator, predict: Predict) -> Chart:
    """The line of an operator; beside it the nearest that was measured, if its own was not."""
    points = lines_of(costs, operator.name).get(line_of(operator), [])
    shown = [replace(curve(costs, operator, points, predict), label="the case")]
    if len(points) < LEAST_POINTS and (near := nearest_line(costs, operator)):
        shown.append(replace(curve(costs, near[0], near), label="nearest"))
    asked = float(getattr(operator, RUNNING[operator.name]))
    return curve_chart(name, shown, asked=asked)
