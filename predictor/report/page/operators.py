"""Operators: the roofline of those that compute, and a table of the costliest."""

from __future__ import annotations

from math import log10, sqrt
from typing import TYPE_CHECKING, Final

from predictor.report.page.parts import Chart, Figure, Table, axis, colour, layout, ticks, words
from predictor.report.quantities import count_text, percent_text, seconds_texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from predictor.case import Gpu
    from predictor.iteration import OperatorShare

TABLE_ROWS: Final = 15
FAMILIES: Final = ("gemm", "grouped_gemm", "attention")
SMALLEST, LARGER = 7.0, 22.0
"""Pixels of a dot of nothing, and what the costliest has beyond it."""

FAR: Final = 1e3
"""How far the lines of a roof go beyond its ridge."""
TERA: Final = 1e12


def operators_table(tops: Sequence[OperatorShare], whole: float) -> Table:
    """The costliest operators with their share of the iteration and of their bound's peak."""
    chosen = tops[:TABLE_ROWS]
    seconds = seconds_texts(top.seconds for top in chosen)
    rows = [
        (
            top.label,
            count_text(top.launches),
            text,
            percent_text(top.seconds / whole),
            f"{percent_text(top.share_of_peak)} {top.bound_by}",
            top.origin,
        )
        for top, text in zip(chosen, seconds, strict=True)
    ]
    head = ("operator", "runs", "seconds", "of the iteration", "of the peak of", "origin")
    return Table(head=head, rows=tuple(rows), numeric=frozenset({1, 2, 3, 4}))


def roofline(tops: Sequence[OperatorShare], gpu: Gpu, whole: float) -> Chart | None:
    """Achieved rate of what computes over its flops a byte, under the datasheet's roof."""
    shown = [top for top in tops if top.operator.flops > 0 and top.seconds > 0]
    if not shown:
        return None
    dtypes = {getattr(top.operator, "dtype", "bf16") for top in shown}
    dtypes = {each if each in gpu.peak_flops_per_second else "bf16" for each in dtypes}
    most = max(top.seconds for top in shown)
    data = [_roof(gpu, dtype) for dtype in sorted(dtypes)]
    data += [
        _dots([top for top in shown if top.family == family], family, whole, most)
        for family in FAMILIES
        if any(top.family == family for top in shown)
    ]
    rates = [_rate(top) for top in shown]
    roof = max(gpu.peak_flops_per_second[dtype] for dtype in dtypes) / TERA
    flops_per_byte = [_intensity(top) for top in shown]
    ridges = [gpu.peak_flops_per_second[each] / gpu.memory_bytes_per_second for each in dtypes]
    left, right = min(*flops_per_byte, *ridges) / 3, max(*flops_per_byte, *ridges) * 3
    least = min(*rates, roof) / 2
    figure: Figure = {
        "data": data,
        "layout": layout(
            xaxis=axis(
                "flops a byte of device memory",
                type="log",
                range=[log10(left), log10(right)],
                **ticks(left, right),
            ),
            yaxis=axis(
                "TFLOP/s",
                type="log",
                range=[log10(least), log10(roof * 1.5)],
                **ticks(least, roof * 1.5),
            ),
        ),
    }
    best = max(shown, key=lambda top: top.seconds)
    summary = (
        "Each dot is an operator of the busiest stage, its area its share of the iteration; the "
        f"line is what the datasheet allows. The costliest, {best.label}, reaches "
        f"{percent_text(best.share_of_peak)} of {best.bound_by}."
    )
    return Chart(
        name="roofline",
        title="Roofline",
        summary=summary,
        figure=figure,
        table=_roofline_table(shown),
        height=420,
    )


def _rate(top: OperatorShare) -> float:
    return top.launches * top.operator.flops / top.seconds / TERA


def _intensity(top: OperatorShare) -> float:
    return top.operator.flops / top.operator.bytes


def _roof(gpu: Gpu, dtype: str) -> Figure:
    peak = gpu.peak_flops_per_second[dtype]
    ridge = peak / gpu.memory_bytes_per_second
    points = (ridge / FAR, ridge, ridge * FAR)
    return {
        "type": "scatter",
        "mode": "lines",
        "name": f"roof, {dtype}",
        "x": list(points),
        "y": [min(peak, x * gpu.memory_bytes_per_second) / TERA for x in points],
        "line": {"color": colour("muted"), "width": 1.5},
        "hoverinfo": "skip",
    }


def _dots(tops: Sequence[OperatorShare], family: str, whole: float, most: float) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": family.replace("_", " "),
        "x": [_intensity(top) for top in tops],
        "y": [_rate(top) for top in tops],
        "marker": {
            "size": [SMALLEST + LARGER * sqrt(top.seconds / most) for top in tops],
            "color": colour(family.replace("_", "-")),
            "opacity": 0.75,
            "line": {"color": colour("paper"), "width": 1},
        },
        "customdata": [
            [words(top.label), percent_text(top.seconds / whole), percent_text(top.share_of_peak)]
            for top in tops
        ],
        "hovertemplate": "%{customdata[0]}<br>%{y:.0f} TFLOP/s, %{customdata[2]} of peak"
        "<br>%{customdata[1]} of the iteration<extra></extra>",
    }


def _roofline_table(shown: Sequence[OperatorShare]) -> Table:
    rows = [
        (
            top.label,
            count_text(_intensity(top)),
            f"{_rate(top):.0f} TFLOP/s",
            percent_text(top.share_of_peak),
        )
        for top in shown
    ]
    head = ("operator", "flops a byte", "rate", "of the peak")
    return Table(head=head, rows=tuple(rows), numeric=frozenset({1, 2, 3}))
