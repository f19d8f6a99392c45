"""Our regressors on GEMM timings that others published: aiconfigurator-core (PyPI, Apache-2.0).

pip install aiconfigurator-core==0.12.0 pandas pyarrow
python benchmarks/published_gemm.py [training points, default 600 5180]

bf16 products with m >= 256, n and k >= 512 of H100 and A100, by collector. Whole (n, k) pairs are
held out in five folds; nothing is screened. The tables time each product alone, on warm weights.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from predictor.case import load_gpu
from predictor.costs.design import chip_of
from predictor.costs.newton import fit_tiles
from predictor.costs.products import product_design
from predictor.costs.regression import figures

if TYPE_CHECKING:
    from collections.abc import Iterator

    from predictor.costs.prediction import Floats, Ints
    from predictor.costs.tile_design import TileDesign

FOLDS = 5
GPUS = {"h100_sxm": "h100-sxm5-80gb", "a100_sxm": "a100-sxm4-80gb"}
LEAST = {"m": 256, "n": 512, "k": 512}
REFERENCE = "launch + flops + bytes: 6.6 % median, 18 % p95; tree ensemble: 3.1 %, 15 % (5,180)"


def tables() -> Iterator[tuple[str, str, Any]]:
    """Yield the GPU, the collector and the products of each table."""
    import pandas as pd

    found = importlib.util.find_spec("aiconfigurator_core")
    if found is None or found.origin is None:
        sys.exit("pip install aiconfigurator-core pandas pyarrow")
    systems = Path(found.origin).parent / "systems" / "data"
    for system, sku in GPUS.items():
        for path in sorted((systems / system / "gemm").glob("*/*/gemm_perf.parquet")):
            table = pd.read_parquet(path)
            wanted = table["gemm_dtype"] == "bfloat16"
            for name, least in LEAST.items():
                wanted &= table[name] >= least
            chosen = table[wanted].groupby(["m", "n", "k"], as_index=False)["latency"].median()
            yield sku, f"{path.parts[-3]} {path.parts[-2]}", chosen


def held_out(design: TileDesign, seconds: Floats, pair: Ints, points: int) -> Floats:
    """Logarithm of measured over predicted, each fold fitted to ``points`` products at most."""
    rng = np.random.default_rng(0)
    fold = rng.permutation(pair.max() + 1)[pair] % FOLDS
    log_ratio, error = np.log(seconds / design.bound), np.zeros(len(seconds))
    for one in range(FOLDS):
        train = rng.permutation(np.flatnonzero(fold != one))[:points]
        chosen = np.zeros(len(seconds), dtype=bool)
        chosen[train] = True
        coefficients, _ = fit_tiles(design.take(chosen), log_ratio[chosen])
        test = fold == one
        error[test] = log_ratio[test] - design.take(test).log_trend(coefficients)
    return error


def main() -> None:
    """Print held-out errors by GPU, collector and number of training points."""
    counts = [int(word) for word in sys.argv[1:]] or [600, 5180]
    print(f"reference (H100): {REFERENCE}")
    for sku, collector, table in tables():
        columns = {name: table[name].to_numpy() for name in LEAST}
        design = product_design(columns, chip_of(load_gpu(sku)))
        seconds = table["latency"].to_numpy() * 1e-3
        pair = table.groupby(["n", "k"]).ngroup().to_numpy()
        for points in counts:
            error = held_out(design, seconds, pair, points)
            found = figures(seconds, error, np.zeros(len(error)))
            print(
                f"{sku} {collector}: {len(seconds)} products, {points} to fit: median "
                f"{100 * found['median']:.1f} %, p95 {100 * found['p95']:.1f} %, time-weighted "
                f"{100 * found['time_weighted']:.1f} %",
                flush=True,
            )


if __name__ == "__main__":
    main()
