"""How well a measured product foretells itself: on the next device, and on a SKU of equal SMs.

python benchmarks/noise_floor.py

The first lines compare devices of one SKU by the points that both measured, and every row with the
held-out prediction of its product for a typical device (eq. 17a). The last ones compare H100 and
H200, whose SMs, clocks and library are the same: the held-out error that remains of each product
where the error of the very same product on the other SKU is taken from it. A cost function that
knew every shape, but not this device and round, would still miss by about as much.
"""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from predictor.case import bench_results_folder
from predictor.costs.fitting import merge
from predictor.costs.points import point_rows
from predictor.operators import Gemm
from predictor.tables import read_folder

if TYPE_CHECKING:
    from predictor.costs.prediction import Floats
    from predictor.operators import Operator

SKUS = ("h100-sxm5-80gb", "h200-sxm5-141gb")
NUMBERS = {"seconds", "seconds_low", "seconds_high", "error"}
LONG_SECONDS = 0.01


def said(log_error: Floats, seconds: Floats) -> str:
    """Median, 95th percentile and time-weighted mean of errors."""
    size = np.abs(np.expm1(-log_error))
    weighted = np.sum(size * seconds) / np.sum(seconds)
    return (
        f"{len(size)} products: median {100 * np.median(size):.1f} %, "
        f"p95 {100 * np.quantile(size, 0.95):.1f} %, time-weighted {100 * weighted:.2f} %"
    )


def devices(sku: str) -> None:
    """Print what each pair of devices differs by."""
    measured = read_folder(bench_results_folder() / sku)
    named = {run: str(told.get("gpu_uuid_hash"))[:6] for run, told in measured.runs.items()}
    pairs: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for rows in merge(measured.tables["gemm"].rows, regime="burst", cache="cold").values():
        for one, other in combinations(rows, 2):
            pair = named[one.run], named[other.run]
            if pair[0] != pair[1]:
                pairs[pair].append((np.log(other.seconds / one.seconds), one.seconds))
    for (one, other), found in pairs.items():
        ratios, seconds = np.array(found).T
        print(f"{sku} {one} and {other}: {said(ratios, seconds)}")


def rows(sku: str) -> None:
    """Print how far single rows, each of its own device and run, lie from held-out predictions."""
    predicted = {key: np.log(seconds) - error for key, (error, seconds) in errors(sku).items()}
    measured = read_folder(bench_results_folder() / sku).tables["gemm"].rows
    pairs = [
        (np.log(row.seconds) - predicted[operator], row.seconds)
        for operator, same in merge(measured, regime="burst", cache="cold").items()
        if operator in predicted
        for row in same
    ]
    left, seconds = np.array(pairs).T
    print(f"{sku} rows held out: {said(left, seconds)}")


def errors(sku: str) -> dict[Operator, tuple[float, float]]:
    """Held-out error and seconds of each product."""
    raw = json.loads((bench_results_folder() / sku / "fit.json").read_text(encoding="utf-8"))
    return {
        Gemm(**{k: v for k, v in row.items() if k not in NUMBERS}): (row["error"], row["seconds"])
        for row in point_rows("gemm", raw["measured"]["gemm/cold"])
    }


def main() -> None:
    """Print the floors."""
    for sku in SKUS:
        devices(sku)
        rows(sku)
    one, other = (errors(sku) for sku in SKUS)
    both = [key for key in one if key in other]
    first, second = (np.array([table[key] for key in both]) for table in (one, other))
    for sku, mine, theirs in ((SKUS[0], first, second), (SKUS[1], second, first)):
        left, seconds = mine[:, 0] - theirs[:, 0], mine[:, 1]
        long = seconds > LONG_SECONDS
        print(f"{sku} held out: {said(mine[:, 0], seconds)}")
        print(f"{sku} told by the other SKU's error: {said(left, seconds)}")
        print(f"{sku} told, longer than 10 ms: {said(left[long], seconds[long])}")


if __name__ == "__main__":
    main()
