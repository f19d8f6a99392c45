"""A fitted cost function for people: coefficients, domain, held-out errors, the worst of them."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from predictor.costs.families import COLLECTIVES
from predictor.costs.points import point_rows
from predictor.errors import FitError, nearest
from predictor.operators import OPERATORS, field_names
from predictor.report.fit_groups import group_lines
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
} | {name: {"bytes": "the link"} for name in COLLECTIVES}
"""Coefficients that are the time of a datasheet's rate: their inverse is the share reached."""

LARGE: Final = {"m": 1024, "n": 1280, "k": 1280}
LONG_BYTES: Final = 64 * 1024
QUANTILES: Final = {"median": 0.5, "p90": 0.9, "p95": 0.95}


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
    blocks = [_block(folder.name, key, fit) for key, fit in fits.items()]
    return "\n\n".join("\n".join(block) for block in blocks)


def _block(sku: str, key: str, fit: dict[str, Any]) -> list[str]:
    operator = key.partition("/")[0]
    errors = ", ".join(f"{name} {percent_text(value)}" for name, value in fit["held_out"].items())
    return [
        f"{sku} {key}: seconds / bound from {fit['points']} measured shapes",
        f"held out by shape: {errors}",
        *_part(operator, fit["measured"]),
        *_devices(fit["devices"]),
        *_domain(operator, fit["measured"]),
        *_coefficients(sku, key, fit),
        *_worst(operator, fit),
    ]


def _part(operator: str, measured: list[dict[str, Any]]) -> list[str]:
    """Held-out errors of the shapes that a training's time is made of."""
    if operator == "gemm":
        name = "m >= 1024, n and k >= 1280"
        chosen = [row for row in measured if all(row[key] >= LARGE[key] for key in LARGE)]
    elif operator in COLLECTIVES:
        name, chosen = "64 KiB and more", [row for row in measured if row["bytes"] >= LONG_BYTES]
    else:
        return []
    if not chosen:
        return []
    sizes = np.abs(np.expm1([-row["error"] for row in chosen]))
    shown = ((name, np.quantile(sizes, q)) for name, q in QUANTILES.items())
    errors = ", ".join(f"{name} {percent_text(float(value))}" for name, value in shown)
    return [f"of these {len(chosen)} of {name}: {errors}"]


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


def _coefficients(sku: str, key: str, fit: dict[str, Any]) -> list[str]:
    surface, rates = fit["surface"], RATES.get(key.partition("/")[0], {})
    if surface.get("groups"):
        return group_lines(
            key,
            sku,
            fit,
            lambda name, beta, error: _share(beta, error, rates[name]) if name in rates else "",
        )
    rows = [["coefficient", "value", "standard error", "share of the datasheet's rate"]]
    (values,), (deviations,) = surface["coefficients"], fit["standard_errors"]
    for name, beta, error in zip(surface["regressors"], values, deviations, strict=True):
        share = _share(beta, error, rates[name]) if name in rates else ""
        rows.append([name, f"{beta:+.4f}", f"{error:.4f}", share])
    return columns(rows, right=(1, 2))


def _share(beta: float, error: float, rate: str) -> str:
    """Inverse of a coefficient in percent; its error to first order."""
    if beta <= 0:
        return ""
    spread = f" ± {100 * error / beta**2:.1f}" if error else ""
    return f"{100 / beta:.1f}{spread} % of {rate}"


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
