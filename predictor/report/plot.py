"""``predictor plot``: measured points of an operator with fitted curves, as a picture or a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from predictor.costs import load_costs
from predictor.errors import PredictorError, nearest
from predictor.report.curves import Curve, curve
from predictor.report.figure import COLOURS, new_figure, save, style
from predictor.report.lines import RUNNING, common_lines, lines_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

LINES: Final = 3
ROW_INCHES: Final = 2.9


def curves_of(
    operator: str, skus: Sequence[str], where: Mapping[str, str] | None = None
) -> list[list[Curve]]:
    """Curves of an operator's best measured lines: for each line, one a GPU.

    Raises:
        PredictorError: No such operator, or nothing of it was measured on these GPUs.
        UnknownName: No such GPU.
    """
    if operator not in RUNNING:
        known = ", ".join(RUNNING)
        raise PredictorError(
            f"no curves of {operator!r}{nearest(operator, RUNNING)}; there are {known}"
        )
    costs = {sku: load_costs(sku) for sku in skus}
    tables = {sku: lines_of(each, operator) for sku, each in costs.items()}
    if not any(tables.values()):
        raise PredictorError(
            f"{operator} was not measured on {', '.join(skus)}; `predictor gpus` lists who was"
        )
    found = []
    for line in common_lines(tables, LINES, where):
        example = next(lines[line][0] for lines in tables.values() if line in lines)
        found.append(
            [curve(each, example, tables[sku].get(line, [])) for sku, each in costs.items()]
        )
    return found


def plot_operator(
    operator: str, skus: Sequence[str], path: Path, where: Mapping[str, str] | None = None
) -> int:
    """Write the curves of an operator, HTML or a picture by suffix; returns the measured points.

    Raises:
        PredictorError: See :func:`curves_of`; or an optional part is not installed, or the file
            cannot be written.
    """
    lines = curves_of(operator, skus, where)
    if path.suffix == ".html":
        from predictor.report.page.curves import write_curves  # noqa: PLC0415 - loads jinja2

        write_curves(operator, lines, path)
    else:
        _picture(lines, path)
    return sum(len(each.points.size) for line in lines for each in line)


def _picture(lines: Sequence[Sequence[Curve]], path: Path) -> None:
    figure = new_figure(len(lines), ROW_INCHES)
    with style():
        for row, line in enumerate(lines):
            axes = figure.add_subplot(len(lines), 1, row + 1)
            for each, colour in zip(line, COLOURS, strict=False):
                fit, points = each.fit, each.points
                axes.fill_between(fit.size, fit.low, fit.high, alpha=0.15, color=colour, lw=0)
                axes.plot(fit.size, fit.rate, color=colour, lw=1.4, label=f"{each.label}, fitted")
                if len(points.size):
                    spread = [points.rate - points.low, points.high - points.rate]
                    axes.errorbar(
                        points.size,
                        points.rate,
                        yerr=spread,
                        fmt="o",
                        ms=4,
                        lw=1,
                        color=colour,
                        label=f"{each.label}, measured",
                    )
            axes.set_xscale("log", base=2)
            axes.set_ylim(bottom=0)
            axes.set_xlabel(line[0].axis.replace("_", " "))
            axes.set_ylabel(line[0].unit)
            axes.set_title(f"{line[0].title}; bands hold 90 %", loc="left")
            axes.legend(fontsize=8)
        save(figure, path)
