"""The default of every field that may be absent: one table, read by code, documentation and people.

Each default is a rule in words and a function of what is known so far; the table is worked through
from top to bottom, so that a later default may rest on an earlier one. Where the name of a public
model is known, its own fields come before these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from predictor.case.gpus import domain_gpus, load_gpu
from predictor.case.networks import load_network, named_network
from predictor.errors import CaseError
from predictor.values import frozen

if TYPE_CHECKING:
    from collections.abc import Callable

Draft = dict[str, Any]

DEFAULT_IMPLEMENTATION = "megatron-core-te"
USUAL_HEAD_SIZES = (128, 64)
LONGEST_DEFAULT_SEQUENCE = 8192
MICRO_BATCHES = 8
# GPT-2's byte-pair vocabulary as Megatron pads it for eight tensor ranks, and Llama 3's.
GPT_VOCABULARY = 51_200
LLAMA_VOCABULARY = 128_256
# The SentencePiece model of the zero-bubble fork's example.
ZERO_BUBBLE_VOCABULARY = 32_000
# Megatron keeps two thirds of 4 x hidden for each of a gated feed-forward's two inner matrices.
GATED_FFN_MULTIPLE = 64

# Stacks that turn sequence parallelism on with tensor parallelism.
_SEQUENCE_PARALLEL_STACKS = frozenset(
    {"megatron-core-te", "megatron-core-local", "megatron-lm-2022", "nanotron", "torchtitan"}
)
_FULLY_SHARDED_STACKS = frozenset(
    {
        "fsdp-compile",
        "fsdp-eager",
        "hf-fsdp2",
        "jax-xla",
        "llm-foundry",
        "nemo-automodel",
        "torchtitan",
    }
)
_PLAIN_REPLICA_STACKS = frozenset(
    {"megatron-lm-2021", "megatron-deepspeed", "zero-bubble", "hf-eager", "hf-compile"}
)
# Trained in fp16 with a loss scale, as their papers and examples do.
_HALF_STACKS = frozenset(
    {"deepspeed", "megatron-deepspeed", "megatron-lm-2021", "megatron-lm-2022", "zero-bubble"}
)
# Their published runs replay every layer.
_FULL_RECOMPUTE_STACKS = frozenset(
    {"bigscience-megatron-deepspeed", "deepspeed", "megatron-deepspeed", "megatron-lm-2021"}
)
# Weights, gradients and optimizer states all in the model's own format.
_ONE_FORMAT_STACKS = frozenset({"hf-eager", "hf-compile"})


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


def _gated(draft: Draft) -> bool:
    return bool(draft["model"]["gated_mlp"])


def _stack(draft: Draft) -> str:
    return str(draft["implementation"])


def _ffn_hidden_size(draft: Draft) -> int:
    hidden = draft["model"]["hidden_size"]
    if not _gated(draft):
        return int(4 * hidden)
    return max(1, int(4 * hidden * 2 / 3) // GATED_FFN_MULTIPLE) * GATED_FFN_MULTIPLE


def _micro_batch_size(draft: Draft) -> int:
    plan, batch = draft["plan"], draft["training"].get("global_batch_size")
    if _stack(draft) != "megatron-lm-2021" or not batch or plan.get("pipeline_parallel", 1) > 1:
        return 1
    ranks = plan.get("tensor_parallel") or 1
    replicas = plan.get("data_parallel") or draft["cluster"]["num_gpus"] // ranks
    return max(1, int(batch // replicas)) if batch % replicas == 0 else 1


def _recompute(draft: Draft) -> str:
    if _stack(draft) == "megatron-lm-2022":
        return "selective"
    return "full" if _stack(draft) in _FULL_RECOMPUTE_STACKS else "none"


def _vocabulary(draft: Draft) -> int:
    if _gated(draft):
        return LLAMA_VOCABULARY
    return ZERO_BUBBLE_VOCABULARY if _stack(draft) == "zero-bubble" else GPT_VOCABULARY


def _seq_length(draft: Draft) -> int | None:
    longest = draft["model"].get("max_position_embeddings")
    return None if longest is None else min(LONGEST_DEFAULT_SEQUENCE, longest)


def _heads(draft: Draft) -> int:
    model, ranks = draft["model"], draft["plan"].get("tensor_parallel", 1)
    sizes = (model["head_dim"],) if model.get("head_dim") else USUAL_HEAD_SIZES
    whole = [] if model.get("mla") else [s for s in sizes if model["hidden_size"] % s == 0]
    if not whole:
        raise CaseError(
            "model.num_attention_heads is needed with latent attention, and where hidden_size "
            f"({model['hidden_size']}) is no multiple of {' or '.join(map(str, sizes))}"
        )
    shared = [size for size in whole if model["hidden_size"] // size % ranks == 0]
    return int(model["hidden_size"] // (shared or whole)[0])


def _positions(draft: Draft) -> int | None:
    learned = draft["model"]["position_embedding"] == "learned"
    return draft["training"]["seq_length"] if learned else None


def _data_parallel(draft: Draft) -> int:
    plan = draft["plan"]
    ranks = plan["tensor_parallel"] * plan["context_parallel"] * plan["pipeline_parallel"]
    return int(draft["cluster"]["num_gpus"] // ranks)


def _expert_tensor_parallel(draft: Draft) -> int:
    plan = draft["plan"]
    ranks = draft["cluster"]["num_gpus"] // plan["pipeline_parallel"]
    wanted = plan["tensor_parallel"] if draft["model"].get("moe") else 1
    return wanted if ranks % (wanted * plan["expert_parallel"]) == 0 else 1


def _global_batch_size(draft: Draft) -> int:
    replicas, micro = draft["plan"]["data_parallel"], draft["training"]["micro_batch_size"]
    stages = draft["plan"]["pipeline_parallel"]
    return int(replicas * micro * max(MICRO_BATCHES, 4 * stages if stages > 1 else 0))


def _sharding(draft: Draft) -> str:
    stack = _stack(draft)
    if draft["plan"]["data_parallel"] * draft["plan"]["context_parallel"] == 1:
        return "none"
    if stack in _FULLY_SHARDED_STACKS:
        return "parameters"
    return "none" if stack in _PLAIN_REPLICA_STACKS else "optimizer"


def _gradient_dtype(draft: Draft) -> str:
    if draft["training"]["precision"] == "fp16":
        return "fp16"
    if _stack(draft) == "internevo":
        return "bf16"
    return "fp32" if draft["training"]["master_weights"] == "fp32" else "bf16"


def _fp8_recipe(draft: Draft) -> str | None:
    scaled = "tensorwise" if _stack(draft) == "torchtitan" else "delayed"
    named = {"fp8": scaled, "mxfp8": "mxfp8", "nvfp4": "nvfp4"}
    return named.get(draft["training"]["precision"])


def _schedule(draft: Draft) -> str:
    return "interleaved" if draft["plan"]["virtual_pipeline"] > 1 else "1f1b"


def _crosses_nodes(draft: Draft) -> bool:
    cluster = draft["cluster"]
    return bool(cluster["num_gpus"] > cluster["gpus_per_node"])


def _cuda_graph(draft: Draft) -> str:
    newest = load_gpu(draft["cluster"]["gpu"]).architecture.startswith("Blackwell")
    if not newest or _stack(draft) != "megatron-core-te":
        return "none"
    if draft["model"].get("moe") is not None:
        return "attention"
    return "iteration" if draft["training"]["precision"] in {"fp8", "mxfp8", "nvfp4"} else "none"


def _experts_cross_nodes(draft: Draft) -> bool:
    plan, cluster = draft["plan"], draft["cluster"]
    ranks = plan["expert_parallel"] * plan["expert_tensor_parallel"]
    return bool(ranks > domain_gpus(load_gpu(cluster["gpu"]), cluster["gpus_per_node"]))


def _dispatcher(draft: Draft) -> str:
    if _stack(draft) == "nemo-automodel":
        return "deepep"
    moe = draft["model"].get("moe") or {}
    limited = (moe.get("groups_per_token") or 1) < (moe.get("routing_groups") or 1)
    fused = _stack(draft) == "megatron-core-te" and limited and _experts_cross_nodes(draft)
    return "deepep" if fused else "alltoall"


def _overlaps_experts(draft: Draft) -> bool:
    """Megatron-Core computes one micro-batch beside another's exchange where chunks interleave."""
    model, plan = draft["model"], draft["plan"]
    moe = model.get("moe")
    if moe is None or _stack(draft) != "megatron-core-te" or plan["virtual_pipeline"] == 1:
        return False
    narrow = moe["expert_ffn_hidden_size"] < model["hidden_size"]
    return bool(narrow and _experts_cross_nodes(draft))


