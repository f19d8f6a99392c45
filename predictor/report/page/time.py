"""Charts of seconds: the iteration by part, and every pass of every stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from predictor.report.page.parts import Chart, Figure, Table, axis, colour, layout, words
from predictor.report.quantities import percent_text, seconds_text, seconds_texts, seconds_unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from predictor.iteration import Estimate
    from predictor.iteration.playback import Event, Playback

LAST: Final = ("host", "communication", "bubble")
"""Parts that are waiting, after those that are work."""

LEAST_SHARE: Final = 0.0005
MIDDLE: Final = 0.62
"""A bar that ends before this share of the iteration has its numbers on the right."""

UNITS: Final = {"s": "seconds", "ms": "milliseconds", "us": "microseconds"}

MOST_PASSES: Final = 3000
NUMBERED: Final = 200
"""Passes up to which each bears its micro-batch's number."""

KINDS: Final = {
    "forward": "gemm",
    "backward": "attention",
    "weight": "optimizer",
    "other": "host",
}
"""Colour of each kind of pass."""


def waterfall(estimate: Estimate) -> Chart:
    """The iteration as the sum of its parts, work first, waiting last, with its interval."""
    whole = estimate.iteration_seconds
    low, high = estimate.interval_seconds
    parts = _ordered(estimate)
    scale, unit = seconds_unit(whole)
    texts = seconds_texts([*(seconds for _, seconds in parts), whole])
    shares = [percent_text(seconds / whole) for _, seconds in parts]
    figure = {
        "data": [_parts_bars(parts, whole, scale, unit), _spread(estimate, scale)],
        "layout": layout(
            annotations=_labels(parts, texts, shares, whole / scale),
            xaxis=axis(UNITS[unit], range=[0, 1.04 * high / scale], fixedrange=True),
            yaxis=axis(autorange="reversed", showgrid=False, fixedrange=True),
            bargap=0.35,
        ),
    }
    largest = max(parts, key=lambda part: part[1])
    summary = (
        f"{seconds_text(whole)}, with 90 % between {seconds_text(low)} and {seconds_text(high)} "
        f"(red line). The largest part is {largest[0].replace('_', ' ')} with "
        f"{percent_text(largest[1] / whole)}."
    )
    names = [name.replace("_", " ") for name, _ in parts]
    rows = [*zip(names, texts, shares, strict=False), ("iteration", texts[-1], percent_text(1))]
    return Chart(
        name="waterfall",
        title="The iteration by part",
        summary=summary,
        figure=figure,
        table=Table(head=("part", "seconds", "share"), rows=tuple(rows), numeric=frozenset({1, 2})),
        height=70 + 36 * (len(parts) + 1),
    )


def _parts_bars(parts: list[tuple[str, float]], whole: float, scale: float, unit: str) -> Figure:
    """A bar for each part, from where the one before ends, and one for the whole."""
    return {
        "type": "bar",
        "orientation": "h",
        "y": [*(name.replace("_", " ") for name, _ in parts), "iteration"],
        "x": [*(seconds / scale for _, seconds in parts), whole / scale],
        "base": [*(begin / scale for begin in _begins(parts)), 0],
        "marker": {
            "color": [*(colour(name.replace("_", "-")) for name, _ in parts), colour("whole")]
        },
        "hovertemplate": "%{y}: %{x:.4g} " + unit + "<extra></extra>",
    }


def _spread(estimate: Estimate, scale: float) -> Figure:
    """The interval, as a line through the end of the whole."""
    whole = estimate.iteration_seconds
    low, high = estimate.interval_seconds
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [whole / scale],
        "y": ["iteration"],
        "marker": {"color": colour("paper"), "size": 5, "line": {"width": 0}},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [(high - whole) / scale],
            "arrayminus": [(whole - low) / scale],
            "color": colour("warn"),
            "thickness": 2,
        },
        "hovertemplate": f"90 % in {seconds_text(low)} to {seconds_text(high)}<extra></extra>",
    }


def _begins(parts: list[tuple[str, float]]) -> list[float]:
    return [sum(seconds for _, seconds in parts[:place]) for place in range(len(parts))]


def _labels(
    parts: list[tuple[str, float]], texts: list[str], shares: list[str], length: float
) -> list[Figure]:
    """Seconds and share of each part beside its bar; the whole is as long as ``length``."""
    whole = sum(seconds for _, seconds in parts)
    return [
        _label(
            name.replace("_", " "),
            begin / whole,
            (begin + seconds) / whole,
            f"{text}, {share}",
            length,
        )
        for (name, seconds), begin, text, share in zip(
            parts, _begins(parts), texts, shares, strict=False
        )
    ]


