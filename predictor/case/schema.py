"""The fields of a case: names, ranges and one sentence each.

Everything here is a frozen value. A field that has a default reads ``None`` until
:func:`predictor.case.resolve` fills it; :mod:`predictor.case.defaults` says with what. Ranges are
wide enough for any machine that could exist and narrow enough that a slip of the pen is caught.

Plain dataclasses and a reader of two pages do here what a validation library would: importing one
takes longer than the whole of an estimate.
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from predictor.case.kinds import (
    LEAST_RATE,
    Choice,
    Count,
    Flag,
    Real,
    Sequence,
    Spread,
    Text,
)
from predictor.case.section import Section, kinds, needed, optional
from predictor.values import frozen

if TYPE_CHECKING:
    from collections.abc import Sequence as Sequence_

MAX_GPUS = 2**22
MAX_LAYERS = 10_000
MAX_STAGES = 2048
MAX_HIDDEN = 2**20
MAX_FFN = 2**22
MAX_HEADS = 2**14
MAX_HEAD_DIM = 2**12
MAX_VOCAB = 2**24
MAX_SEQUENCE = 2**27
MAX_BATCH = 2**30
MAX_EXPERTS = 2**16

RecomputeModule = Literal[
    "core_attn", "layernorm", "mla_up_proj", "mlp", "moe", "moe_act", "shared_experts"
]
"""Names of Megatron-Core's ``recompute_modules`` (``transformer_config.py`` v0.12 to v0.19)."""


@frozen(kw_only=True)
class Moe(Section):
    """Mixture-of-experts layers of a model."""

    path: ClassVar[str] = "model.moe"

    num_experts: int = needed(Count(MAX_EXPERTS), "Routed experts of a layer.")
    top_k: int = needed(Count(MAX_EXPERTS), "Routed experts that a token visits.")
    expert_ffn_hidden_size: int = needed(Count(MAX_FFN), "Width of one routed expert.")
    num_shared_experts: int = optional(Count(MAX_EXPERTS, 0), "Experts that every token visits.")
    shared_expert_ffn_hidden_size: int = optional(
        Count(MAX_FFN, 0), "Width of all shared experts together."
    )
    first_dense_layers: int = optional(
        Count(MAX_LAYERS, 0), "Layers at the bottom that stay dense."
    )
    moe_layer_frequency: int = optional(
        Count(MAX_LAYERS), "Every how many layers one is a mixture of experts."
    )
    routing_groups: int = optional(
        Count(MAX_EXPERTS), "Groups of experts, of which a token visits a few (DeepSeek's n_group)."
    )
    groups_per_token: int = optional(
        Count(MAX_EXPERTS), "Groups that a token's experts come from (DeepSeek's topk_group)."
    )
    residual_ffn_hidden_size: int = optional(
        Count(MAX_FFN, 0), "Width of a dense feed-forward beside the experts (Arctic); 0: none."
    )
    capacity_factor: float = optional(
        Real(1e4), "Tokens that an expert accepts, over its even share; absent: none is dropped."
    )
    pad_to_capacity: bool = optional(
        Flag(), "Experts run at their whole capacity, however few tokens came."
    )
    imbalance: str | float = optional(
        Spread(("balanced", "consecutive", "random"), ("zipf", "dirichlet")),
        "How unevenly tokens reach the experts, or tokens of the fullest expert rank over the "
        "mean; a histogram's file has one count an expert.",
    )
    expert_tokens: tuple[float, ...] = optional(
        Sequence(Real(1e18, least=0.0, above=-1.0)), "Tokens of each expert: a histogram."
    )


@frozen(kw_only=True)
class Mla(Section):
    """Multi-head latent attention: low-rank queries, keys and values."""

    path: ClassVar[str] = "model.mla"

    q_lora_rank: int = optional(Count(MAX_HIDDEN), "Rank of the queries; absent: full rank.")
    kv_lora_rank: int = needed(Count(MAX_HIDDEN), "Rank of keys and values.")
    qk_nope_head_dim: int = needed(Count(MAX_HEAD_DIM), "Part of a query head without position.")
    qk_rope_head_dim: int = needed(Count(MAX_HEAD_DIM), "Part of a query head with position.")
    v_head_dim: int = needed(Count(MAX_HEAD_DIM), "Size of a value head.")


