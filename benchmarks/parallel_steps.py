"""Measure real training steps over the GPUs of one host, as run records.

    torchrun --nproc-per-node 4 benchmarks/parallel_steps.py OUT --gpu SKU [--only NAME ...]

Needs PyTorch; Megatron-Core (0.19, local layers) or transformers, whichever a step runs on. Before
a step runs, its estimate is printed, from the tables as they stand. Rank 0 writes
``OUT/parallel_steps.jsonl`` (run records, one a line), and with ``--profile`` also
``OUT/parallel_kernels.jsonl`` (launches and seconds of each kernel of one more step; a profiler
that ran once slows every later launch of its process, so that those times are not recorded).
"""

import argparse
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parent))
from hf_steps import GPT2, LLAMA, predicted, profile

from predictor.bench.steps.child import ITERATIONS, hugging_face_iteration

WARM_UP = 4
MEGATRON = LLAMA | {"name": "megatron-gpt", "tied_embeddings": False, "qk_norm": False}
LLAMA_1B = {"num_layers": 16, "hidden_size": 2048, "ffn_hidden_size": 8192} | {
    "num_attention_heads": 32,
    "num_query_groups": 8,
    "head_dim": 64,
    "vocab_size": 128256,
}
LLAMA_8B = {"num_layers": 32, "hidden_size": 4096, "ffn_hidden_size": 14336} | {
    "num_attention_heads": 32,
    "num_query_groups": 8,
    "head_dim": 128,
    "vocab_size": 128256,
}
QWEN3_MOE = (
    MEGATRON
    | {"hidden_size": 2048, "ffn_hidden_size": 6144, "qk_norm": True, "vocab_size": 151936}
    | {"num_attention_heads": 32, "num_query_groups": 4, "head_dim": 128}
    | {"moe": {"num_experts": 128, "top_k": 8, "expert_ffn_hidden_size": 768}}
)
SHAPES: dict[str, dict[str, Any]] = {
    "l1b": MEGATRON | LLAMA_1B,
    "l8b": MEGATRON | LLAMA_8B | {"num_layers": 8},
    "gpt7": GPT2
    | {"name": "megatron-gpt", "num_layers": 8, "hidden_size": 4096, "ffn_hidden_size": 16384}
    | {"num_attention_heads": 32, "num_query_groups": 32, "head_dim": 128, "vocab_size": 51200}
    | {"tied_embeddings": False, "qk_norm": False},
    "mixtral": MEGATRON
    | LLAMA_8B
    | {"num_layers": 4, "vocab_size": 32000}
    | {"moe": {"num_experts": 8, "top_k": 2, "expert_ffn_hidden_size": 14336}},
    "qwen3-moe": QWEN3_MOE | {"num_layers": 6},
    "qwen3-moe-L2": QWEN3_MOE | {"num_layers": 2},
    "llama-1b": LLAMA | LLAMA_1B | {"name": "llama", "tied_embeddings": True, "qk_norm": False},
    "llama-8b": LLAMA | LLAMA_8B | {"name": "llama", "tied_embeddings": False, "qk_norm": False},
}

