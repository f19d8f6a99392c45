"""One rank of torch.distributed: seconds of each iteration of each collective, as JSON.

Started by test_multigpu.py with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT in its environment.
Launches queue behind a sleeping kernel, so that the host's cost is hidden, as it is in ours.
"""

import json
import os
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist

ITERATIONS = 20
SLEEP_CYCLES = 40_000_000


def call(name: str, size_bytes: int, ranks: int) -> Callable[[], Any]:
    """The collective of a name on its own buffers."""
    whole = torch.zeros(size_bytes // 2, dtype=torch.bfloat16, device="cuda")
    part = torch.zeros(size_bytes // 2 // ranks, dtype=torch.bfloat16, device="cuda")
    other = torch.zeros_like(whole)
    return {
        "all_reduce": lambda: dist.all_reduce(whole),
        "all_gather": lambda: dist.all_gather_into_tensor(whole, part),
        "reduce_scatter": lambda: dist.reduce_scatter_tensor(part, whole),
        "all_to_all": lambda: dist.all_to_all_single(other, whole),
    }[name]


def seconds(work: Callable[[], Any]) -> list[float]:
    """Of each iteration, in a queue that never runs dry."""
    work()
    torch.cuda.synchronize()
    events = [torch.cuda.Event(enable_timing=True) for _ in range(ITERATIONS + 1)]
    dist.barrier()
    torch.cuda._sleep(SLEEP_CYCLES)
    work()
    events[0].record()
    for event in events[1:]:
        work()
        event.record()
    torch.cuda.synchronize()
    return [1e-3 * a.elapsed_time(b) for a, b in pairwise(events)]


def main() -> None:
    """Measure every ``name:bytes`` of the command line."""
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", device_id=torch.device("cuda", rank))
    found = {}
    for word in sys.argv[1:]:
        name, _, size = word.partition(":")
        work = call(name, int(size), ranks)
        found[word] = [seconds(work) for _ in range(3)]
    print(json.dumps(found))  # noqa: T201 - the answer
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