@frozen(kw_only=True)
class Model(Section):
    """A decoder-only transformer.

    ``preset`` and ``hf_config`` are read by :meth:`Case.from_dict` and leave their fields here.
    """

    path: ClassVar[str] = "model"

    name: str = optional(Text(), "Name; that of a public model fills fields that are absent.")
    num_layers: int = needed(Count(MAX_LAYERS), "Transformer layers.")
    hidden_size: int = needed(Count(MAX_HIDDEN), "Width of the residual stream.")
    ffn_hidden_size: int = optional(Count(MAX_FFN), "Width of the dense feed-forward.")
    num_attention_heads: int = optional(Count(MAX_HEADS), "Query heads.")
    num_query_groups: int = optional(Count(MAX_HEADS), "Key and value heads.")
    head_dim: int = optional(Count(MAX_HEAD_DIM), "Size of a query and key head.")
    vocab_size: int = optional(Count(MAX_VOCAB), "Rows of the embedding, before padding.")
    gated_mlp: bool = optional(Flag(), "Gated feed-forward: three matrices instead of two.")
    tied_embeddings: bool = optional(Flag(), "Input and output embedding are one matrix.")
    normalization: Literal["layernorm", "rmsnorm"] = optional(
        Choice(("layernorm", "rmsnorm")), "Kind of norm."
    )
    position_embedding: Literal["rope", "learned", "alibi", "none"] = optional(
        Choice(("rope", "learned", "alibi", "none")), "Kind of position embedding."
    )
    qk_norm: bool = optional(Flag(), "A norm on queries and keys.")
    linear_bias: Literal["none", "qkv", "all"] = optional(
        Choice(("none", "qkv", "all")), "Which linear layers have a bias."
    )
    activation: Literal["gelu", "silu", "relu", "squared-relu"] = optional(
        Choice(("gelu", "silu", "relu", "squared-relu")), "Non-linearity of the feed-forward."
    )
    attention_window: int = optional(
        Count(MAX_SEQUENCE), "Tokens that a query sees; absent: all before it."
    )
    full_attention_frequency: int = optional(
        Count(MAX_LAYERS),
        "Every how many layers one sees the whole sequence despite attention_window.",
    )
    max_position_embeddings: int = optional(
        Count(MAX_SEQUENCE),
        "Longest sequence the model was built for; rows of a learned position embedding.",
    )
    mtp_num_layers: int = optional(
        Count(MAX_LAYERS, 0), "Multi-token prediction modules behind the last layer."
    )
    moe: Moe | None = field(default=None, metadata={"description": "Mixture of experts."})
    mla: Mla | None = field(default=None, metadata={"description": "Latent attention."})
    notes: tuple[str, ...] = field(
        default=(),
        metadata={
            "kind": Sequence(Text()),
            "description": "Remarks that an estimate repeats.",
        },
    )


