"""The default of every field that may be absent: one table, read by code, documentation and people.

Each default is a rule in words and a function of what is known so far; the table is worked through
from top to bottom, so that a later default may rest on an earlier one. Where the name of a public
model is known, its own fields come before these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from predictor.case import usual, usual_experts
from predictor.case.gpus import load_gpu
from predictor.case.training_schema import AdapterModule
from predictor.values import frozen

if TYPE_CHECKING:
    from collections.abc import Callable

    from predictor.case.usual import Draft


@frozen
class Default:
    """What an absent field becomes.

    Attributes:
        key: Dotted path of the field.
        rule: The default in words, for documentation.
        value: The default as a function of the draft; None leaves the field absent.
        matters: Whether the default bears on the estimate, and is worth telling.
    """

    key: str
    rule: str
    value: Callable[[Draft], Any]
    matters: Callable[[Draft], bool] = lambda _: True


EXCHANGE = frozenset({"plan.moe_dispatcher", "plan.moe_overlap", "plan.moe_permute_fusion"})
"""Defaults that follow from how many ranks share the experts."""

DEFAULTS: tuple[Default, ...] = (
    Default("implementation", usual.DEFAULT_IMPLEMENTATION, lambda _: usual.DEFAULT_IMPLEMENTATION),
    Default("model.gated_mlp", "false", lambda _: False),
    Default(
        "model.normalization",
        "rmsnorm with gated_mlp, else layernorm",
        lambda d: "rmsnorm" if usual.gated(d) else "layernorm",
    ),
    Default(
        "model.position_embedding",
        "rope with gated_mlp, else learned",
        lambda d: "rope" if usual.gated(d) else "learned",
    ),
    Default("model.qk_norm", "false", lambda _: False),
    Default(
        "model.tied_embeddings",
        "true without gated_mlp; false in zero-bubble",
        lambda d: not usual.gated(d) and usual.stack(d) != "zero-bubble",
    ),
    Default(
        "model.linear_bias",
        "none with rmsnorm, else all",
        lambda d: "none" if d["model"]["normalization"] == "rmsnorm" else "all",
    ),
    Default(
        "model.activation",
        "silu with gated_mlp, else gelu",
        lambda d: "silu" if usual.gated(d) else "gelu",
    ),
    Default(
        "model.ffn_hidden_size",
        "4 x hidden_size; with gated_mlp two thirds of it in multiples of 64",
        usual.ffn_hidden_size,
    ),
    Default(
        "model.num_attention_heads",
        "hidden_size over head_dim, which is then 128, or 64 where 128 leaves a rest",
        usual.heads,
    ),
    Default(
        "model.num_query_groups",
        "num_attention_heads",
        lambda d: d["model"]["num_attention_heads"],
    ),
    Default(
        "model.head_dim",
        "hidden_size / num_attention_heads",
        lambda d: d["model"]["hidden_size"] // d["model"]["num_attention_heads"],
    ),
    Default(
        "model.vocab_size",
        f"{usual.LLAMA_VOCABULARY} with gated_mlp (Llama 3), "
        f"{usual.ZERO_BUBBLE_VOCABULARY} in zero-bubble, "
        f"else {usual.GPT_VOCABULARY} (GPT-2, padded)",
        usual.vocabulary,
    ),
    Default("model.moe.num_shared_experts", "0", lambda _: 0),
    Default(
        "model.moe.shared_expert_ffn_hidden_size",
        "num_shared_experts x expert_ffn_hidden_size",
        lambda d: (
            d["model"]["moe"]["num_shared_experts"] * d["model"]["moe"]["expert_ffn_hidden_size"]
        ),
    ),
    Default("model.moe.first_dense_layers", "0", lambda _: 0),
    Default("model.moe.moe_layer_frequency", "1", lambda _: 1),
    Default(
        "model.moe.imbalance",
        "balanced; nemo-automodel: consecutive, as its benchmarks' gate",
        lambda d: "consecutive" if usual.stack(d) == "nemo-automodel" else "balanced",
        matters=lambda d: d["plan"].get("expert_parallel", 1) > 1,
    ),
    Default(
        "training.seq_length",
        f"max_position_embeddings, at most {usual.LONGEST_DEFAULT_SEQUENCE}; without it, needed",
        usual.seq_length,
    ),
    Default(
        "model.max_position_embeddings",
        "seq_length where positions are learned",
        usual.positions,
    ),
    Default(
        "training.micro_batch_size",
        "1; the batch of a replica in megatron-lm-2021 without a pipeline, as before gradients "
        "accumulated there; in torchtitan's pipelines what makes as many micro-batches as stages",
        usual.micro_batch_size,
    ),
    Default(
        "training.precision",
        f"bf16; fp16 in {', '.join(sorted(usual.HALF_STACKS))}",
        lambda d: "fp16" if usual.stack(d) in usual.HALF_STACKS else "bf16",
    ),
    Default(
        "training.fp8_recipe",
        "with precision fp8 delayed (Megatron-Core's), in torchtitan tensorwise (torchao's); mxfp8 "
        "with mxfp8, nvfp4 with nvfp4",
        usual.fp8_recipe,
    ),
    Default(
        "training.recompute_modules",
        "in megatron-core-te, where recompute is not said: layernorm and moe_act of experts with "
        "biases in bf16 on GPUs of less than 250 GB, as NVIDIA's recipes",
        usual_experts.recompute_modules,
    ),
    Default(
        "training.recompute",
        f"none; full in {', '.join(sorted(usual.FULL_RECOMPUTE_STACKS))}; "
        "selective in megatron-lm-2022, and with recompute_modules",
        usual.recompute,
    ),
    Default(
        "training.optimizer",
        "adamw; hf-eager and hf-compile: adamw-fused-bf16-states",
        lambda d: (
            "adamw-fused-bf16-states" if usual.stack(d) in usual.ONE_FORMAT_STACKS else "adamw"
        ),
    ),
    Default(
        "training.master_weights",
        "fp32; with adamw-fused-bf16-states none",
        lambda d: "none" if d["training"]["optimizer"] == "adamw-fused-bf16-states" else "fp32",
    ),
    Default(
        "training.gradient_dtype",
        "fp16 with precision fp16; bf16 in internevo; else fp32 with master_weights, "
        "else that of the model",
        usual.gradient_dtype,
    ),
    Default(
        "training.adapter_modules",
        f"with adapter_rank {', '.join(get_args(AdapterModule))}, as Megatron-Bridge's and NeMo's "
        "LoRA",
        lambda d: get_args(AdapterModule) if d["training"].get("adapter_rank") else None,
    ),
    Default(
        "plan.tensor_parallel",
        "the smallest of 1, 2, 4, 8 that fits, else the largest",
        lambda _: 1,
    ),
    Default("plan.context_parallel", "1", lambda _: 1),
    Default("plan.pipeline_parallel", "1", lambda _: 1),
    Default("plan.virtual_pipeline", "1", lambda _: 1),
    Default("plan.expert_parallel", "1", lambda _: 1),
    Default(
        "plan.data_parallel",
        "num_gpus / (tensor_parallel x context_parallel x pipeline_parallel)",
        usual.data_parallel,
    ),
    Default(
        "plan.expert_tensor_parallel",
        "tensor_parallel, as Megatron-Core has it; 1 where that does not divide, and where routing "
        "is limited to groups, as in NVIDIA's recipes",
        usual_experts.expert_tensor_parallel,
    ),
    Default(
        "plan.sequence_parallel",
        f"with tensor_parallel, in {', '.join(sorted(usual.SEQUENCE_PARALLEL_STACKS))}",
        lambda d: (
            d["plan"]["tensor_parallel"] > 1 and usual.stack(d) in usual.SEQUENCE_PARALLEL_STACKS
        ),
    ),
    Default(
        "plan.context_parallel_kind",
        "ring",
        lambda _: "ring",
        matters=lambda d: d["plan"]["context_parallel"] > 1,
    ),
    Default(
        "plan.schedule",
        "interleaved with virtual_pipeline, else 1f1b",
        usual.schedule,
        matters=lambda d: d["plan"]["pipeline_parallel"] > 1,
    ),
    Default(
        "plan.sharding",
        f"parameters in {', '.join(sorted(usual.FULLY_SHARDED_STACKS))}; "
        f"none in {', '.join(sorted(usual.PLAIN_REPLICA_STACKS))} (megatron-deepspeed in bf16: "
        "optimizer); else optimizer; none without replicas",
        usual.sharding,
    ),
    Default(
        "plan.moe_experts",
        "grouped; megatron-core-local: sequential",
        lambda d: "sequential" if usual.stack(d) == "megatron-core-local" else "grouped",
        matters=lambda d: d["model"].get("moe") is not None,
    ),
    Default(
        "plan.moe_dispatch_dtype",
        "bf16",
        lambda _: "bf16",
        matters=lambda _: False,
    ),
    Default("plan.moe_compression", "1 (none)", lambda _: 1.0),
    Default(
        "plan.cuda_graph",
        "in megatron-core-te on Blackwell, as NVIDIA's recipes: attention with experts but on "
        "B200, iteration of dense layers in 8 or 4 bits without adapters; else none",
        usual.cuda_graph,
        matters=lambda d: d["model"].get("moe") is not None or usual.stack(d) == "megatron-core-te",
    ),
    Default(
        "training.global_batch_size",
        "data_parallel x micro_batch_size x 8 micro-batches (4 x pipeline_parallel if more)",
        usual.global_batch_size,
    ),
    Default(
        "cluster.gpus_per_node",
        "the scale-up domain of the GPU's usual machine",
        lambda d: load_gpu(d["cluster"]["gpu"]).scaleup_gpus,
    ),
    Default(
        "cluster.network",
        "where the job crosses nodes: the preset that inter_node names, else, unless a rate is "
        "given, that of the GPU's usual machine",
        usual.network,
    ),
    Default(
        "plan.moe_dispatcher",
        "alltoall; deepep in nemo-automodel, and in megatron-core-te where a token's experts lie "
        "on several nodes and its routing is limited to groups, or they are narrower than the "
        "model, whole on their ranks, and stages do not interleave",
        usual_experts.dispatcher,
        matters=lambda d: d["plan"]["expert_parallel"] > 1,
    ),
    Default(
        "plan.moe_overlap",
        "in megatron-core-te where stages interleave and experts narrower than the model lie on "
        "several nodes",
        lambda d: True if usual_experts.overlaps_experts(d) else None,
    ),
    Default(
        "plan.moe_permute_fusion",
        "in megatron-core-te on Blackwell, with CUDA graphs, or where moe_overlap or the deepep "
        "dispatcher would be the default, as in NVIDIA's recipes; else false, as in Megatron-Core",
        usual_experts.fuses_permutation,
    ),
    Default(
        "cluster.inter_node_bytes_per_second_per_gpu", "that of the network", usual.inter_node_rate
    ),
    Default(
        "cluster.inter_node_latency_seconds",
        "that of the network, or of the GPU's usual machine",
        usual.inter_node_latency,
    ),
)