Step = tuple[str, int, int, int, dict[str, Any]]
STEPS: dict[str, Step] = {
    # shape, sequence, micro-batch, micro-batches, plan
    "l8b-tp4": ("l8b", 4096, 1, 8, {"tensor_parallel": 4}),
    "l8b-tp2-pp2": ("l8b", 4096, 1, 8, {"tensor_parallel": 2, "pipeline_parallel": 2}),
    "l8b-pp4": ("l8b", 4096, 1, 8, {"pipeline_parallel": 4}),
    "l8b-pp4-vpp2": ("l8b", 4096, 1, 8, {"pipeline_parallel": 4, "virtual_pipeline": 2}),
    "l8b-tp2-dp2": ("l8b", 4096, 1, 4, {"tensor_parallel": 2}),
    "l1b-dp4-distopt": ("l1b", 4096, 2, 2, {"sharding": "optimizer"}),
    "l1b-dp4-overlap": ("l1b", 4096, 2, 1, {"overlap_grad_reduce": True}),
    "l1b-pp2-dp2": ("l1b", 4096, 2, 4, {"pipeline_parallel": 2}),
    "mixtral-ep4": ("mixtral", 4096, 1, 2, {"expert_parallel": 4}),
    "mixtral-ep2-tp2": (
        "mixtral",
        4096,
        1,
        2,
        {"tensor_parallel": 2, "expert_parallel": 2, "sequence_parallel": True},
    ),
    "mixtral-ep2-etp2": (
        "mixtral",
        4096,
        1,
        2,
        {"expert_tensor_parallel": 2, "expert_parallel": 2}
        | {"tensor_parallel": 2, "sequence_parallel": True},
    ),
    "gpt7-tp2-sp": ("gpt7", 2048, 4, 4, {"tensor_parallel": 2, "sequence_parallel": True}),
    "l8b-tp2-sp": ("l8b", 4096, 1, 8, {"tensor_parallel": 2, "sequence_parallel": True}),
    "gpt7-tp4-sp": ("gpt7", 2048, 4, 4, {"tensor_parallel": 4, "sequence_parallel": True}),
    "l8b-tp2-sp-pp2": (
        "l8b",
        4096,
        1,
        8,
        {"tensor_parallel": 2, "sequence_parallel": True, "pipeline_parallel": 2},
    ),
    "qwen3-moe-ep4": ("qwen3-moe", 4096, 1, 2, {"expert_parallel": 4}),
    "qwen3-moe-L2-ep2": ("qwen3-moe-L2", 4096, 1, 2, {"expert_parallel": 2}),
    "qwen3-moe-L2-ep2-tp2": (
        "qwen3-moe-L2",
        4096,
        1,
        2,
        {"tensor_parallel": 2, "expert_parallel": 2, "sequence_parallel": True},
    ),
    "fsdp-l8b-b1": ("llama-8b", 4096, 1, 1, {"sharding": "parameters"}),
    "fsdp-l8b-b1-s8192": ("llama-8b", 8192, 1, 1, {"sharding": "parameters"}),
    "fsdp-l1b-b2": ("llama-1b", 4096, 2, 1, {"sharding": "parameters"}),
}


def record_of(name: str, gpu: str, world: int) -> dict[str, Any]:
    """The run record of a step, but for what is measured."""
    family, seq_length, batch, micro_batches, plan = STEPS[name]
    shape = SHAPES[family]
    megatron = shape["name"] == "megatron-gpt"
    replicas = world // plan.get("tensor_parallel", 1) // plan.get("pipeline_parallel", 1)
    common: dict[str, Any] = {"sharding": "none", "data_parallel": replicas}
    if megatron:
        overlap = {f"overlap_{what}": False for what in ("grad_reduce", "param_gather", "p2p")}
        interleaved = plan.get("virtual_pipeline", 1) > 1
        common |= overlap | {"sequence_parallel": False}  # the local norms have none
        common |= {"schedule": "interleaved" if interleaved else "1f1b"}
        common |= {"expert_tensor_parallel": 1}
    return {
        "id": f"{gpu.split('-', maxsplit=1)[0]}-x{world}/{name}",
        "source": "measured by benchmarks/parallel_steps.py",
        "model": shape,
        "training": {
            "seq_length": seq_length,
            "micro_batch_size": batch,
            "global_batch_size": batch * micro_batches * replicas,
            "precision": "bf16",
            "recompute": "none",
            "master_weights": "fp32",
            "gradient_dtype": "fp32",
            "optimizer": "torch-adamw-foreach-fp32" if megatron else "adamw-fused-fp32",
        },
        "plan": common | plan,
        "cluster": {"gpu": gpu, "num_gpus": world, "gpus_per_node": world},
        "implementation": "megatron-core-local" if megatron else "hf-fsdp2",
    }