@frozen(kw_only=True)
class Training(Section):
    """What one iteration computes, and in which numbers."""

    path: ClassVar[str] = "training"

    seq_length: int = optional(Count(MAX_SEQUENCE), "Tokens of a sequence.")
    micro_batch_size: int = optional(Count(MAX_BATCH), "Sequences of a micro-batch.")
    global_batch_size: int = optional(Count(MAX_BATCH), "Sequences of an iteration.")
    precision: Literal["bf16", "fp16", "fp8", "mxfp8", "nvfp4"] = optional(
        Choice(("bf16", "fp16", "fp8", "mxfp8", "nvfp4")), "Format of the matrix products."
    )
    fp8_recipe: str = optional(Text(), "Scaling recipe of 8-bit formats, in the source's words.")
    recompute: Literal["none", "selective", "full", "custom"] = optional(
        Choice(("none", "selective", "full", "custom")),
        "Activations computed again in the backward pass.",
    )
    recompute_layers: int = optional(
        Count(MAX_LAYERS, 0), "Layers of a stage that recompute; absent: all."
    )
    recompute_modules: tuple[RecomputeModule, ...] = optional(
        Sequence(Choice(get_args(RecomputeModule))),
        "What selective recomputation runs again; absent: core_attn.",
    )
    optimizer: Literal[
        "adamw", "adamw-fused-fp32", "adamw-fused-bf16-states", "torch-adamw-foreach-fp32"
    ] = optional(
        Choice(
            ("adamw", "adamw-fused-fp32", "adamw-fused-bf16-states", "torch-adamw-foreach-fp32")
        ),
        "Optimizer, its kernel and the format of its states.",
    )
    master_weights: Literal["fp32", "none"] = optional(
        Choice(("fp32", "none")), "Copy of the weights for the optimizer."
    )
    gradient_dtype: Literal["fp32", "bf16", "fp16"] = optional(
        Choice(("fp32", "bf16", "fp16")), "Format of stored gradients."
    )


_DEGREE = Count(MAX_GPUS)


@frozen(kw_only=True)
class Plan(Section):
    """How the work is laid out over the GPUs."""

    path: ClassVar[str] = "plan"

    tensor_parallel: int = optional(_DEGREE, "Ranks that share a layer's matrices.")
    sequence_parallel: bool = optional(
        Flag(), "Norms split along the sequence over the tensor ranks."
    )
    context_parallel: int = optional(_DEGREE, "Ranks that share a sequence.")
    context_parallel_kind: Literal["ring", "all-gather", "ulysses"] = optional(
        Choice(("ring", "all-gather", "ulysses")),
        "How ranks of a sequence see each other's keys and values.",
    )
    pipeline_parallel: int = optional(Count(MAX_STAGES), "Pipeline stages.")
    virtual_pipeline: int = optional(Count(MAX_LAYERS), "Model chunks of a stage.")
    schedule: Literal[
        "gpipe", "1f1b", "interleaved", "zb-h1", "zb-h2", "zb-1p", "zb-2p", "dualpipe"
    ] = optional(
        Choice(("gpipe", "1f1b", "interleaved", "zb-h1", "zb-h2", "zb-1p", "zb-2p", "dualpipe")),
        "Order of the micro-batches in the pipeline.",
    )
    layers_per_stage: tuple[int, ...] = optional(
        Sequence(Count(MAX_LAYERS, 0)), "Layers of each stage, or of each of its chunks."
    )
    expert_parallel: int = optional(_DEGREE, "Ranks that share the experts.")
    expert_tensor_parallel: int = optional(_DEGREE, "Ranks that share one expert.")
    data_parallel: int = optional(_DEGREE, "Replicas; follows from the rest.")
    sharding: Literal["none", "optimizer", "gradients", "parameters"] = optional(
        Choice(("none", "optimizer", "gradients", "parameters")),
        "What the replicas split: ZeRO 0, 1, 2 or 3.",
    )
    sharding_group: int = optional(
        _DEGREE, "Ranks over which the replicas split; absent: all of them."
    )
    moe_dispatcher: Literal["alltoall", "allgather", "hierarchical", "deepep"] = optional(
        Choice(("alltoall", "allgather", "hierarchical", "deepep")),
        "How tokens travel to their experts.",
    )
    moe_experts: Literal["sequential", "grouped", "batched"] = optional(
        Choice(("sequential", "grouped", "batched")),
        "How a rank runs its experts: one by one, in grouped products, or padded to one size.",
    )
    moe_dispatch_dtype: Literal["bf16", "fp8"] = optional(
        Choice(("bf16", "fp8")), "Number format of dispatched tokens; combine stays in bf16."
    )
    moe_compression: float = optional(
        Real(1.0), "What if tokens were compressed: bytes sent over bytes before (LSH-MoE)."
    )
    moe_shared_overlap: bool = optional(
        Flag(), "Shared experts run beside dispatch and combine; absent: as the stack does."
    )
    moe_permute_fusion: bool = optional(
        Flag(), "Tokens are put in their experts' order, and back, by one kernel each."
    )
    overlap_grad_reduce: bool = optional(
        Flag(), "Gradients are reduced during the backward pass; absent: as the stack does."
    )
    overlap_param_gather: bool = optional(
        Flag(), "Parameters are gathered during the forward pass; absent: as the stack does."
    )
    overlap_p2p: bool = optional(
        Flag(), "Pipeline transfers run beside computation; absent: as the stack does."
    )
    tp_overlap: bool = optional(
        Flag(), "Tensor-parallel transfers run beside products; absent: as the stack does."
    )
    moe_overlap: bool = optional(
        Flag(),
        "Dispatch and combine of one micro-batch run beside the computation of another; absent: "
        "as the stack does.",
    )
    cuda_graph: Literal["none", "router", "attention", "iteration"] = optional(
        Choice(("none", "router", "attention", "iteration")),
        "What CUDA graphs hold: nothing, an expert layer's router and counts, its attention too, "
        "or the whole iteration.",
    )


