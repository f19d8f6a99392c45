"""What a short run would cost in accuracy, from the tables of many.

    python benchmarks/short_budget.py [SKU [FAMILY ...]]

Chooses out of a SKU's committed tables what ``bench-run`` plans to measure in two minutes, and in
the eight of a default run, fits each, and compares held-out errors with one another and with those
of the whole tables: all fits predict the same shapes, which none has seen (five folds of whole
shapes).
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from predictor.bench.sweep import default_points, plan
from predictor.case import load_gpu
from predictor.costs.design import chip_of
from predictor.costs.fitting import merge, sample_of
from predictor.costs.regression import FOLDS, fit_surface
from predictor.costs.trend import Sample
from predictor.operators import Operator
from predictor.tables import read_folder

BUDGETS_SECONDS = (120.0, 480.0)
ROOT = Path(__file__).resolve().parents[1] / "bench_results"


def measured(sku: str, family: str) -> tuple[list[Operator], Sample]:
    """The cold points of a family, as ``predictor fit`` sees them, and their operators."""
    merged = merge(read_folder(ROOT / sku).tables[family].rows, regime="burst", cache="cold")
    return list(merged), sample_of(merged, family, chip_of(load_gpu(sku)), "cold")


def held_out_errors(sample: Sample, kept: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Relative errors of every point, by fits to what is ``kept`` of the other folds."""
    order = np.random.default_rng(0).permutation(int(sample.clusters.max()) + 1)
    folds = order[sample.clusters] % FOLDS
    errors = np.zeros(len(folds))
    for fold in range(FOLDS):
        surface, _ = fit_surface(sample.take((folds != fold) & kept), "short budget")
        test = sample.take(folds == fold)
        ratio, _ = surface.evaluate(test.design)
        errors[folds == fold] = np.exp(ratio - test.log_ratio) - 1
    return errors


def figures(errors: NDArray[np.float64], seconds: NDArray[np.float64]) -> tuple[float, ...]:
    """Median, 90th percentile and time-weighted error."""
    size = np.abs(errors)
    return np.median(size), np.quantile(size, 0.9), np.sum(size * seconds) / np.sum(seconds)


def planned(family: str, budget_seconds: float) -> set[Operator]:
    """The points of a family that a run of all would measure within a budget, cold."""
    points = plan(default_points(), budget_seconds=budget_seconds).points
    return {p.operator for p in points if p.operator.name == family and p.cache == "cold"}


def main(sku: str = "h100-sxm5-80gb", *families: str) -> None:
    """Print a table a family: a line a budget, and one for all points."""
    print(f"{sku}: held-out errors, and their ratios to those of a fit to all points")
    for family in families or ("gemm", "attention", "memory_bound"):
        operators, sample = measured(sku, family)
        every = np.ones(len(operators), dtype=np.bool_)
        whole = figures(held_out_errors(sample, every), sample.seconds)
        print(f"{family}: {_line(len(operators), whole, whole)}", flush=True)
        for budget in BUDGETS_SECONDS:
            wanted = planned(family, budget)
            kept = np.array([operator in wanted for operator in operators])
            errors = figures(held_out_errors(sample, kept), sample.seconds)
            print(f"  {budget:.0f} s: {_line(int(kept.sum()), errors, whole)}", flush=True)


def _line(points: int, errors: tuple[float, ...], whole: tuple[float, ...]) -> str:
    names = ("median", "p90", "time-weighted")
    shown = (
        f"{name} {100 * error:.2f} % ({error / all_:.2f})"
        for name, error, all_ in zip(names, errors, whole, strict=True)
    )
    return f"{points} points, {', '.join(shown)}"


if __name__ == "__main__":
    main(*sys.argv[1:])