def measure(record: dict[str, Any]) -> tuple[dict[str, Any], Callable[[], None]]:
    """Run a step on all ranks; the times are those of the slowest rank, the memory the fullest's.

    Returns:
        The record's ``measured``, and the step.
    """
    training, plan = record["training"], record["plan"]
    ranks = training["micro_batch_size"] * plan["data_parallel"]
    asked = {
        "implementation": record["implementation"],
        "model": record["model"],
        "plan": plan,
        "seq_length": training["seq_length"],
        "batch": training["micro_batch_size"],
        "micro_batches": training["global_batch_size"] // ranks,
        "recompute": training["recompute"],
    }
    torch._dynamo.reset()  # noqa: SLF001 - a second shape would compile kernels for any shape
    torch.manual_seed(dist.get_rank())
    if record["implementation"] == "hf-fsdp2":
        step = hugging_face_iteration(asked)
    else:
        from predictor.bench.steps.megatron import megatron_iteration

        step = megatron_iteration(asked)
    for _ in range(WARM_UP):
        step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(ITERATIONS):
        dist.barrier()
        torch.cuda.synchronize()
        begin = time.perf_counter()
        step()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    numbers = torch.tensor([*times, torch.cuda.max_memory_allocated()], dtype=torch.float64).cuda()
    dist.all_reduce(numbers, op=dist.ReduceOp.MAX)
    *slowest, peak = numbers.tolist()
    return {
        "iteration_seconds": statistics.median(slowest),
        "min_max_seconds": [min(slowest), max(slowest)],
        "statistic": f"median of {ITERATIONS} iterations, each synchronised, slowest rank",
        "peak_memory_bytes": int(peak),
    }, step


def overlap(step: Callable[[], None]) -> dict[str, float]:
    """Where the seconds of one profiled step go on this rank.

    Returns:
        ``span`` from the first kernel to the end of the last; ``busy`` with any kernel;
        ``communication`` with one of NCCL; ``exposed`` of it with no other beside it.
    """
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as trace:
        step()
        torch.cuda.synchronize()
    kernels = [event for event in trace.events() if str(event.device_type).endswith("CUDA")]
    sides: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for event in kernels:
        if event.device_time > 0:
            sides[event.name.startswith("nccl")].append(
                (event.time_range.start / 1e6, event.time_range.end / 1e6)
            )
    both = sides[True] + sides[False]
    busy, compute = covered(both), covered(sides[False])
    return {
        "span": max(end for _, end in both) - min(start for start, _ in both),
        "busy": busy,
        "communication": covered(sides[True]),
        "exposed": busy - compute,
    }


def covered(spans: list[tuple[float, float]]) -> float:
    """Length of the union of intervals."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def write(path: Path, value: dict[str, Any]) -> None:
    """Append a line, on rank 0."""
    if dist.get_rank() == 0:
        with path.open("a") as stream:
            stream.write(json.dumps(value) + "\n")


def say(words: str) -> None:
    """Print on rank 0."""
    if dist.get_rank() == 0:
        print(words, flush=True)


def main() -> int:
    """Measure what was asked, one step after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", default=list(STEPS))
    parser.add_argument("--gpu", required=True, help="SKU to write into the records")
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    local = int(os.environ["LOCAL_RANK"])
    torch.cuda.set_device(local)
    dist.init_process_group("nccl", device_id=torch.device("cuda", local))
    for name in arguments.only:
        record = record_of(name, arguments.gpu, dist.get_world_size())
        if dist.get_rank() == 0:
            say(f"{name}: {predicted(record)}")
        begin = time.perf_counter()
        measured, step = measure(record)
        say(
            f"{name}: measured {measured['iteration_seconds'] * 1e3:.1f} ms, "
            f"{measured['peak_memory_bytes'] / 2**30:.1f} GiB, took "
            f"{time.perf_counter() - begin:.0f} s"
        )
        if arguments.profile:
            kernels = {"id": record["id"], "seconds": overlap(step), "kernels": profile(step)}
            write(arguments.out / "parallel_kernels.jsonl", kernels)
        else:
            write(arguments.out / "parallel_steps.jsonl", record | {"measured": measured})
        del step
        gc.collect()
        torch.cuda.empty_cache()
    dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
