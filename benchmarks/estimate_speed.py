"""How long an estimate takes: cold, as a process of its own, and again within one process.

python benchmarks/estimate_speed.py [repetitions]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

CASE = {
    "model": {"preset": "llama3-8b"},
    "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 8},
}
COMMAND = ["estimate", "llama3-8b", "--gpu", "h100-sxm5-80gb", "--num-gpus", "8", "--json"]


def cold_seconds() -> float:
    """Return the wall time of `predictor estimate` in a fresh process."""
    script = "import sys; from predictor.cli import main; main()"
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", script, *COMMAND], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def warm_seconds() -> float:
    """Return the time of one more estimate, from the mapping on, in this process."""
    from predictor import Case, estimate

    begin = time.perf_counter()
    estimate(Case.from_dict(CASE))
    return time.perf_counter() - begin


def main() -> None:
    """Print the median, lowest and highest of both."""
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    warm_seconds()
    for name, measure, times in (
        ("cold process", cold_seconds, repetitions),
        ("in process", warm_seconds, 10 * repetitions),
    ):
        seconds = [measure() for _ in range(times)]
        low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
        scaled = ", ".join(f"{1e3 * each:.1f}" for each in (middle, low, high))
        print(f"{name}: median, lowest, highest of {times}: {scaled} ms")


if __name__ == "__main__":
    main()
