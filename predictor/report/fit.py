"""A fitted cost function for people: coefficients, domain, held-out errors, the worst of them."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

from predictor.costs.points import point_rows
from predictor.errors import FitError, nearest
from predictor.operators import OPERATORS, field_names
from predictor.report.quantities import percent_text, signed_percent_text
from predictor.report.table import columns

if TYPE_CHECKING:
    from pathlib import Path

FIT_FILE: Final = "fit.json"
WORST: Final = 10
RATES: Final = {
    "gemm": {"tensor": "tensor cores", "memory": "memory", "feed": "an SM's port to L2"},
    "memory_bound": {"bytes": "memory"},
    "optimizer": {"bytes": "memory"},
    "attention": {"products": "tensor cores", "products_backward": "tensor cores"},
    "memcpy": {"bytes": "the link"},
}
"""Coefficients that are the time of a datasheet's rate: their inverse is the share reached."""


def read_fits(folder: Path, operator: str) -> dict[str, dict[str, Any]]:
    """Fits of one operator in fit.json, by cache state (``gemm/cold``), with measured rows.

    Raises:
        FitError: There is no fit, or none of that operator.
    """
    path = folder / FIT_FILE
    try:
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        fits, measured = raw["fits"], raw["measured"]
    except (OSError, ValueError, KeyError) as error:
        raise FitError(
            f"{path}: cannot be read as a fit; run `predictor fit {folder.name}`"
        ) from error
    chosen = {
        key: {
            **fit,
            "measured": point_rows(operator, measured.get(key, [])),
            "devices": raw.get("devices", {}).get(operator),
        }
        for key, fit in fits.items()
        if key.split("/")[0] == operator
    }
    if not chosen:
        known = sorted({key.split("/")[0] for key in fits})
        hint = nearest(operator, known)
        raise FitError(f"{path}: holds no fit of {operator!r}{hint}; it has {', '.join(known)}")
    return chosen


def fit_text(folder: Path, operator: str) -> str:
    """Return the regressions of one operator of a SKU, cold and warm, from its fit.json.

    Raises:
        FitError: See :func:`read_fits`.
    """
    fits = read_fits(folder, operator)
    blocks = [_block(f"{folder.name} {key}", operator, fit) for key, fit in fits.items()]
    return "\n\n".join("\n".join(block) for block in blocks)


def _block(title: str, operator: str, fit: dict[str, Any]) -> list[str]:
    errors = ", ".join(f"{name} {percent_text(value)}" for name, value in fit["held_out"].items())
    return [
        f"{title}: seconds / bound from {fit['points']} measured shapes",
        f"held out by shape: {errors}",
        *_devices(fit["devices"]),
        *_domain(operator, fit["measured"]),
        *_coefficients(operator, fit),
        *_worst(operator, fit),
    ]


def _devices(told: dict[str, float] | None) -> list[str]:
    """What devices of the SKU differ by, where points were measured on several."""
    if told is None:
        return []
    apart, repeat = percent_text(told["deviation"]), percent_text(told["repeat"])
    words = f"{told['devices']} devices lie {apart} apart (standard deviation); nine of ten of "
    return [words + f"{told['points']} ratios of a point on two of them are within {repeat}"]


def _domain(operator: str, measured: list[dict[str, Any]]) -> list[str]:
    """Lowest and highest of each size that varies."""
    spans = []
    for name in field_names(operator):
        values = {row[name] for row in measured if name in row}
        whole = [v for v in values if isinstance(v, int) and not isinstance(v, bool)]
        if len(whole) > 1:
            spans.append(f"{name} {min(whole)} to {max(whole)}")
    return [f"domain: {', '.join(spans)}"] if spans else []


def _coefficients(operator: str, fit: dict[str, Any]) -> list[str]:
    surface, rates = fit["surface"], RATES.get(operator, {})
    lines: list[str] = []
    grouped = zip(surface["coefficients"], fit["standard_errors"], strict=True)
    for group, (values, deviations) in enumerate(grouped):
        named = zip(surface["regressors"], values, deviations, strict=True)
        head = ["group", "coefficient", "value", "standard error", "share of the datasheet's rate"]
        rows = [head] if group == 0 else []
        for name, beta, error in named:
            share = _share(beta, error, rates[name]) if name in rates else ""
            rows.append([str(group), name, f"{beta:+.4f}", f"{error:.4f}", share])
        lines += columns(rows, right=(0, 2, 3))
    return lines


def _share(beta: float, error: float, rate: str) -> str:
    """Inverse of a coefficient in percent; its error to first order."""
    if beta <= 0:
        return ""
    return f"{100 / beta:.1f} ± {100 * error / beta**2:.1f} % of {rate}"


def _worst(operator: str, fit: dict[str, Any]) -> list[str]:
    """Shapes with the largest held-out errors."""
    worst = sorted(fit["measured"], key=lambda row: -abs(row["error"]))[:WORST]
    if not worst:
        return []
    rows = [["held-out error", "measured", "shape"]]
    for row in worst:
        error = signed_percent_text(math.expm1(-row["error"]))
        rows.append([error, f"{row['seconds']:.3g} s", _shape(operator, row)])
    return ["worst held out:", *columns(rows, right=(0, 1))]


def _shape(operator: str, row: dict[str, Any]) -> str:
    defaults = {n: s.default for n, s in OPERATORS[operator].__dataclass_fields__.items()}
    named = ((name, row.get(name, defaults[name])) for name in field_names(operator))
    return " ".join(f"{name}={value}" for name, value in named if value != defaults[name])
