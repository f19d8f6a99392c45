"""Tables to ``fit.json``: every cost function of a SKU, refitted from what was measured."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from predictor.case import load_gpu
from predictor.costs.design import Chip, chip_of
from predictor.costs.device_fitting import (
    device_differences,
    on_typical_device,
    product_effects,
)
from predictor.costs.families import FAMILIES
from predictor.costs.ladder import operator_key
from predictor.costs.loading import FIT_FILE, FIT_FORMAT, read_surface
from predictor.costs.physics import check_physics
from predictor.costs.points import POINT_COLUMNS, PointTable, point_tables
from predictor.costs.prediction import Floats
from predictor.costs.regression import fit_surface
from predictor.costs.settling import Bursts, fit_heat
from predictor.costs.surface import Surface
from predictor.costs.trend import Sample
from predictor.errors import FitError
from predictor.operators import Host, Operator
from predictor.tables import Folder, Row, read_folder, write_atomically

DRIFT = 1e-4
"""Most that a coefficient may differ from the one kept, where the share below is not more."""

DRIFT_OF_ERROR = 0.25
"""The same as a share of its standard error: where a minimum over tiles turns, libraries and
numbers of threads that round otherwise end a little apart."""

Merged = dict[Operator, list[Row]]


def merge(rows: Iterable[Row], *, regime: str, cache: str) -> Merged:
    """Good rows of one regime and cache state by operator, several runs of a shape together.

    Rows of unusual operands (zeros, uniform) are left out: they show what data do to power.
    """
    merged: Merged = {}
    for row in rows:
        usual = getattr(row.operator, "fill", "normal") == "normal"
        if usual and row.status == "ok" and row.regime == regime and row.cache == cache:
            merged.setdefault(row.operator, []).append(row)
    return merged


def _middle(rows: Sequence[Row], column: str) -> float:
    return float(np.median([getattr(row, column) for row in rows]))


def _clusters(operators: Sequence[Operator], names: tuple[str, ...]) -> NDArray[np.int64]:
    keys = [tuple(getattr(operator, name) for name in names) for operator in operators]
    numbers = {key: index for index, key in enumerate(sorted(set(keys)))}
    return np.array([numbers[key] for key in keys], dtype=np.int64)


def fit_folder(folder: Path) -> dict[str, Any]:
    """Fit every family that the folder of a SKU has a table of.

    Returns:
        The content of ``fit.json``.

    Raises:
        TableError: A table is damaged.
        FitError: There is nothing to fit, or a sweep is too thin.
    """
    measured = read_folder(folder)
    sku, chip = folder.name, chip_of(load_gpu(folder.name))
    check_physics(measured, chip)
    fits: dict[str, Any] = {}
    exact: dict[str, Any] = {}
    bursts: dict[str, Bursts] = {}
    effect: dict[str, float] = {}
    for name in FAMILIES:
        if name not in measured.tables:
            continue
        cold: Surface | None = None
        rows: Sequence[Row] = measured.tables[name].rows
        if name == "gemm":
            effect = product_effects(measured, chip)
            rows = on_typical_device(measured, effect, chip)
        for cache in ("cold", "warm"):
            merged = merge(rows, regime="burst", cache=cache)
            if not merged:
                continue
            key = f"{name}/{cache}"
            sample = replace(sample_of(merged, name, chip, cache), alike=cold)
            surface, report = fit_surface(sample, f"{sku}/{key}")
            errors = report.pop("errors")
            fits[key] = {"surface": surface.to_dict(), **report}
            if cache == "cold":
                cold = surface
                bursts[name] = partial(_burst_seconds, name, surface, chip)
            exact[key] = _tables(name, merged, error=errors)
    if "interference" in measured.tables:
        merged = merge(measured.tables["interference"].rows, regime="burst", cache="cold")
        exact["interference/cold"] = _tables("interference", merged)
    if not fits:
        msg = f"{folder}: no table to fit; measure one with `bench-run --out {folder}`"
        raise FitError(msg)
    return {
        "format": FIT_FORMAT,
        "sku": folder.name,
        "tables": _hashes(measured),
        "libraries": _versions(),
        "fits": fits,
        "measured": exact,
        "host": _host_rows(measured),
        "devices": {
            family: each.to_dict() for family, each in device_differences(measured).items()
        },
        "product_effects": effect,
        "heat": fit_heat(measured, load_gpu(folder.name), bursts).to_dict(),
    }


def _burst_seconds(
    name: str, surface: Surface, chip: Chip, operators: Sequence[Operator]
) -> Floats:
    design = FAMILIES[name].design(operators, chip, "cold")
    return np.asarray(np.exp(surface.evaluate(design)[0]) * design.bound)


def sample_of(merged: Merged, name: str, chip: Chip, cache: str) -> Sample:
    """Measured seconds of one family in one cache state, with its design."""
    operators, family = list(merged), FAMILIES[name]
    return Sample(
        operators=operators,
        design=family.design(operators, chip, cache),
        seconds=np.array([_middle(rows, "seconds") for rows in merged.values()]),
        clusters=_clusters(operators, family.shape),
        prior=family.prior,
        shared_prior=family.shared_prior,
        resemblance=family.resemblance,
    )


def _tables(family: str, merged: Merged, **columns: list[float]) -> list[PointTable]:
    """Measured points with their seconds and whatever else is kept of each."""
    seconds = {
        name: [float(f"{_middle(rows, name):.6g}") for rows in merged.values()]
        for name in POINT_COLUMNS
    }
    return point_tables(family, list(merged), seconds | columns)


def _host_rows(measured: Folder) -> list[list[Any]]:
    """Host seconds: the middle round of the middle machine, as a step meets them."""
    if "host" not in measured.tables:
        return []
    merged = merge(measured.tables["host"].rows, regime="burst", cache="cold")
    return [
        [*operator_key(operator), float(f"{_middle(rows, 'seconds'):.6g}")]
        for operator, rows in merged.items()
        if isinstance(operator, Host)
    ]


def _hashes(measured: Folder) -> dict[str, str]:
    names = [f"{operator}.csv" for operator in measured.tables]
    return {
        name: hashlib.sha256((measured.path / name).read_bytes()).hexdigest()[:16] for name in names
    }


def _versions() -> dict[str, str]:
    from importlib.metadata import version  # noqa: PLC0415 - only when a fit is written

    return {name: version(name) for name in ("numpy", "statsmodels")}


def write_fit(folder: Path) -> Path:
    """Refit a SKU and replace its ``fit.json``.

    Raises:
        FitError: As :func:`fit_folder` does, or no command could read what was fitted.
    """
    path, content = folder / FIT_FILE, fit_folder(folder)
    for key, entry in content["fits"].items():
        try:
            read_surface(key, entry["surface"])
        except ValueError as error:
            raise FitError(
                f"{folder}: {error}: its table is too thin to tell what its regressors do; measure "
                f"more of it, `bench-run --new --operators {key.partition('/')[0]} --out {folder}`"
            ) from error
    write_atomically(path, _in_lines(content) + "\n")
    return path


def _in_lines(content: Any, depth: int = 3) -> str:  # noqa: ANN401 - of any JSON
    """JSON with a line for each surface and each table of points, so that two fits can be compared.

    Entries of objects have lines of their own down to ``depth``, those of a list if they are near
    enough to the top.
    """
    if depth and isinstance(content, dict):
        entries = [
            f"{json.dumps(key)}:{_in_lines(content[key], depth - 1)}" for key in sorted(content)
        ]
        return "{\n" + ",\n".join(entries) + "\n}"
    if depth and isinstance(content, list):
        return "[\n" + ",\n".join(_in_lines(each, 0) for each in content) + "\n]"
    return json.dumps(content, separators=(",", ":"), sort_keys=True)


def check_fit(folder: Path) -> list[str]:
    """Refit a SKU and say how its ``fit.json`` differs; an empty list is no drift."""
    path = folder / FIT_FILE
    if not path.is_file():
        return [f"{path}: missing; run `predictor fit {folder.name}`"]
    old, new = json.loads(path.read_text(encoding="utf-8")), fit_folder(folder)
    drifts = [
        f"{path}: table {name} changed since the fit; run `predictor fit {folder.name}`"
        for name in sorted({*old["tables"], *new["tables"]})
        if old["tables"].get(name) != new["tables"].get(name)
    ]
    for key in sorted({*old["fits"], *new["fits"]}):
        if key not in old["fits"] or key not in new["fits"]:
            drifts.append(f"{path}: {key} is in only one of the old and the new fit")
            continue
        before = np.array(old["fits"][key]["surface"]["coefficients"])
        after = np.array(new["fits"][key]["surface"]["coefficients"])
        allowed = np.maximum(DRIFT, DRIFT_OF_ERROR * np.array(old["fits"][key]["standard_errors"]))
        if before.shape != after.shape or np.any(np.abs(before - after) > allowed):
            drifts.append(
                f"{path}: coefficients of {key} drifted by more than {DRIFT} and "
                f"{DRIFT_OF_ERROR} of their standard error"
            )
    return drifts
