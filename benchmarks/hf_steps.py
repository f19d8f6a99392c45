"""Measure real training steps of Hugging Face models on the GPU at hand, as run records.

    python benchmarks/hf_steps.py OUT --gpu SKU [--only NAME ...]

Needs PyTorch and transformers. Writes ``OUT/steps.jsonl`` (run records, one a line) and
``OUT/kernels.jsonl`` (kernel name, launches and seconds of one profiled step). Models are random,
bf16, with bf16 Adam states; an iteration is forward, backward, fused AdamW and ``zero_grad``, and
each is synchronised, so that the host's queue is empty when it starts.
"""

import argparse
import json
import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any

from predictor.bench.steps.child import hugging_face_iteration, timed

LLAMA = {"gated_mlp": True, "normalization": "rmsnorm", "position_embedding": "rope"}
GPT2 = {"gated_mlp": False, "normalization": "layernorm", "position_embedding": "learned"}

SHAPES: dict[str, dict[str, Any]] = {
    "llama-1b": LLAMA
    | {"name": "llama", "num_layers": 16, "hidden_size": 2048, "ffn_hidden_size": 8192}
    | {"num_attention_heads": 32, "num_query_groups": 8, "head_dim": 64, "vocab_size": 128256}
    | {"tied_embeddings": True, "qk_norm": False},
    "llama-8b-L4": LLAMA
    | {"name": "llama", "num_layers": 4, "hidden_size": 4096, "ffn_hidden_size": 14336}
    | {"num_attention_heads": 32, "num_query_groups": 8, "head_dim": 128, "vocab_size": 128256}
    | {"tied_embeddings": False, "qk_norm": False},
    "qwen3-0.6b": LLAMA
    | {"name": "qwen3", "num_layers": 28, "hidden_size": 1024, "ffn_hidden_size": 3072}
    | {"num_attention_heads": 16, "num_query_groups": 8, "head_dim": 128, "vocab_size": 151936}
    | {"tied_embeddings": True, "qk_norm": True},
    "qwen3-30b-a3b-L2": LLAMA
    | {"name": "qwen3-moe", "num_layers": 2, "hidden_size": 2048, "ffn_hidden_size": 6144}
    | {"num_attention_heads": 32, "num_query_groups": 4, "head_dim": 128, "vocab_size": 151936}
    | {"tied_embeddings": False, "qk_norm": True}
    | {"moe": {"num_experts": 128, "top_k": 8, "expert_ffn_hidden_size": 768}},
    "mixtral-L1": LLAMA
    | {"name": "mixtral", "num_layers": 1, "hidden_size": 4096, "ffn_hidden_size": 14336}
    | {"num_attention_heads": 32, "num_query_groups": 8, "head_dim": 128, "vocab_size": 32000}
    | {"tied_embeddings": False, "qk_norm": False}
    | {"moe": {"num_experts": 8, "top_k": 2, "expert_ffn_hidden_size": 14336}},
    "gpt2-medium": GPT2
    | {"name": "gpt2", "num_layers": 24, "hidden_size": 1024, "ffn_hidden_size": 4096}
    | {"num_attention_heads": 16, "num_query_groups": 16, "head_dim": 64, "vocab_size": 50304}
    | {"tied_embeddings": True, "qk_norm": False},
}

SHAPES["qwen3-30b-a3b-L6"] = SHAPES["qwen3-30b-a3b-L2"] | {"num_layers": 6}

STEPS: dict[str, tuple[str, int, int, str, str]] = {
    "llama-1b-s1024-b4": ("llama-1b", 1024, 4, "hf-eager", "none"),
    "qwen3-0.6b-s2048-b2": ("qwen3-0.6b", 2048, 2, "hf-eager", "none"),
    "gpt2-medium-s1024-b8": ("gpt2-medium", 1024, 8, "hf-eager", "none"),
    "llama-8b-L4-s8192-b1": ("llama-8b-L4", 8192, 1, "hf-eager", "none"),
    "llama-1b-s16384-b1-ckpt": ("llama-1b", 16384, 1, "hf-eager", "full"),
    "qwen3-30b-a3b-L2-s4096-b1": ("qwen3-30b-a3b-L2", 4096, 1, "hf-eager", "none"),
    "qwen3-30b-a3b-L6-s512-b1": ("qwen3-30b-a3b-L6", 512, 1, "hf-eager", "none"),
    "mixtral-L1-s8192-b1": ("mixtral-L1", 8192, 1, "hf-eager", "none"),
    "gpt2-medium-s1024-b8-compile": ("gpt2-medium", 1024, 8, "hf-compile", "none"),
    "qwen3-0.6b-s2048-b2-compile": ("qwen3-0.6b", 2048, 2, "hf-compile", "none"),
}


