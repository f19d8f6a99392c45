"""The fields of ``[model]``, ``[model.moe]`` and ``[model.mla]``."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar, Literal, get_args

from predictor.case.kinds import Choice, Count, Flag, Real, Sequence, Spread, Text
from predictor.case.limits import (
    MAX_EXPERTS,
    MAX_FFN,
    MAX_HEAD_DIM,
    MAX_HEADS,
    MAX_HIDDEN,
    MAX_LAYERS,
    MAX_SEQUENCE,
    MAX_VOCAB,
)
from predictor.case.section import Section, needed, optional
from predictor.values import frozen

Normalization = Literal["layernorm", "rmsnorm"]
PositionEmbedding = Literal["rope", "learned", "alibi", "none"]
LinearBias = Literal["none", "qkv", "all"]
Activation = Literal["gelu", "silu", "relu", "squared-relu"]


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
    normalization: Normalization = optional(Choice(get_args(Normalization)), "Kind of norm.")
    position_embedding: PositionEmbedding = optional(
        Choice(get_args(PositionEmbedding)), "Kind of position embedding."
    )
    qk_norm: bool = optional(Flag(), "A norm on queries and keys.")
    linear_bias: LinearBias = optional(
        Choice(get_args(LinearBias)), "Which linear layers have a bias."
    )
    activation: Activation = optional(
        Choice(get_args(Activation)), "Non-linearity of the feed-forward."
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
