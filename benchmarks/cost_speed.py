"""How fast costs are: products answered a second on one core, and the time to load a SKU.

OMP_NUM_THREADS=1 python benchmarks/cost_speed.py [millions of shapes, default 1]
"""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np

from predictor.costs import load_costs

SKU = "h100-sxm5-80gb"
LOADING = f"""
import time
from predictor.case import load_gpu
from predictor.costs.loading import _load, load_costs
from predictor.costs.model import Costs
from predictor.case import bench_results_folder
load_gpu("{SKU}")
begin = time.process_time()
load_costs("{SKU}")
print(time.process_time() - begin)
import sys
assert "statsmodels" not in sys.modules and "scipy" not in sys.modules
"""


def main() -> None:
    """Print rates in processor time, which other work on the machine does not count in."""
    count = int(1e6 * float(sys.argv[1] if len(sys.argv) > 1 else 1))
    rng = np.random.default_rng(0)
    m, n, k = (rng.integers(1, 257, count) * 64 for _ in range(3))
    costs = load_costs(SKU)
    costs.predict_products(m=m[:1000], n=n[:1000], k=k[:1000])
    for kind in ("forward", "dgrad", "wgrad"):
        begin = time.process_time()
        answer = costs.predict_products(m=m, n=n, k=k, kind=kind)
        seconds = time.process_time() - begin
        print(f"{kind}: {count / seconds / 1e6:.2f} million products a second")
        assert np.all(np.isfinite(answer.seconds))  # noqa: S101 - a benchmark checks itself
    command = [sys.executable, "-c", LOADING]
    times = sorted(
        float(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(5)
    )
    print(f"loading {SKU}: {1e3 * times[2]:.1f} ms (median of 5 processes)")


if __name__ == "__main__":
    main()
