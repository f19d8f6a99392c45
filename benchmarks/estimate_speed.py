"""How long an estimate takes: cold, as a process of its own, and again within one process.

Processor time leaves out what other work on the machine takes. Plans are timed twice: the first
time, when their launches are named and priced and their schedule is laid out, and again, when only
the timeline runs.

python benchmarks/estimate_speed.py [repetitions]
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

COMMAND = ["estimate", "llama3-8b", "--gpu", "h100-sxm5-80gb", "--num-gpus", "8", "--json"]

DEEP = {"tensor_parallel": 8, "pipeline_parallel": 8, "virtual_pipeline": 3}
MT_NLG = {"num_layers": 105, "hidden_size": 20480, "num_attention_heads": 128, "vocab_size": 51200}
EXPERTS = {"tensor_parallel": 1, "pipeline_parallel": 16, "expert_parallel": 64}
PLANS = {
    "Llama-3 8B, one GPU": ({"preset": "llama3-8b"}, {}, 1, 8),
    "Llama-3 8B, 8 GPUs (README)": ({"preset": "llama3-8b"}, {}, 8, 128),
    "GPT-3 175B, TP8 PP8 VPP3, 512 GPUs": ({"preset": "gpt3-175b"}, DEEP, 512, 512),
    "GPT-3 175B, TP8 PP8 VPP3, 98,304 GPUs": ({"preset": "gpt3-175b"}, DEEP, 98_304, 98_304),
    "530B, TP8 PP35 VPP3, 280 micro-batches": (MT_NLG, DEEP | {"pipeline_parallel": 35}, 280, 280),
    "DeepSeek-V3, PP16 EP64, 1,024 GPUs": ({"preset": "deepseek-v3"}, EXPERTS, 1024, 8192),
}
"""Model, plan, GPUs, global batch size."""

REPETITIONS = 40
"""Of one plan: the lowest of them is printed, as other work can only make them slower."""


def cold_seconds(compiled: str) -> tuple[float, float]:
    """Return the wall and processor time of `predictor estimate` in a fresh process.

    It finds its modules compiled in a folder, as those of an installed package are.
    """
    environment = os.environ | {"PYTHONPYCACHEPREFIX": compiled, "PYTHONDONTWRITEBYTECODE": ""}
    begin, before = time.perf_counter(), os.times()
    command = [sys.executable, "-m", "predictor", *COMMAND]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    wall, after = time.perf_counter() - begin, os.times()
    user = after.children_user - before.children_user
    return wall, user + after.children_system - before.children_system


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
    for _ in range(REPETITIONS):
        begin = time.process_time()
        estimate(case)
        times.append(time.process_time() - begin)
    return times


def main() -> None:
    """Print the median, lowest and highest cold time, then plans."""
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    with tempfile.TemporaryDirectory() as compiled:
        cold_seconds(compiled)  # compiles
        times = zip(*[cold_seconds(compiled) for _ in range(repetitions)], strict=True)
    for name, seconds in zip(("wall", "processor"), times, strict=True):
        low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
        scaled = ", ".join(f"{1e3 * each:.0f}" for each in (middle, low, high))
        print(f"cold process, {name}: median, lowest, highest of {repetitions}: {scaled} ms")
    for name in PLANS:
        first, *again = plan_seconds(name)
        print(f"{name}: first {1e3 * first:.1f} ms, again {1e3 * min(again):.1f} ms")


if __name__ == "__main__":
    main()