def _label(row: str, begin: float, end: float, text: str, whole: float) -> dict[str, object]:
    """Numbers right of a bar, left of it or in it; its ends are shares of the whole."""
    label = {"y": row, "text": text, "showarrow": False}
    if end < MIDDLE:
        return {**label, "x": end * whole, "xanchor": "left", "xshift": 5}
    if begin > 1 - MIDDLE:
        return {**label, "x": begin * whole, "xanchor": "right", "xshift": -5}
    return {**label, "x": (begin + end) / 2 * whole, "font": {"color": colour("paper")}}


def _ordered(estimate: Estimate) -> list[tuple[str, float]]:
    told = [
        (name, seconds)
        for name, seconds in estimate.breakdown.items()
        if seconds / estimate.iteration_seconds >= LEAST_SHARE
    ]
    return sorted(told, key=lambda part: (part[0] in LAST, -part[1]))


def pipeline(playback: Playback) -> Chart:
    """Every pass of every stage on its timeline; of a very long step, its beginning."""
    passes = [each for each in playback.events(launches=False) if each.stream == "passes"]
    passes.sort(key=lambda each: each.start_seconds)
    shown = passes[:MOST_PASSES]
    end = max(each.start_seconds + each.seconds for each in shown)
    scale, unit = seconds_unit(end)
    stages = 1 + max(each.stage for each in passes)
    figure = {
        "data": [
            _bars([each for each in shown if _kind(each) == kind], kind, scale, len(shown), unit)
            for kind in KINDS
            if any(_kind(each) == kind for each in shown)
        ],
        "layout": layout(
            barmode="overlay",
            bargap=0.18,
            uniformtext={"minsize": 9, "mode": "hide"},
            xaxis=axis(f"{UNITS[unit]} since the step began", range=[0, end / scale]),
            yaxis=axis(
                autorange="reversed",
                showgrid=False,
                fixedrange=True,
                tickmode="array" if stages <= len(passes) else "auto",
                tickvals=list(range(stages)),
                ticktext=[f"stage {stage}" for stage in range(stages)],
            ),
        ),
    }
    summary = f"{len(passes)} passes of {stages} stages" if stages > 1 else f"{len(passes)} passes"
    if len(shown) < len(passes):
        summary += f"; the first {len(shown)} are drawn, up to {seconds_text(end)}"
    told = [summary]
    if len(shown) <= NUMBERED:
        told.append("Numbers are micro-batches")
    if stages > 1:
        told.append("Gaps are bubbles and messages")
    told.append("“predictor trace” shows every launch")
    return Chart(
        name="pipeline",
        title="Passes of the pipeline",
        summary=". ".join(told) + ".",
        figure=figure,
        table=_busy(passes, stages),
        height=80 + max(18, min(44, 900 // stages)) * stages,
    )


def _kind(event: Event) -> str:
    kind = event.name.split(" ", 1)[0]
    return kind if kind in KINDS else "other"


def _bars(
    passes: Sequence[Event], kind: str, scale: float, shown: int, unit: str
) -> dict[str, object]:
    numbered = shown <= NUMBERED and kind != "other"
    return {
        "type": "bar",
        "orientation": "h",
        "name": kind,
        "y": [each.stage for each in passes],
        "x": [each.seconds / scale for each in passes],
        "base": [each.start_seconds / scale for each in passes],
        "marker": {
            "color": colour(KINDS[kind]),
            "line": {"color": colour("paper"), "width": 0.5 if shown > NUMBERED else 1},
        },
        "text": [str(each.micro_batch) if numbered else "" for each in passes],
        "textposition": "inside",
        "insidetextanchor": "middle",
        "insidetextfont": {"color": "#ffffff", "size": 10},
        "textangle": 0,
        "customdata": [words(each.name) for each in passes],
        "hovertemplate": "%{customdata}: %{x:.4g} " + unit + "<extra>stage %{y}</extra>",
    }


def _busy(passes: Sequence[Event], stages: int) -> Table:
    """Seconds by kind and stage."""
    kinds = [kind for kind in KINDS if any(_kind(each) == kind for each in passes)]
    rows = []
    for stage in range(stages):
        mine = [each for each in passes if each.stage == stage]
        seconds = [sum(each.seconds for each in mine if _kind(each) == kind) for kind in kinds]
        rows.append((f"stage {stage}", *seconds_texts(seconds)))
    return Table(
        head=("stage", *kinds), rows=tuple(rows), numeric=frozenset(range(1, len(kinds) + 1))
    )
