"""One rank of torch.distributed: seconds of each collective, as JSON.

Started by test_multigpu.py with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT in its environment.
Calls are replayed as a CUDA graph, as ours are: launched one by one, PyTorch's wait for an event of
another stream each, which at 16 MiB is up to a fifth of a call.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

CALLS = 20
ROUNDS = 5
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


def replayed(work: Callable[[], Any]) -> torch.cuda.CUDAGraph:
    """A graph of some calls, one after another."""
    work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        for _ in range(CALLS):
            work()
    return graph


def seconds(graph: torch.cuda.CUDAGraph) -> float:
    """Of one call, in a graph that waits for every rank's host."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    dist.barrier()
    torch.cuda._sleep(SLEEP_CYCLES)
    graph.replay()
    start.record()
    graph.replay()
    end.record()
    torch.cuda.synchronize()
    return 1e-3 * start.elapsed_time(end) / CALLS


def main() -> None:
    """Measure every ``name:bytes`` of the command line."""
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", device_id=torch.device("cuda", rank))
    found = {}
    for word in sys.argv[1:]:
        name, _, size = word.partition(":")
        graph = replayed(call(name, int(size), ranks))
        found[word] = [seconds(graph) for _ in range(ROUNDS)]
        # NCCL waits for ever for the end of a communicator whose captured calls are still kept.
        graph.reset()
    print(json.dumps(found))  # noqa: T201 - the answer
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
