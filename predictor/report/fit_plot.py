"""Measured against held-out predicted seconds of an operator, as a picture (matplotlib)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from predictor.report.figure import COLOURS, new_figure, save, style
from predictor.report.fit import read_fits

if TYPE_CHECKING:
    from pathlib import Path

BAND = 0.1
TICKS = (0.2, 0.5, 0.7, 0.9, 1.0, 1.1, 1.3, 2.0, 3.0, 5.0)
ROW_INCHES = 3.2


def plot_fit(folder: Path, operator: str, path: Path) -> None:
    """Write a plot of measured over predicted against measured seconds, PNG or SVG by suffix.

    Raises:
        PredictorError: Matplotlib is not installed, or it cannot write this kind of file.
        FitError: There is no fit of this operator.
    """
    fits = read_fits(folder, operator)
    figure = new_figure(len(fits), ROW_INCHES)
    with style():
        for index, (key, fit) in enumerate(fits.items()):
            axes = figure.add_subplot(len(fits), 1, index + 1)
            measured = np.array([row["seconds"] for row in fit["measured"]])
            ratio = np.exp(np.array([row["error"] for row in fit["measured"]]))
            axes.scatter(measured, ratio, s=6, alpha=0.5, linewidths=0, color=COLOURS[0])
            axes.axhspan(1 - BAND, 1 + BAND, alpha=0.12, color=COLOURS[0])
            axes.axhline(1.0, linewidth=0.8, color=COLOURS[-1])
            axes.set_xscale("log")
            axes.set_yscale("log")
            low, high = axes.get_ylim()
            shown = [ratio for ratio in TICKS if low <= ratio <= high]
            labels = [f"{100 * (ratio - 1):+.0f} %" if ratio != 1 else "0" for ratio in shown]
            axes.set_yticks(shown, labels)
            axes.set_yticks([], minor=True)
            axes.set_xlabel("measured seconds")
            axes.set_ylabel("measured over held-out fit")
            axes.set_title(f"{folder.name} {key}, {len(measured)} shapes; band ±10 %", loc="left")
        save(figure, path)
