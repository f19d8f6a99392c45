"""What is usual where a case does not say: each as a function of what is known so far."""

from typing import Any

from predictor.case.gpus import NODE_GPUS, load_gpu
from predictor.case.networks import load_network, named_network
from predictor.errors import CaseError

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
SEQUENCE_PARALLEL_STACKS = frozenset(
    {
        "megatron-core-te",
        "megatron-core-local",
        "megatron-lm-2022",
        "nanotron",
        "nanotron-released",
        "torchtitan",
    }
)
FULLY_SHARDED_STACKS = frozenset(
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
PLAIN_REPLICA_STACKS = frozenset(
    {"megatron-lm-2021", "megatron-deepspeed", "zero-bubble", "hf-eager", "hf-compile"}
)
# Trained in fp16 with a loss scale, as their papers and examples do.
HALF_STACKS = frozenset(
    {"deepspeed", "megatron-deepspeed", "megatron-lm-2021", "megatron-lm-2022", "zero-bubble"}
)
# Their published runs replay every layer, or they do unless told (MaxText ``base.yml``
# ``remat_policy``, Paxml ``model_params.py`` ``CHECKPOINT_POLICY``).
FULL_RECOMPUTE_STACKS = frozenset(
    {
        "bigscience-megatron-deepspeed",
        "deepspeed",
        "jax-xla",
        "megatron-deepspeed",
        "megatron-lm-2021",
    }
)
# Weights, gradients and optimizer states all in the model's own format.
ONE_FORMAT_STACKS = frozenset({"hf-eager", "hf-compile"})


def gated(draft: Draft) -> bool:
    """Whether the MLP has a gate."""
    return bool(draft["model"]["gated_mlp"])


def stack(draft: Draft) -> str:
    """Name of the training stack."""
    return str(draft["implementation"])


def ffn_hidden_size(draft: Draft) -> int:
    """Four times the width, or with a gate two thirds of that in multiples of 64."""
    hidden = draft["model"]["hidden_size"]
    if not gated(draft):
        return int(4 * hidden)
    return max(1, int(4 * hidden * 2 / 3) // GATED_FFN_MULTIPLE) * GATED_FFN_MULTIPLE


def micro_batch_size(draft: Draft) -> int:
    """One sequence, or what a stack makes of a replica's batch.

    All of it where a stack of 2021 has no pipeline; as many micro-batches as stages in torchtitan's
    pipelines (``pipeline_parallel_microbatches``, 9dec370).
    """
    plan, batch = draft["plan"], draft["training"].get("global_batch_size")
    stages = plan.get("pipeline_parallel") or 1
    by_stack = {"megatron-lm-2021": stages == 1, "torchtitan": stages > 1}
    if not batch or not by_stack.get(stack(draft)):
        return 1
    ranks = stages * (plan.get("tensor_parallel") or 1) * (plan.get("context_parallel") or 1)
    parts = stages * (plan.get("data_parallel") or draft["cluster"]["num_gpus"] // ranks)
    return max(1, int(batch // parts)) if batch % parts == 0 else 1


def recompute(draft: Draft) -> str:
    """Full in stacks whose published runs, or own defaults, replay every layer."""
    if stack(draft) == "megatron-lm-2022" or draft["training"].get("recompute_modules"):
        return "selective"
    return "full" if stack(draft) in FULL_RECOMPUTE_STACKS else "none"


def vocabulary(draft: Draft) -> int:
    """Of the tokenizer that models of the kind use."""
    if gated(draft):
        return LLAMA_VOCABULARY
    return ZERO_BUBBLE_VOCABULARY if stack(draft) == "zero-bubble" else GPT_VOCABULARY


def seq_length(draft: Draft) -> int | None:
    """The longest that the positions reach, up to a limit."""
    longest = draft["model"].get("max_position_embeddings")
    return None if longest is None else min(LONGEST_DEFAULT_SEQUENCE, longest)


def heads(draft: Draft) -> int:
    """As many as leave heads of a usual size."""
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


def positions(draft: Draft) -> int | None:
    """As many as the sequence is long, where they are learned."""
    learned = draft["model"]["position_embedding"] == "learned"
    return draft["training"]["seq_length"] if learned else None


def data_parallel(draft: Draft) -> int:
    """What the other degrees leave of the GPUs."""
    plan = draft["plan"]
    ranks = plan["tensor_parallel"] * plan["context_parallel"] * plan["pipeline_parallel"]
    return int(draft["cluster"]["num_gpus"] // ranks)


def global_batch_size(draft: Draft) -> int:
    """Eight micro-batches for each replica."""
    replicas, micro = draft["plan"]["data_parallel"], draft["training"]["micro_batch_size"]
    stages = draft["plan"]["pipeline_parallel"]
    return int(replicas * micro * max(MICRO_BATCHES, 4 * stages if stages > 1 else 0))


def sharding(draft: Draft) -> str:
    """As the stack shards by itself."""
    name = stack(draft)
    if draft["plan"]["data_parallel"] * draft["plan"]["context_parallel"] == 1:
        return "none"
    if name in FULLY_SHARDED_STACKS:
        return "parameters"
    if name == "megatron-deepspeed" and draft["training"]["precision"] == "bf16":
        return "optimizer"  # BF16_Optimizer splits its states
    return "none" if name in PLAIN_REPLICA_STACKS else "optimizer"


def gradient_dtype(draft: Draft) -> str:
    """As the stack stores gradients."""
    if draft["training"]["precision"] == "fp16":
        return "fp16"
    if stack(draft) == "internevo":
        return "bf16"
    return "fp32" if draft["training"]["master_weights"] == "fp32" else "bf16"


def fp8_recipe(draft: Draft) -> str | None:
    """By the format and the stack."""
    scaled = "tensorwise" if stack(draft) == "torchtitan" else "delayed"
    named = {"fp8": scaled, "mxfp8": "mxfp8", "nvfp4": "nvfp4"}
    return named.get(draft["training"]["precision"])


def schedule(draft: Draft) -> str:
    """Interleaved where stages hold several chunks."""
    return "interleaved" if draft["plan"]["virtual_pipeline"] > 1 else "1f1b"


def _crosses_nodes(draft: Draft) -> bool:
    cluster = draft["cluster"]
    return bool(cluster["num_gpus"] > cluster["gpus_per_node"])


def on_blackwell(draft: Draft) -> bool:
    """Whether the GPU is of the generation that recipes of 2025 and later are for."""
    return load_gpu(draft["cluster"]["gpu"]).architecture.startswith("Blackwell")


def cuda_graph(draft: Draft) -> str:
    """What recipes for the newest GPUs put into graphs.

    Attention and router of experts, but on B200: its memory is short, and its node's x86 hosts are
    quicker than the Grace of larger scale-up domains.
    """
    if not on_blackwell(draft) or stack(draft) != "megatron-core-te":
        return "none"
    if draft["model"].get("moe") is not None:
        gpu = load_gpu(draft["cluster"]["gpu"])
        ultra = gpu.architecture != "Blackwell"
        return "attention" if ultra or gpu.scaleup_gpus > NODE_GPUS else "none"
    training = draft["training"]
    small = training["precision"] in {"fp8", "mxfp8", "nvfp4"}
    return "iteration" if small and training.get("adapter_rank") is None else "none"


def network(draft: Draft) -> str | None:
    """The preset that a case's words name, or the GPU's own."""
    cluster = draft["cluster"]
    if not _crosses_nodes(draft):
        return None
    rate = cluster.get("inter_node_bytes_per_second_per_gpu")
    words = cluster.get("inter_node") or ""
    named = named_network(words, gpu=cluster["gpu"], bytes_per_second=rate)
    return named or (load_gpu(cluster["gpu"]).network if rate is None else None)


def inter_node_rate(draft: Draft) -> float | None:
    """Of the network preset."""
    name = draft["cluster"].get("network")
    return load_network(name).inter_node_bytes_per_second_per_gpu if name else None


def inter_node_latency(draft: Draft) -> float | None:
    """Of the network preset, or of the GPU's own network."""
    if not _crosses_nodes(draft):
        return None
    name = draft["cluster"].get("network") or load_gpu(draft["cluster"]["gpu"]).network
    return load_network(name).inter_node_latency_seconds
