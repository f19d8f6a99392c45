"""Plans a second of a search, its memory, and what the best plan found takes.

python benchmarks/search_speed.py [--gpu SKU] [--processes N]

Processor seconds, of children too, are told beside the clock's: they depend less on what else runs.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

SPACES = {
    "GPT-3 175B on 1,024 GPUs": ("gpt3-175b", 1024, 1536, 2048),
    "DeepSeek-V3 on 2,048 GPUs": ("deepseek-v3", 2048, 4096, 4096),
}
"""Model, GPUs, global batch size, sequence length."""

WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def searched(name: str, gpu: str, processes: int) -> str:
    """Search one space in a process of its own and return a line about it."""
    script = (
        "import sys; sys.path.insert(0, sys.argv.pop()); "
        "import search_speed; search_speed.one(*sys.argv[1:])"
    )
    folder = str(__file__).rpartition("/")[0] or "."
    command = [sys.executable, "-c", script, name, gpu, str(processes), folder]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def one(name: str, gpu: str, processes: str) -> None:
    """Search one space and print its figures."""
    from predictor import search
    from predictor.costs import load_costs

    load_costs(gpu)
    model, gpus, batch, length = SPACES[name]
    begin, processor = time.perf_counter(), _processor_seconds()
    found = search(
        model,
        gpu=gpu,
        num_gpus=gpus,
        global_batch_size=batch,
        constraints={"seq_length": length},
        processes=int(processes),
    )
    wall, spent = time.perf_counter() - begin, _processor_seconds() - processor
    most = max(resource.getrusage(who).ru_maxrss for who in WHO)
    memory = most / 1024
    print(
        f"{name}: {found.plans_evaluated:,} plans ({found.plans_fitting:,} fit, "
        f"{found.plans_fitting - found.plans_passed_over:,} priced in full) in {wall:.2f} s, "
        f"{spent:.2f} s of processor: {found.plans_evaluated / wall:,.0f} plans/s, "
        f"{memory:.0f} MiB; best {found.plans[0].iteration_seconds:.3f} s"
    )


def _processor_seconds() -> float:
    used = [resource.getrusage(who) for who in WHO]
    return sum(each.ru_utime + each.ru_stime for each in used)


def main() -> None:
    """Print a line for each space."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu", default="h100-sxm5-80gb")
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    for name in SPACES:
        print(searched(name, asked.gpu, asked.processes), flush=True)


if __name__ == "__main__":
    main()
