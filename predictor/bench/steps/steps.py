"""Which steps are measured: models small enough for any GPU, in every stack that is installed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from predictor.errors import BenchError, nearest

LLAMA: dict[str, Any] = {
    "name": "llama",
    "num_layers": 8,
    "hidden_size": 2048,
    "ffn_hidden_size": 8192,
    "num_attention_heads": 32,
    "num_query_groups": 8,
    "head_dim": 64,
    "vocab_size": 32_000,
    "gated_mlp": True,
    "normalization": "rmsnorm",
    "position_embedding": "rope",
    "tied_embeddings": True,
    "qk_norm": False,
}
"""A Llama of half a billion parameters: some 5 GB with gradients and bf16 Adam states."""

MEGATRON = "megatron-core-local"
GPT2: dict[str, Any] = {
    "name": "gpt2",
    "num_layers": 12,
    "hidden_size": 768,
    "ffn_hidden_size": 3072,
    "num_attention_heads": 12,
    "num_query_groups": 12,
    "head_dim": 64,
    "vocab_size": 50_304,
    "gated_mlp": False,
    "normalization": "layernorm",
    "position_embedding": "learned",
    "tied_embeddings": True,
    "qk_norm": False,
}
"""GPT-2 small, whose short kernels show what the host costs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One training step to be measured.

    Attributes:
        name: Short name.
        implementation: ``hf-eager``, ``hf-compile``, ``hf-fsdp2`` or ``megatron-core-local``.
        model: Fields of the model.
        seq_length: Tokens of a sequence.
        batch: Sequences of a GPU.
        recompute: ``none`` or ``full``.
    """

    name: str
    implementation: str
    model: dict[str, Any]
    seq_length: int
    batch: int
    recompute: str = "none"

    @property
    def sharded(self) -> bool:
        """Whether it runs on all GPUs, its states split over them."""
        return self.implementation == "hf-fsdp2"

    @property
    def distributed(self) -> bool:
        """Whether its process needs a process group, even on one GPU."""
        return self.sharded or self.implementation == MEGATRON


STEPS: dict[str, Step] = {
    step.name: step
    for step in (
        Step(name="llama", implementation="hf-eager", model=LLAMA, seq_length=2048, batch=2),
        Step(
            name="llama-recompute",
            implementation="hf-eager",
            model=LLAMA,
            seq_length=4096,
            batch=2,
            recompute="full",
        ),
        Step(name="gpt2", implementation="hf-eager", model=GPT2, seq_length=1024, batch=4),
        Step(
            name="llama-compiled",
            implementation="hf-compile",
            model=LLAMA,
            seq_length=2048,
            batch=2,
        ),
        Step(name="llama-fsdp2", implementation="hf-fsdp2", model=LLAMA, seq_length=2048, batch=2),
        Step(
            name="llama-megatron",
            implementation=MEGATRON,
            model={**LLAMA, "name": "megatron-gpt", "tied_embeddings": False},
            seq_length=2048,
            batch=2,
        ),
    )
}
"""By name; ``llama-fsdp2`` needs two GPUs or more, ``llama-megatron`` Megatron-Core."""


def chosen_steps(names: tuple[str, ...], gpus: int, *, megatron: bool) -> tuple[Step, ...]:
    """The steps that are asked for, by default all that so many GPUs can run.

    Raises:
        BenchError: A name is not known, or a step needs more GPUs or Megatron-Core.
    """
    for name in names:
        if name not in STEPS:
            known = ", ".join(STEPS)
            raise BenchError(f"--steps {name}: no such step{nearest(name, STEPS)}; known: {known}")
        if STEPS[name].sharded and gpus < 2:  # noqa: PLR2004 - nothing to shard over
            raise BenchError(f"--steps {name}: needs two GPUs, {gpus} is here")
        if STEPS[name].implementation == MEGATRON and not megatron:
            raise BenchError(f"--steps {name}: needs Megatron-Core; `pip install megatron-core`")
    if names:
        return tuple(STEPS[name] for name in names)
    return tuple(
        step
        for step in STEPS.values()
        if (gpus > 1 or not step.sharded) and (megatron or step.implementation != MEGATRON)
    )