def predicted(record: dict[str, Any]) -> str:
    """The estimate of a step that has not run yet, in words."""
    from predictor import Case, estimate
    from predictor.errors import PredictorError

    known = ("model", "training", "plan", "cluster", "implementation")
    try:
        answer = estimate(Case.from_dict({key: record[key] for key in known}))
    except PredictorError as error:
        return f"refused: {error}"
    low, high = answer.interval_seconds
    memory = answer.memory_bytes_per_gpu / 2**30
    return (
        f"predicted {answer.iteration_seconds * 1e3:.1f} ms "
        f"({low * 1e3:.1f} to {high * 1e3:.1f}), {memory:.1f} GiB"
    )


def record_of(name: str, gpu: str) -> dict[str, Any]:
    """The run record of a step, but for what is measured."""
    family, seq_length, batch, implementation, recompute = STEPS[name]
    return {
        "id": f"{gpu.split('-', maxsplit=1)[0]}/{name}",
        "source": "measured by benchmarks/hf_steps.py",
        "model": SHAPES[family],
        "training": {
            "seq_length": seq_length,
            "micro_batch_size": batch,
            "global_batch_size": batch,
            "precision": "bf16",
            "recompute": recompute,
            "master_weights": "none",
            "optimizer": "adamw-fused-bf16-states",
        },
        "plan": {"tensor_parallel": 1, "pipeline_parallel": 1, "data_parallel": 1},
        "cluster": {"gpu": gpu, "num_gpus": 1, "gpus_per_node": 1},
        "implementation": implementation,
    }


def measure(name: str, gpu: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run one configuration; return its run record and its kernels."""
    import torch

    record = record_of(name, gpu)
    print(f"{name}: {predicted(record)}", flush=True)
    training = record["training"]
    torch.manual_seed(0)
    step = hugging_face_iteration(
        {
            "implementation": record["implementation"],
            "model": record["model"],
            "seq_length": training["seq_length"],
            "batch": training["micro_batch_size"],
            "recompute": training["recompute"],
        }
    )
    measured = timed(step)
    reserved = torch.cuda.max_memory_reserved()
    free, total = torch.cuda.mem_get_info()
    record["measured"] = measured
    record["notes"] = f"reserved {reserved} B, device total less free {total - free} B"
    return record, {"id": record["id"], "kernels": profile(step)}


def profile(step: Any) -> dict[str, dict[str, float]]:  # noqa: ANN401
    """Kernels of one step by name."""
    import torch
    from torch.profiler import ProfilerActivity

    with torch.profiler.profile(activities=[ProfilerActivity.CUDA]) as trace:
        step()
        torch.cuda.synchronize()
    kernels: dict[str, dict[str, float]] = {}
    for event in trace.events():
        if str(event.device_type).endswith("CUDA"):
            known = kernels.setdefault(event.name[:160], {"launches": 0, "seconds": 0.0})
            known["launches"] += 1
            known["seconds"] += event.device_time / 1e6
    return dict(sorted(kernels.items(), key=lambda item: -item[1]["seconds"]))


def measure_into(name: str, gpu: str, out: Path) -> None:
    """Measure one configuration and append its record and kernels."""
    begin = time.perf_counter()
    record, kernels = measure(name, gpu)
    for file, value in (("steps.jsonl", record), ("kernels.jsonl", kernels)):
        with (out / file).open("a") as stream:
            stream.write(json.dumps(value) + "\n")
    seconds = record["measured"]["iteration_seconds"]
    busy = sum(kernel["seconds"] for kernel in kernels["kernels"].values())
    spent = time.perf_counter() - begin
    print(f"{name:32s} {seconds * 1e3:9.2f} ms  busy {busy * 1e3:9.2f} ms  took {spent:.0f} s")


def main() -> int:
    """Measure what was asked, each configuration in a process of its own.

    A profiler that ran once in a process slows every later launch of it.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", default=list(STEPS))
    parser.add_argument("--gpu", required=True, help="SKU to write into the records")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    failed = 0
    for name in arguments.only:
        process = context.Process(target=measure_into, args=(name, arguments.gpu, arguments.out))
        process.start()
        process.join()
        failed += process.exitcode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
