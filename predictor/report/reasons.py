"""Why the fastest of several cases is faster than another: one or two sentences for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from predictor.report.quantities import percent_text, seconds_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from predictor.report.comparison import Comparison

SAME_SHARE = 0.01
"""Relative difference below which two cases are said to take the same time."""

LEAST_SHARE = 0.005
"""Share of the slower case's time below which a part is not mentioned."""

SHOWN_GAINS = 3
SHOWN_LOSSES = 2
SHOWN_FIELDS = 3

_LAYOUT = frozenset(
    {
        "tensor_parallel", "sequence_parallel", "context_parallel", "expert_parallel",
        "expert_tensor_parallel", "pipeline_parallel", "data_parallel", "num_gpus",
        "micro_batch_size", "global_batch_size", "layers_per_stage",
    }
)  # fmt: skip
_STEP = frozenset({"gpu", "implementation", "seq_length", "num_layers", "recompute", "precision"})
_WIDTHS = frozenset(
    {"hidden_size", "ffn_hidden_size", "gated_mlp", "expert_ffn_hidden_size", "top_k"}
)
_HEADS = frozenset({"num_attention_heads", "num_query_groups", "head_dim", "v_head_dim"})
_ADAPTED = frozenset({"adapter_rank", "adapter_modules"})
_COMPUTING = _LAYOUT | _STEP | _WIDTHS | _ADAPTED
# Fields that influence a part of the time, by the last name of their path.
_INFLUENCES: dict[str, frozenset[str]] = {
    "gemm": _COMPUTING | _HEADS | {"vocab_size", "fp8_recipe", "recompute_modules"},
    "attention": (_LAYOUT | _STEP | _HEADS)
    | {"attention_window", "full_attention_frequency", "context_parallel_kind"}
    | {"attention_backend"},
    "memory_bound": _COMPUTING
    | {"vocab_size", "normalization", "qk_norm", "linear_bias", "fp8_recipe"},
    "optimizer": (_LAYOUT | _WIDTHS | _ADAPTED)
    | {"gpu", "implementation", "num_layers", "vocab_size", "optimizer", "sharding"},
    "communication": (_LAYOUT | _WIDTHS | _ADAPTED)
    | {
        "gpu", "implementation", "seq_length", "num_layers", "sharding", "sharding_group",
        "gpus_per_node", "network", "inter_node_bytes_per_second_per_gpu", "overlap_grad_reduce",
        "inter_node_latency_seconds", "context_parallel_kind", "overlap_param_gather",
        "overlap_p2p", "tp_overlap", "moe_overlap", "moe_dispatcher", "moe_dispatch_dtype",
        "moe_compression", "virtual_pipeline",
    },
    "bubble": frozenset(
        {
            "pipeline_parallel", "virtual_pipeline", "schedule", "micro_batch_size",
            "global_batch_size", "layers_per_stage", "data_parallel", "overlap_p2p",
        }
    ),
    "host": (_LAYOUT | _STEP | _ADAPTED) | {"cuda_graph", "moe_experts", "moe_permute_fusion"},
}  # fmt: skip
_NAMES = {
    "gemm": "matrix products",
    "memory_bound": "memory-bound kernels",
    "host": "waiting for the host",
    "bubble": "the pipeline's bubble",
    "optimizer": "the optimizer",
}


def reasons(compared: Comparison) -> tuple[str, ...]:
    """Return why the fastest case is faster than each other one."""
    cases = range(len(compared.names))
    best = min(cases, key=lambda at: compared.seconds[at])
    return tuple(_reason(compared, best, other) for other in cases if other != best)


def _reason(compared: Comparison, best: int, other: int) -> str:
    fast, slow = compared.seconds[best], compared.seconds[other]
    winner, loser = compared.names[best], compared.names[other]
    if slow / fast - 1 < SAME_SHARE:
        return f"{winner} and {loser} take the same time within {percent_text(SAME_SHARE)}."
    gained = {name: values[other] - values[best] for name, values in compared.parts().items()}
    ranked = sorted(gained.items(), key=lambda item: -abs(item[1]))
    worth = [(name, gain) for name, gain in ranked if abs(gain) >= LEAST_SHARE * slow]
    less = [f"{seconds_text(gain)} less on {_name(name)}" for name, gain in worth if gain > 0]
    more = [f"{seconds_text(-gain)} more on {_name(name)}" for name, gain in worth if gain < 0]
    but = f", though {_listed(more[:SHOWN_LOSSES])}" if more else ""
    unit = "" if compared.same_work else ", in GPU time for a million tokens"
    sentence = (
        f"{winner} is {slow / fast:.2f} times as fast as {loser} ({seconds_text(fast)} against "
        f"{seconds_text(slow)}{unit}): it spends {_listed(less[:SHOWN_GAINS])}{but}."
    )
    return f"{sentence}{_cause(compared, best, other, ranked[0][0])}{_misfit(compared, best)}"


def _misfit(compared: Comparison, best: int) -> str:
    fits = compared.estimates[best].fits
    return "" if fits else f" But {compared.names[best]} does not fit in the GPUs' memory."


def _name(part: str) -> str:
    return _NAMES.get(part, part.replace("_", " "))


def _listed(words: Sequence[str]) -> str:
    *before, last = words or ("a little less on many parts",)
    return f"{', '.join(before)} and {last}" if before else last


def _cause(compared: Comparison, best: int, other: int, part: str) -> str:
    """The differing fields that influence the part whose time differs most."""
    influences = _INFLUENCES.get(part, _COMPUTING)
    found = [
        f"{each.path} ({value_text(each.values[best])} against {value_text(each.values[other])})"
        for each in compared.differences()
        if each.values[best] != each.values[other] and each.path.rpartition(".")[2] in influences
    ]
    if not found:
        return ""
    left_out = len(found) - SHOWN_FIELDS
    more = f" and {left_out} more" if left_out > 0 else ""
    shown = ", ".join(found[:SHOWN_FIELDS])
    return f" Differences that influence {_name(part)}: {shown}{more}."


def value_text(value: object) -> str:
    """Return a field's value in words; ``-`` where it is absent."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
