"""How far two measurements of one SKU lie apart: two runs on one device, or two devices.

In come two folders of tables (each may be narrowed to one run), out goes the ratio of what both
measured, by operator.
"""

from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from predictor.errors import BenchError, nearest
from predictor.tables import Folder, Row, read_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Two measurements side by side.

    Attributes:
        sku: Of both.
        same_device: Both come from one GPU, as far as hashes of its UUID tell.
        operators: For each operator: ``points`` that both hold, the ``median`` of second over first
            seconds, the median and 90th percentile of its distance from one.
    """

    sku: str
    same_device: bool
    operators: dict[str, dict[str, float]]

    def to_dict(self) -> dict[str, Any]:
        """JSON of ``bench-run compare --json``."""
        return {"sku": self.sku, "same_device": self.same_device, "operators": self.operators}


def compare(first: str, second: str) -> Difference:
    """Compare two measurements, each ``FOLDER`` or ``FOLDER#RUN``.

    Raises:
        BenchError: They are of different SKUs, or have no point in common.
        TableError: A folder is damaged.
    """
    one, other = _rows(first), _rows(second)
    if one.sku != other.sku:
        raise BenchError(f"{first} is of {one.sku} and {second} of {other.sku}: nothing to compare")
    if not one.seconds.keys() & other.seconds.keys():
        raise BenchError(f"{first} and {second} have no measured point in common")
    return _difference(one, other)


def compare_devices(folder: str) -> dict[tuple[str, str], Difference]:
    """Compare every two devices whose runs a folder holds, by the hashes of their UUIDs.

    Raises:
        BenchError: No two devices measured the same point.
        TableError: The folder is damaged.
    """
    held, runs = read_folder(Path(folder)), defaultdict(set)
    for table in held.tables.values():
        for run in {row.run for row in table.rows if _is_sound(row)}:
            if device := held.runs[run].get("gpu_uuid_hash"):
                runs[str(device)].add(run)
    sides = {device: _side(held, folder, runs[device]) for device in sorted(runs)}
    found = {
        (one, other): _difference(sides[one], sides[other])
        for one, other in combinations(sides, 2)
        if sides[one].seconds.keys() & sides[other].seconds.keys()
    }
    if not found:
        raise BenchError(
            f"{folder}: no point was measured on two devices; run `bench-run --out {folder}` "
            "without --new on another one"
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    sku: str
    devices: frozenset[str]
    seconds: dict[tuple[Any, str, str], float]


def _difference(one: _Side, other: _Side) -> Difference:
    ratios: dict[str, list[float]] = defaultdict(list)
    for key, seconds in one.seconds.items():
        if key in other.seconds:
            ratios[key[0].name].append(other.seconds[key] / seconds)
    ratios["all"] = [ratio for family in list(ratios.values()) for ratio in family]
    return Difference(
        sku=one.sku,
        same_device=bool(one.devices) and one.devices == other.devices,
        operators={name: _figures(values) for name, values in ratios.items()},
    )


def _rows(place: str) -> _Side:
    path, _, run = place.partition("#")
    folder = read_folder(Path(path))
    if not folder.tables:
        raise BenchError(f"{path} holds no tables; measure some with `bench-run --out {path}`")
    if run and run not in folder.runs:
        msg = (
            f"{path} has no run {run!r}{nearest(run, folder.runs)}; it has {', '.join(folder.runs)}"
        )
        raise BenchError(msg)
    return _side(folder, place, {run} if run else set(folder.runs))


def _side(folder: Folder, place: str, chosen: set[str]) -> _Side:
    """Medians of a folder's points over some of its runs."""
    rows = [r for t in folder.tables.values() for r in t.rows if _is_sound(r) and r.run in chosen]
    runs = {row.run for row in rows}
    merged: dict[tuple[Any, str, str], list[float]] = defaultdict(list)
    for row in rows:
        merged[row.operator, row.regime, row.cache].append(row.seconds or 0.0)
    return _Side(
        sku=_only(folder, runs, place),
        devices=frozenset(str(folder.runs[r].get("gpu_uuid_hash")) for r in runs),
        seconds={key: median(values) for key, values in merged.items()},
    )


def _is_sound(row: Row) -> bool:
    return row.status == "ok" and bool(row.seconds)


def _only(folder: Folder, runs: set[str], place: str) -> str:
    skus = sorted({str(folder.runs[run].get("sku")) for run in runs})
    if len(skus) != 1:
        raise BenchError(f"{place} holds runs of {' and '.join(skus) or 'nothing'}; name one: #RUN")
    return skus[0]


def _figures(ratios: list[float]) -> dict[str, float]:
    apart = sorted(abs(ratio - 1) for ratio in ratios)
    p90 = quantiles(apart, n=10, method="inclusive")[-1] if len(apart) > 1 else apart[0]
    return {
        "points": len(ratios),
        "median_ratio": median(ratios),
        "median_difference": median(apart),
        "p90_difference": p90,
    }
