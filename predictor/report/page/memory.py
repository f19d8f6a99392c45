"""Chart of memory: the parts of every stage's peak, against what the GPU has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from predictor.report.page.parts import Chart, Figure, Table, axis, colour, layout
from predictor.report.quantities import bytes_text, bytes_texts
from predictor.units import GIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from predictor.iteration.memory import Memory

PARTS: Final = {
    "parameters": "gemm",
    "gradients": "memory-bound",
    "optimizer states": "optimizer",
    "activations": "attention",
    "logits and loss": "communication",
    "workspaces": "host",
}
BESIDE: Final = "beside the allocator"


def memory(stages: Sequence[Memory], there: float) -> Chart:
    """Peak of a rank of each stage.

    Args:
        stages: Memory of each stage.
        there: Bytes of the GPU.
    """
    known = [name for name in PARTS if any(stage.parts.get(name) for stage in stages)]
    others = {name for stage in stages for name in stage.parts} - set(PARTS)
    names = [*known, *sorted(others)]
    sizes = {name: [stage.parts.get(name, 0.0) for stage in stages] for name in names}
    sizes[BESIDE] = [stage.reserved_bytes - stage.allocated_bytes for stage in stages]
    labels = [f"stage {place}" for place in range(len(stages))] if len(stages) > 1 else ["GPU"]
    fullest = max(stages, key=lambda stage: stage.reserved_bytes)
    most = max(there, fullest.reserved_bytes)
    figure = {
        "data": [_bar(name, labels, each) for name, each in sizes.items()],
        "layout": layout(
            barmode="stack",
            bargap=0.3,
            shapes=[_limit(there)],
            xaxis=axis("GiB", range=[0, 1.05 * most / GIB], fixedrange=True),
            yaxis=axis(autorange="reversed", showgrid=False, fixedrange=True, type="category"),
        ),
    }
    fits = "fits" if fullest.reserved_bytes <= there else "does not fit"
    whose = f"stage {list(stages).index(fullest)}, " if len(stages) > 1 else ""
    summary = (
        f"The fullest GPU ({whose}{bytes_text(fullest.reserved_bytes)} reserved) {fits} into "
        f"{bytes_text(there)} (red line)."
    )
    return Chart(
        name="memory",
        title="Memory by stage" if len(stages) > 1 else "Memory",
        summary=summary,
        figure=figure,
        table=_table(labels, sizes, stages),
        height=80 + max(20, min(44, 900 // len(stages))) * len(stages),
    )


def _bar(name: str, labels: Sequence[str], sizes: Sequence[float]) -> Figure:
    """One part of every stage's memory."""
    return {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "y": labels,
        "x": [size / GIB for size in sizes],
        "marker": {"color": colour(PARTS.get(name, "bubble"))},
        "hovertemplate": name + ": %{x:.1f} GiB<extra>%{y}</extra>",
    }


def _limit(there: float) -> Figure:
    """A line at what the GPU has."""
    return {
        "type": "line",
        "x0": there / GIB,
        "x1": there / GIB,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": {"color": colour("warn"), "width": 2},
    }


def _table(labels: Sequence[str], sizes: dict[str, list[float]], stages: Sequence[Memory]) -> Table:
    columns = [*sizes.values(), [stage.reserved_bytes for stage in stages]]
    rows = [
        (label, *bytes_texts(column[place] for column in columns))
        for place, label in enumerate(labels)
    ]
    head = ("stage", *sizes, "reserved")
    return Table(head=head, rows=tuple(rows), numeric=frozenset(range(1, len(head))))
