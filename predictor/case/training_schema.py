"""The fields of ``[training]``."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

from predictor.case.kinds import Choice, Count, Sequence, Text
from predictor.case.limits import MAX_BATCH, MAX_HIDDEN, MAX_LAYERS, MAX_SEQUENCE
from predictor.case.section import Section, optional
from predictor.values import frozen

Precision = Literal["bf16", "fp16", "fp8", "mxfp8", "nvfp4"]
Recompute = Literal["none", "selective", "full", "custom"]
Optimizer = Literal[
    "adamw", "adamw-fused-fp32", "adamw-fused-bf16-states", "torch-adamw-foreach-fp32"
]
MasterWeights = Literal["fp32", "none"]
GradientDtype = Literal["fp32", "bf16", "fp16"]
AdapterModule = Literal["linear_qkv", "linear_proj", "linear_fc1", "linear_fc2"]
"""Megatron-Core's names of a layer's linear modules, as its LoRA's ``target_modules`` has them."""
RecomputeModule = Literal[
    "core_attn", "layernorm", "mla_up_proj", "mlp", "moe", "moe_act", "shared_experts"
]
"""Names of Megatron-Core's ``recompute_modules`` (``transformer_config.py`` v0.12 to v0.19)."""


@frozen(kw_only=True)
class Training(Section):
    """What one iteration computes, and in which numbers."""

    path: ClassVar[str] = "training"

    seq_length: int = optional(Count(MAX_SEQUENCE), "Tokens of a sequence.")
    micro_batch_size: int = optional(Count(MAX_BATCH), "Sequences of a micro-batch.")
    global_batch_size: int = optional(Count(MAX_BATCH), "Sequences of an iteration.")
    precision: Precision = optional(Choice(get_args(Precision)), "Format of the matrix products.")
    fp8_recipe: str = optional(Text(), "Scaling recipe of 8-bit formats, in the source's words.")
    recompute: Recompute = optional(
        Choice(get_args(Recompute)),
        "Activations computed again in the backward pass.",
    )
    recompute_layers: int = optional(
        Count(MAX_LAYERS, 0), "Layers of a stage that recompute; absent: all."
    )
    recompute_modules: tuple[RecomputeModule, ...] = optional(
        Sequence(Choice(get_args(RecomputeModule))),
        "What selective recomputation runs again; absent: core_attn.",
    )
    optimizer: Optimizer = optional(
        Choice(get_args(Optimizer)),
        "Optimizer, its kernel and the format of its states.",
    )
    master_weights: MasterWeights = optional(
        Choice(get_args(MasterWeights)), "Copy of the weights for the optimizer."
    )
    gradient_dtype: GradientDtype = optional(
        Choice(get_args(GradientDtype)), "Format of stored gradients."
    )
    adapter_rank: int = optional(
        Count(MAX_HIDDEN),
        "Rank of LoRA's adapters, which alone are trained; absent: all weights are.",
    )
    adapter_modules: tuple[AdapterModule, ...] = optional(
        Sequence(Choice(get_args(AdapterModule))),
        "Linear modules of every layer that have an adapter.",
    )
