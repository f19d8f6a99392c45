"""A fitted cost function for people: regressors, coefficients and held-out errors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from predictor.errors import FitError, nearest
from predictor.report.quantities import percent_text
from predictor.report.table import columns

if TYPE_CHECKING:
    from pathlib import Path

FIT_FILE = "fit.json"


def fit_text(folder: Path, operator: str) -> str:
    """Return the regressions of one operator of a SKU, cold and warm, from its fit.json.

    Raises:
        FitError: there is no fit, or none of that operator.
    """
    path = folder / FIT_FILE
    try:
        fits: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["fits"]
    except (OSError, ValueError, KeyError) as error:
        raise FitError(
            f"{path}: cannot be read as a fit; run `predictor fit {folder.name}`"
        ) from error
    chosen = {key: fit for key, fit in fits.items() if key.split("/")[0] == operator}
    if not chosen:
        known = sorted({key.split("/")[0] for key in fits})
        hint = nearest(operator, known)
        raise FitError(f"{path}: holds no fit of {operator!r}{hint}; it has {', '.join(known)}")
    blocks = [_block(f"{folder.name} {key}", fit) for key, fit in chosen.items()]
    return "\n\n".join("\n".join(block) for block in blocks)


def _block(title: str, fit: dict[str, Any]) -> list[str]:
    surface = fit["surface"]
    errors = ", ".join(f"{name} {percent_text(value)}" for name, value in fit["held_out"].items())
    lines = [
        f"{title}: log(seconds / bound) from {fit['points']} measured shapes",
        f"held out by shape: {errors}",
    ]
    grouped = zip(surface["coefficients"], fit["standard_errors"], strict=True)
    for group, (coefficients, deviations) in enumerate(grouped):
        named = zip(surface["regressors"], coefficients, deviations, strict=True)
        rows = [["group", "regressor", "coefficient", "standard error"]] if group == 0 else []
        rows += [[str(group), name, f"{beta:+.4f}", f"{se:.4f}"] for name, beta, se in named]
        lines += columns(rows, right=(0, 2, 3))
    return lines