def _network(draft: Draft) -> str | None:
    cluster = draft["cluster"]
    if not _crosses_nodes(draft):
        return None
    rate = cluster.get("inter_node_bytes_per_second_per_gpu")
    words = cluster.get("inter_node") or ""
    named = named_network(words, gpu=cluster["gpu"], bytes_per_second=rate)
    return named or (load_gpu(cluster["gpu"]).network if rate is None else None)


def _inter_node_rate(draft: Draft) -> float | None:
    name = draft["cluster"].get("network")
    return load_network(name).inter_node_bytes_per_second_per_gpu if name else None


def _inter_node_latency(draft: Draft) -> float | None:
    if not _crosses_nodes(draft):
        return None
    name = draft["cluster"].get("network") or load_gpu(draft["cluster"]["gpu"]).network
    return load_network(name).inter_node_latency_seconds


EXCHANGE = frozenset({"plan.moe_dispatcher", "plan.moe_overlap"})
"""Defaults that follow from how many ranks share the experts."""

DEFAULTS: tuple[Default, ...] = (
    Default("implementation", DEFAULT_IMPLEMENTATION, lambda _: DEFAULT_IMPLEMENTATION),
    Default("model.gated_mlp", "false", lambda _: False),
    Default(
        "model.normalization",
        "rmsnorm with gated_mlp, else layernorm",
        lambda d: "rmsnorm" if _gated(d) else "layernorm",
    ),
    Default(
        "model.position_embedding",
        "rope with gated_mlp, else learned",
        lambda d: "rope" if _gated(d) else "learned",
    ),
    Default("model.qk_norm", "false", lambda _: False),
    Default(
        "model.tied_embeddings",
        "true without gated_mlp; false in zero-bubble",
        lambda d: not _gated(d) and _stack(d) != "zero-bubble",
    ),
    Default(
        "model.linear_bias",
        "none with rmsnorm, else all",
        lambda d: "none" if d["model"]["normalization"] == "rmsnorm" else "all",
    ),
    Default(
        "model.activation",
        "silu with gated_mlp, else gelu",
        lambda d: "silu" if _gated(d) else "gelu",
    ),
    Default(
        "model.ffn_hidden_size",
        "4 x hidden_size; with gated_mlp two thirds of it in multiples of 64",
        _ffn_hidden_size,
    ),
    Default(
        "model.num_attention_heads",
        "hidden_size over head_dim, which is then 128, or 64 where 128 leaves a rest",
        _heads,
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
        f"{LLAMA_VOCABULARY} with gated_mlp (Llama 3), {ZERO_BUBBLE_VOCABULARY} in zero-bubble, "
        f"else {GPT_VOCABULARY} (GPT-2, padded)",
        _vocabulary,
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
        lambda d: "consecutive" if _stack(d) == "nemo-automodel" else "balanced",
        matters=lambda d: d["plan"].get("expert_parallel", 1) > 1,
    ),
    Default(
        "training.seq_length",
        f"max_position_embeddings, at most {LONGEST_DEFAULT_SEQUENCE}; without it, needed",
        _seq_length,
    ),
    Default(
        "model.max_position_embeddings",
        "seq_length where positions are learned",
        _positions,
    ),
    Default(
        "training.micro_batch_size",
        "1; the batch of a replica in megatron-lm-2021 without a pipeline, as before gradients "
        "accumulated there",
        _micro_batch_size,
    ),
    Default(
        "training.precision",
        f"bf16; fp16 in {', '.join(sorted(_HALF_STACKS))}",
        lambda d: "fp16" if _stack(d) in _HALF_STACKS else "bf16",
    ),
    Default(
        "training.fp8_recipe",
        "with precision fp8 delayed (Megatron-Core's), in torchtitan tensorwise (torchao's); mxfp8 "
        "with mxfp8, nvfp4 with nvfp4",
        _fp8_recipe,
    ),
    Default(
        "training.recompute",
        f"none; full in {', '.join(sorted(_FULL_RECOMPUTE_STACKS))}; selective in megatron-lm-2022",
        _recompute,
    ),
    Default(
        "training.optimizer",
        "adamw; hf-eager and hf-compile: adamw-fused-bf16-states",
        lambda d: "adamw-fused-bf16-states" if _stack(d) in _ONE_FORMAT_STACKS else "adamw",
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
        _gradient_dtype,
    ),
    Default("plan.tensor_parallel", "the smallest of 1, 2, 4, 8 that fits", lambda _: 1),
    Default("plan.context_parallel", "1", lambda _: 1),
    Default("plan.pipeline_parallel", "1", lambda _: 1),
    Default("plan.virtual_pipeline", "1", lambda _: 1),
    Default("plan.expert_parallel", "1", lambda _: 1),
    Default(
        "plan.data_parallel",
        "num_gpus / (tensor_parallel x context_parallel x pipeline_parallel)",
        _data_parallel,
    ),
    Default(
        "plan.expert_tensor_parallel",
        "tensor_parallel, as Megatron-Core has it; 1 where that does not divide",
        _expert_tensor_parallel,
    ),
    Default(
        "plan.sequence_parallel",
        f"with tensor_parallel, in {', '.join(sorted(_SEQUENCE_PARALLEL_STACKS))}",
        lambda d: d["plan"]["tensor_parallel"] > 1 and _stack(d) in _SEQUENCE_PARALLEL_STACKS,
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
        _schedule,
        matters=lambda d: d["plan"]["pipeline_parallel"] > 1,
    ),
    Default(
        "plan.sharding",
        f"parameters in {', '.join(sorted(_FULLY_SHARDED_STACKS))}; "
        f"none in {', '.join(sorted(_PLAIN_REPLICA_STACKS))}; else optimizer; "
        "none without replicas",
        _sharding,
    ),
    Default(
        "plan.moe_experts",
        "grouped; megatron-core-local: sequential",
        lambda d: "sequential" if _stack(d) == "megatron-core-local" else "grouped",
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
        "in megatron-core-te on Blackwell, as NVIDIA's recipes: attention with experts, iteration "
        "of dense layers in 8 or 4 bits; else none",
        _cuda_graph,
        matters=lambda d: d["model"].get("moe") is not None or _stack(d) == "megatron-core-te",
    ),
    Default(
        "training.global_batch_size",
        "data_parallel x micro_batch_size x 8 micro-batches (4 x pipeline_parallel if more)",
        _global_batch_size,
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
        _network,
    ),
    Default(
        "plan.moe_dispatcher",
        "alltoall; deepep in nemo-automodel, and in megatron-core-te where a token's experts lie "
        "on several nodes and its routing is limited to groups",
        _dispatcher,
        matters=lambda d: d["plan"]["expert_parallel"] > 1,
    ),
    Default(
        "plan.moe_overlap",
        "in megatron-core-te where stages interleave and experts narrower than the model lie on "
        "several nodes",
        lambda d: True if _overlaps_experts(d) else None,
    ),
    Default("cluster.inter_node_bytes_per_second_per_gpu", "that of the network", _inter_node_rate),
    Default(
        "cluster.inter_node_latency_seconds",
        "that of the network, or of the GPU's usual machine",
        _inter_node_latency,
    ),
)
