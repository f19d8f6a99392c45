"""The child's side: one real training step, timed, with PyTorch and a training stack.

    python -m predictor.bench.steps.child STEP.json ANSWER.json
    torchrun --nproc-per-node=2 -m predictor.bench.steps.child STEP.json ANSWER.json

Models are random. On one GPU weights, gradients and Adam states are bf16; sharded over several, the
shards are fp32 and products bf16, and each block is a unit of FSDP2. An iteration is forward,
backward, fused AdamW and ``zero_grad``; each is synchronised, so that the host's queue is empty
when it starts. Rank 0 answers, with the peak of the fullest rank.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predictor.bench.steps.steps import MEGATRON

if TYPE_CHECKING:
    from collections.abc import Callable

WARM_UP = 5
DISTRIBUTED = frozenset({"hf-fsdp2", MEGATRON})
"""Stacks that need a process group, even of one."""

FAMILIES = {"llama": "Llama", "qwen3": "Qwen3", "mixtral": "Mixtral", "qwen3-moe": "Qwen3Moe"}
"""Names of transformers' classes."""

ITERATIONS = 10
LEARNING_RATE = 1e-4
SHORTEST_POSITIONS = 1024


def build_model(step: dict[str, Any], dtype: Any) -> Any:  # noqa: ANN401 - of an optional library
    """Make the random model on this process's GPU."""
    import torch  # noqa: PLC0415 - this process alone has it
    import transformers  # noqa: PLC0415

    shape = step["model"]
    common = {
        "vocab_size": shape["vocab_size"],
        "use_cache": False,
        "tie_word_embeddings": shape["tied_embeddings"],
    }
    positions = max(SHORTEST_POSITIONS, step["seq_length"])
    if shape["name"] == "gpt2":
        kind = transformers.GPT2LMHeadModel
        config = transformers.GPT2Config(
            n_embd=shape["hidden_size"],
            n_layer=shape["num_layers"],
            n_head=shape["num_attention_heads"],
            n_inner=shape["ffn_hidden_size"],
            n_positions=positions,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            **common,
        )
    else:
        family = FAMILIES[shape["name"]]
        kind = getattr(transformers, f"{family}ForCausalLM")
        config = getattr(transformers, f"{family}Config")(
            hidden_size=shape["hidden_size"],
            intermediate_size=shape["ffn_hidden_size"],
            num_hidden_layers=shape["num_layers"],
            num_attention_heads=shape["num_attention_heads"],
            num_key_value_heads=shape["num_query_groups"],
            head_dim=shape["head_dim"],
            max_position_embeddings=positions,
            **_experts(shape.get("moe")),
            **common,
        )
    config._attn_implementation = "sdpa"  # noqa: SLF001 - the library's own switch
    torch.set_default_dtype(dtype)
    with torch.device("cuda"):
        model = kind(config)
    torch.set_default_dtype(torch.float32)
    return model.train()


def _experts(moe: dict[str, Any] | None) -> dict[str, Any]:
    """What Mixtral's and Qwen3's configurations call their experts; each reads its own names."""
    if moe is None:
        return {}
    return {
        "num_local_experts": moe["num_experts"],
        "num_experts": moe["num_experts"],
        "num_experts_per_tok": moe["top_k"],
        "moe_intermediate_size": moe["expert_ffn_hidden_size"],
    }


def shard(model: Any) -> None:  # noqa: ANN401 - of an optional library
    """Make each block, and the rest, a unit of FSDP2: fp32 shards and reduction, bf16 products."""
    import torch  # noqa: PLC0415
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard  # noqa: PLC0415

    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for block in model.model.layers:
        fully_shard(block, mp_policy=policy)
    fully_shard(model, mp_policy=policy)


def hugging_face_iteration(step: dict[str, Any]) -> Callable[[], None]:
    """Build the model and its optimizer; return forward, backward and step."""
    import torch  # noqa: PLC0415

    sharded = step["implementation"] == "hf-fsdp2"
    model = build_model(step, torch.float32 if sharded else torch.bfloat16)
    if step["recompute"] == "full":
        model.gradient_checkpointing_enable()
    if sharded:
        shard(model)
    called = torch.compile(model) if step["implementation"] == "hf-compile" else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)
    shape = (step["batch"], step["seq_length"])
    tokens = torch.randint(0, step["model"]["vocab_size"], shape, device="cuda")

    def iteration() -> None:
        called(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return iteration


def measure(step: dict[str, Any]) -> dict[str, Any]:
    """Run the step and return its seconds and its peak."""
    import torch  # noqa: PLC0415

    torch.manual_seed(0)
    if step["implementation"] == MEGATRON:
        from predictor.bench.steps.megatron import megatron_iteration  # noqa: PLC0415

        iteration, framework = megatron_iteration(step), "megatron-core"
    else:
        iteration, framework = hugging_face_iteration(step), "transformers"
    return timed(iteration) | {
        "framework": f"{framework} {version(framework)}, torch {torch.__version__}"
    }


def timed(iteration: Callable[[], None]) -> dict[str, Any]:
    """Seconds and peak of an iteration that is ready to run, warmed up first."""
    import torch  # noqa: PLC0415

    for _ in range(WARM_UP):
        iteration()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(ITERATIONS):
        begin = time.perf_counter()
        iteration()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return {
        "iteration_seconds": statistics.median(seconds),
        "min_max_seconds": [min(seconds), max(seconds)],
        "statistic": f"median of {ITERATIONS} iterations, each synchronised",
        "peak_memory_bytes": _fullest(torch.cuda.max_memory_allocated()),
    }


def _fullest(peak_bytes: int) -> int:
    """The peak of the fullest rank."""
    import torch  # noqa: PLC0415

    if not torch.distributed.is_initialized():
        return peak_bytes
    peak = torch.tensor([peak_bytes], dtype=torch.float64, device="cuda")
    torch.distributed.all_reduce(peak, op=torch.distributed.ReduceOp.MAX)
    return int(peak.item())


def main(arguments: list[str]) -> int:
    """Measure the step of a file and write the answer to another."""
    import torch  # noqa: PLC0415

    asked, answer = map(Path, arguments)
    step = json.loads(asked.read_text(encoding="utf-8"))
    rank = int(os.environ.get("RANK", "0"))
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if step["implementation"] in DISTRIBUTED:
        torch.distributed.init_process_group("nccl")
    try:
        measured = measure(step)
        if rank == 0:
            answer.write_text(json.dumps(measured), encoding="utf-8")
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
