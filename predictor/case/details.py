"""What a record says in its source's own words and the case's fields do not.

``plan.overlap_detail`` and its kin are free text. Some of its words name things that a field of
the plan stands for; where that field is absent, they fill it. ``training.recompute_detail`` may
name the modules of selective recomputation, or a policy of JAX, which ``recompute = "custom"``
leaves open.
"""

from __future__ import annotations

import re
from typing import Any, get_args

from predictor.case.models import public_model
from predictor.case.training_schema import RecomputeModule

_WORDS: tuple[tuple[str, str, object], ...] = (
    (r"\b(deepep|hybridep)\b", "moe_dispatcher", "deepep"),
    (r"\balltoall dispatcher\b", "moe_dispatcher", "alltoall"),
    (r"\ballgather dispatcher\b", "moe_dispatcher", "allgather"),
    (r"\bmoe_permute_fusion\s*=\s*false\b", "moe_permute_fusion", False),
    (r"\bmoe_permute_fusion\b", "moe_permute_fusion", True),
    (r"\bno (ep|a2a) overlap\b|\b(ep|a2a) overlap off\b", "moe_overlap", False),
    (r"\b(ep|a2a) overlap\b", "moe_overlap", True),
    (r"\btp_comm_overlap\s*=\s*false\b", "tp_overlap", False),
    (r"\btp_comm_overlap\b", "tp_overlap", True),
    (r"\basync_tp\s*=\s*false\b", "tp_overlap", False),
    (r"\basync_tp\b", "tp_overlap", True),
    (r"\bcuda graphs off\b", "cuda_graph", "none"),
    (r"\bcuda graphs? moe_router\b", "cuda_graph", "router"),
    (r"\bcuda graphs?\b", "cuda_graph", "attention"),
)
_DETAIL = "_detail"
_GROUPS = r"\b(?:fsdp (?=\d+ x dp \d)|shard group |zero1=)(\d{1,6})\b"

_SYNONYMS = {"up_proj": "mla_up_proj"}
_SECTIONS = {"mla_up_proj": "mla", "moe": "moe", "moe_act": "moe", "shared_experts": "moe"}

# MaxText ``layers/decoders.py`` and Praxis ``AutodiffCheckpointType``: what a policy does not keep.
# The feed-forward's second product is needed by no gradient.
_POLICIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"save[ _]dots?[ _]except[ _]mlp|save_qkv_out_proj", ("core_attn", "layernorm", "mlp")),
    (r"save_dot_only", ("core_attn", "layernorm")),
)


def plan_from_details(plan: dict[str, Any], cluster: dict[str, Any]) -> dict[str, Any]:
    """Return a plan's fields with those that its free text tells and that are absent.

    HSDP without a number shards inside a node, PyTorch's own choice for ``HYBRID_SHARD``.
    """
    text = " ".join(str(v) for k, v in plan.items() if str(k).endswith(_DETAIL) and v).lower()
    filled = dict(plan)
    if not text:
        return filled
    for pattern, key, value in _WORDS:
        if filled.get(key) is None and re.search(pattern, text):
            filled[key] = value
    if filled.get("sharding_group") is None:
        groups = re.search(_GROUPS, text)
        if groups:
            filled["sharding_group"] = int(groups[1])
        elif re.search(r"\bhsdp\b(?! \d)", text):
            filled["sharding_group"] = _node_of(plan, cluster)
    return filled


def _node_of(plan: dict[str, Any], cluster: dict[str, Any]) -> int | None:
    """Ranks of a node where one replica's ranks fill several nodes, each on a GPU of its own."""
    node, replicas = cluster.get("gpus_per_node"), plan.get("data_parallel")
    alone = all(
        plan.get(key) in {None, 1}
        for key in ("tensor_parallel", "context_parallel", "pipeline_parallel")
    )
    if not alone or not isinstance(node, int) or not isinstance(replicas, int) or node < 1:
        return None
    return node if replicas % node == 0 else None


def training_from_details(training: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """Return a training's fields with the modules that its text says are recomputed.

    Those of a section that the model has not, nor the public one of its name, are passed over.
    """
    words, filled = str(training.get("recompute_detail") or "").lower(), dict(training)
    if filled.get("recompute_modules") is not None:
        return filled
    modules: tuple[str, ...] = ()
    if filled.get("recompute") == "selective":
        named = [_SYNONYMS.get(word, word) for word in re.findall(r"[a-z_]+", words)]
        has = (public_model(model) or {}) | model
        told = [word for word in named if word not in _SECTIONS or has.get(_SECTIONS[word])]
        modules = tuple(word for word in told if word in get_args(RecomputeModule))
    elif filled.get("recompute") == "custom":
        modules = next((kept for text, kept in _POLICIES if re.search(text, words)), ())
    if modules:
        filled |= {"recompute": "selective", "recompute_modules": list(modules)}
    return filled
