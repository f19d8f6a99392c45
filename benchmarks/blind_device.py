"""Cost functions against a device that no table holds: shapes they know, and shapes held out.

python benchmarks/blind_device.py SKU FOLDER [draws of folds, default 2]

FOLDER is what ``bench-run --out FOLDER`` wrote on one more device of the SKU. Its shapes are asked
as they stand in the tables, then of fits to tables without them: five folds of whole shapes, drawn
by a hash, not as the fit draws its own. A product's (n, k) is held out with its (k, n), and a
kernel's warm rows with its cold ones.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

from predictor.case import bench_results_folder
from predictor.case.gpus import FOLDER_VARIABLE
from predictor.costs import load_costs
from predictor.costs.families import FAMILIES
from predictor.costs.fitting import merge, write_fit
from predictor.operators import Operator
from predictor.tables import read_folder, write_table

FOLDS = 5
Measured = dict[tuple[str, str], dict[Operator, float]]


def fold_of(operator: Operator, draw: int) -> int:
    """Fold of a shape; an operator's kinds of calls are together."""
    shape = [str(getattr(operator, name)) for name in FAMILIES[operator.name].shape]
    if operator.name == "gemm":
        shape.sort()
    told = f"{draw} {operator.name} {shape}"
    return int.from_bytes(hashlib.sha256(told.encode()).digest()[:4]) % FOLDS


def measured_of(folder: Path) -> Measured:
    """Median seconds of bursts by family and cache state."""
    found: Measured = {}
    for name, table in read_folder(folder).tables.items():
        for cache in ("cold", "warm") if name in FAMILIES else ():
            rows = merge(table.rows, regime="burst", cache=cache)
            if rows:
                found[name, cache] = {
                    operator: float(np.median([row.seconds or 0.0 for row in each]))
                    for operator, each in rows.items()
                }
    return found


def ask(sku: str, measured: Measured, draw: int, fold: int | None) -> dict[str, list[np.ndarray]]:
    """Measured seconds, predicted ones, low and high, of a fold or of all shapes, by family."""
    costs, found = load_costs(sku), {}
    for (name, cache), seconds in measured.items():
        chosen = [op for op in seconds if fold is None or fold_of(op, draw) == fold]
        if chosen:
            told = costs.predict(chosen, cache=cache)
            truth = np.array([seconds[operator] for operator in chosen])
            found[f"{name}/{cache}"] = [truth, told.seconds, told.low, told.high]
    return found


def without(source: Path, root: Path, sku: str, draw: int, fold: int) -> None:
    """Copy all tables without one fold of the SKU's shapes, and fit what is left."""
    shutil.copytree(source, root)
    for name, table in read_folder(root / sku).tables.items():
        if name in FAMILIES:
            kept = [row for row in table.rows if fold_of(row.operator, draw) != fold]
            write_table(root / sku / f"{name}.csv", kept)
    write_fit(root / sku)


def show(answers: dict[str, list[list[np.ndarray]]]) -> None:
    """Print a line for each family."""
    for key, parts in answers.items():
        truth, seconds, low, high = (np.concatenate(each) for each in zip(*parts, strict=True))
        error = np.abs(seconds / truth - 1.0)
        weighted = np.sum(error * truth) / np.sum(truth)
        inside = np.mean((low <= truth) & (truth <= high))
        print(
            f"{key}: {len(truth)} answers, median {100 * np.median(error):.1f} %, p95 "
            f"{100 * np.quantile(error, 0.95):.1f} %, time-weighted {100 * weighted:.1f} %, "
            f"inside the 90 % interval {100 * inside:.1f} %",
            flush=True,
        )


def main() -> None:
    """Print errors and coverage on the new device, known shapes first."""
    sku, folder = sys.argv[1], Path(sys.argv[2])
    draws = int(next(iter(sys.argv[3:]), "2"))
    source, measured = bench_results_folder(), measured_of(folder)
    print("shapes that the tables hold")
    show({key: [answer] for key, answer in ask(sku, measured, 0, None).items()})
    answers = defaultdict(list)
    for draw in range(draws):
        for fold in range(FOLDS):
            with tempfile.TemporaryDirectory() as scratch:
                root = Path(scratch) / "tables"
                without(source, root, sku, draw, fold)
                os.environ[FOLDER_VARIABLE] = str(root)
                for key, answer in ask(sku, measured, draw, fold).items():
                    answers[key].append(answer)
    print(f"shapes held out, {draws} draws of {FOLDS} folds")
    show(answers)


if __name__ == "__main__":
    main()
