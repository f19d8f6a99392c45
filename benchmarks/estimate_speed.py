"""How long an estimate takes: cold, as a process of its own, and again within one process.

Plans of many stages are timed twice: the first time, when their launches are named and priced and
their schedule is laid out, and again, when only the timeline runs.

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


DEEP = {"tensor_parallel": 8, "pipeline_parallel": 8, "virtual_pipeline": 3}
MT_NLG = {"num_layers": 105, "hidden_size": 20480, "num_attention_heads": 128, "vocab_size": 51200}
PLANS = {
    "GPT-3 175B, TP8 PP8 VPP3, 512 GPUs": ({"preset": "gpt3-175b"}, DEEP, 512, 512),
    "GPT-3 175B, TP8 PP8 VPP3, 98,304 GPUs": ({"preset": "gpt3-175b"}, DEEP, 98_304, 98_304),
    "530B, TP8 PP35 VPP3, 280 micro-batches": (MT_NLG, DEEP | {"pipeline_parallel": 35}, 280, 280),
}
"""Model, plan, GPUs, global batch size."""


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


def plan_seconds(name: str) -> list[float]:
    """Return the times of estimates of one plan, the first of the process first."""
    from predictor import Case, estimate

    model, plan, gpus, batch = PLANS[name]
    case = Case.from_dict(
        {
            "model": model,
            "training": {"seq_length": 2048, "global_batch_size": batch, "recompute": "full"},
            "plan": plan,
            "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": gpus},
        }
    )
    times = []
    for _ in range(6):
        begin = time.perf_counter()
        estimate(case)
        times.append(time.perf_counter() - begin)
    return times


def main() -> None:
    """Print the median, lowest and highest of both, then deep plans."""
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
    for name in PLANS:
        first, *again = plan_seconds(name)
        print(f"{name}: first {1e3 * first:.1f} ms, again {1e3 * min(again):.1f} ms")


if __name__ == "__main__":
    main()