@frozen(kw_only=True)
class Links(Section):
    """Links of a cluster that are not all alike, and where the job's nodes or GPUs sit on them.

    ``cluster.links = "FILE.csv"`` reads them from a file (docs/uneven_clusters.md).
    """

    path: ClassVar[str] = "cluster.links"

    between: Literal["nodes", "gpus"] = optional(
        Choice(("nodes", "gpus")), "What the rows, overrides and places count."
    )
    bytes_per_second: tuple[tuple[float, ...], ...] = optional(
        Sequence(Sequence(Real(1e15, least=0.0, above=-1.0))),
        "One-way rate that a GPU has from each (row) to each other (column).",
    )
    overrides: tuple[tuple[float, ...], ...] = optional(
        Sequence(Sequence(Real(1e15, least=0.0, above=-1.0))),
        "Links that differ, as [from, to, bytes_per_second], numbered from 0.",
    )
    placement: tuple[int, ...] = optional(
        Sequence(Count(MAX_GPUS, 0)),
        "The node or GPU that each place in the order of ranks sits on; absent: 0, 1, 2, …",
    )


@frozen(kw_only=True)
class Cluster(Section):
    """The machine."""

    path: ClassVar[str] = "cluster"

    gpu: str = needed(Text(), "SKU, a folder of bench_results.")
    num_gpus: int = needed(Count(MAX_GPUS), "GPUs of the job.")
    gpus_per_node: int = optional(Count(MAX_GPUS), "GPUs of a node; may exceed num_gpus.")
    network: str = optional(Text(), "Preset of the network between nodes.")
    inter_node: str = optional(Text(), "The network in words, which may name a preset.")
    inter_node_bytes_per_second_per_gpu: float = optional(
        Real(1e15, least=LEAST_RATE), "One-way rate between nodes that a GPU has."
    )
    inter_node_latency_seconds: float = optional(Real(10.0), "Latency of one step between nodes.")
    stage_gpus: tuple[str, ...] = optional(
        Sequence(Text()), "SKU of each pipeline stage, gpu's first; absent: gpu on all."
    )
    links: Links | None = field(default=None, metadata={"description": "Links that differ."})


SECTIONS: dict[str, type[Section]] = {
    "model": Model,
    "training": Training,
    "plan": Plan,
    "cluster": Cluster,
}
_ALL: tuple[type[Section], ...] = (*SECTIONS.values(), Moe, Mla)
_PATHS: dict[str, tuple[str, ...]] = {}


def field_paths() -> dict[str, tuple[str, ...]]:
    """Return where each field of a case lies, by its own name; no name is used twice."""
    if not _PATHS:
        for section in _ALL:
            path = tuple(section.path.split("."))
            _PATHS.update({name: (*path, name) for name in kinds(section) if name != "notes"})
        _PATHS["implementation"] = ("implementation",)
    return dict(_PATHS)


def section_at(path: Sequence_[str]) -> type[Section] | None:
    """Return the section at a path, as ``("model", "moe")``."""
    sections = {each.path: each for each in _ALL}
    return sections.get(".".join(path))
