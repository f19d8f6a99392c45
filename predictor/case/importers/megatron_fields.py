"""Megatron's settings as fields of a case, whoever writes them: arguments, recipes or exports.

Each dialect translates its own names into those of :mod:`.megatron_names` first.
"""

from __future__ import annotations

import ast
import re
from typing import Any, get_args

from predictor.case.importers.megatron_layout import read_context, read_pipeline, read_sharding
from predictor.case.importers.megatron_names import (
    ACTIVATIONS,
    COUNTS,
    DISPATCHERS,
    EXPERT_COUNTS,
    FLAGS,
    LATENT_COUNTS,
    POSITIONS,
)
from predictor.case.importers.settings import OFF, Settings
from predictor.case.limits import MAX_LAYERS
from predictor.case.training_schema import RecomputeModule


def read_fields(settings: Settings) -> None:
    """Put every field that Megatron's settings tell."""
    settings.put_counts(COUNTS)
    settings.put_flags(FLAGS)
    if settings.value_of("plan.tensor_parallel") == 1 and settings.flag("sequence_parallel"):
        settings.put("plan.sequence_parallel", value=False, name="tensor_model_parallel_size")
    _read_shape(settings)
    _read_experts(settings)
    _read_latent(settings)
    _read_numbers(settings)
    _read_recompute(settings)
    read_sharding(settings)
    read_pipeline(settings)
    read_context(settings)
    for name in ("attention_dropout", "hidden_dropout", "ffn_dropout"):
        if settings.real(name):
            settings.not_modelled(
                f"{settings.where(name)} = {settings.raw(name)}: no dropout is modelled"
            )
    settings.unmodelled("optimizer", unless=(*OFF, "adam", "adamw"))
    settings.unmodelled("attention_backend", unless=(*OFF, "auto", "fused", "flash"))
    multiple = settings.count("make_vocab_size_divisible_by")
    if multiple is not None and (settings.value_of("model.vocab_size") or 0) % multiple:
        settings.unmodelled("make_vocab_size_divisible_by", unless=(128, "128"))
    kinds = {"transformer_engine": "megatron-core-te", "local": "megatron-core-local"}
    kind = settings.word("transformer_impl", kinds)
    settings.put("implementation", kind, "transformer_impl")
    if settings.raw("attention_backend") == "flash" and kind != "megatron-core-local":
        settings.put("plan.attention_backend", "flash", "attention_backend")


def _read_shape(settings: Settings) -> None:
    gated = settings.flag("gated_linear_unit")
    if gated is not None:
        settings.put("model.gated_mlp", gated, "gated_linear_unit")
    if settings.has("activation_func"):
        words = str(settings.raw("activation_func")).lower().replace("-", "_")
        known = next((ours for theirs, ours in ACTIVATIONS if theirs in words), None)
        if known is None:
            raise settings.fail("activation_func", "is not an activation that is read")
        settings.put("model.activation", known, "activation_func")
    norms = {"LayerNorm": "layernorm", "RMSNorm": "rmsnorm", "layernorm1p": "layernorm"}
    norm = settings.word("normalization", norms)
    if norm is not None:
        settings.put("model.normalization", norm, "normalization")
    position = settings.word("position_embedding_type", POSITIONS)
    if position is not None:
        settings.put("model.position_embedding", position, "position_embedding_type")
    if settings.has("add_bias_linear"):
        every, of_qkv = settings.flag("add_bias_linear"), settings.flag("add_qkv_bias")
        bias = "all" if every else "qkv" if of_qkv else "none"
        settings.put("model.linear_bias", bias, "add_bias_linear")
    if settings.has("window_size"):
        left = _integers(settings.raw("window_size"))
        if not left:
            raise settings.fail("window_size", "must be a pair of whole numbers")
        settings.put("model.attention_window", left[0] + 1, "window_size")
        if isinstance(settings.raw("window_attn_skip_freq"), str | int):
            frequency = settings.count("window_attn_skip_freq")
            settings.put("model.full_attention_frequency", frequency, "window_attn_skip_freq")


def _integers(value: object) -> list[int]:
    words = value if isinstance(value, list | tuple) else re.findall(r"-?\d{1,9}", str(value))
    return [int(word) for word in words]


def _read_experts(settings: Settings) -> None:
    names = (*EXPERT_COUNTS, "moe_token_dispatcher_type", "moe_grouped_gemm", "moe_layer_freq")
    if not settings.count("num_moe_experts"):
        for name in names:
            settings.has(name)  # without experts, none of them says anything
        return
    settings.put_counts(EXPERT_COUNTS)
    settings.put_default("model.moe.top_k", 2, "Megatron's default of moe_router_topk")
    settings.derive(
        "model.moe.expert_ffn_hidden_size",
        lambda draft: draft.get("model.ffn_hidden_size"),
        "ffn_hidden_size, as Megatron without moe_ffn_hidden_size",
    )
    if settings.value_of("model.moe.shared_expert_ffn_hidden_size"):
        settings.put_default("model.moe.num_shared_experts", 1, "its shared experts are one")
    _read_placing(settings)
    capacity = settings.real("moe_expert_capacity_factor")
    settings.put("model.moe.capacity_factor", capacity, "moe_expert_capacity_factor")
    if settings.flag("moe_pad_expert_input_to_capacity"):
        settings.put(
            "model.moe.pad_to_capacity", value=True, name="moe_pad_expert_input_to_capacity"
        )
    deep = settings.flag("moe_enable_deepep") or settings.has("moe_flex_dispatcher_backend")
    flex = {"flex": "deepep"} if deep else {"flex": "alltoall"}
    dispatcher = settings.word("moe_token_dispatcher_type", {**DISPATCHERS, **flex})
    settings.put("plan.moe_dispatcher", dispatcher, "moe_token_dispatcher_type")
    grouped = settings.flag("moe_grouped_gemm")
    if grouped is not None:
        kind = "grouped" if grouped else "sequential"
        settings.put("plan.moe_experts", kind, "moe_grouped_gemm")


def _read_placing(settings: Settings) -> None:
    """Which layers have experts: every so many, or a pattern of ones and zeros."""
    value = settings.raw("moe_layer_freq")
    if value is None:
        return
    pattern = pattern_of(value)
    if pattern is None:
        raise settings.fail("moe_layer_freq", "must be a number or a pattern as ([0]*3+[1]*58)")
    if isinstance(pattern, int):
        settings.put("model.moe.moe_layer_frequency", pattern, "moe_layer_freq")
        return
    dense = pattern.index(1) if 1 in pattern else len(pattern)
    if pattern != [0] * dense + [1] * (len(pattern) - dense):
        settings.leave_open(
            "model.moe.first_dense_layers",
            "moe_layer_freq mixes layers in a way that a case cannot say; give "
            "--first-dense-layers and --moe-layer-frequency",
        )
        return
    settings.put("model.moe.first_dense_layers", dense, "moe_layer_freq")


def pattern_of(value: object) -> list[int] | int | None:
    """A frequency, or what lists, sums and products of them stand for; None if neither."""
    if isinstance(value, list):
        return value if all(each in (0, 1) for each in value) else None
    text = str(value).strip()
    if re.fullmatch(r"\d{1,5}", text):
        return int(text) or None
    if not re.fullmatch(r"[\d\s()\[\],+*]{1,500}", text):
        return None
    try:
        found = _evaluated(ast.parse(text, mode="eval").body)
    except (SyntaxError, RecursionError, MemoryError, ValueError, TypeError):
        return None
    return found if isinstance(found, list) and all(each in (0, 1) for each in found) else None


def _evaluated(node: ast.expr) -> Any:  # noqa: ANN401 - a number or a list of them
    """Numbers, lists, ``+`` and ``*`` alone; nothing grows beyond the layers of a model."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int) and node.value <= MAX_LAYERS:
        return node.value
    if isinstance(node, ast.List):
        return [_evaluated(each) for each in node.elts]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mult):
        left, right = _evaluated(node.left), _evaluated(node.right)
        if isinstance(node.op, ast.Add) and isinstance(left, list) and isinstance(right, list):
            return [*left, *right][: MAX_LAYERS + 1]
        if isinstance(left, list) and isinstance(right, int) and len(left) * right <= MAX_LAYERS:
            return left * right
    raise ValueError


def _read_latent(settings: Settings) -> None:
    if not settings.flag("multi_latent_attention"):
        for name in LATENT_COUNTS:
            settings.has(name)
        return
    settings.put_counts(LATENT_COUNTS)
    for path, value in (
        ("kv_lora_rank", 32),
        ("qk_nope_head_dim", 128),
        ("qk_rope_head_dim", 64),
        ("v_head_dim", 128),
    ):
        settings.put_default(f"model.mla.{path}", value, "Megatron's default")
    nope, rope = (settings.value_of(f"model.mla.qk_{part}_head_dim") for part in ("nope", "rope"))
    settings.put("model.head_dim", nope + rope, "multi_latent_attention")


def _read_numbers(settings: Settings) -> None:
    """Number formats of products, gradients and weights."""
    half, brain = settings.flag("fp16"), settings.flag("bf16")
    if half and brain:
        raise settings.fail("fp16", "cannot stand beside bf16")
    words = {"tensorwise": "tensorwise", "delayed": "delayed", "mxfp8": "mxfp8"}
    recipe = settings.word("fp8_recipe", {**words, "blockwise": "blockwise", "custom": "custom"})
    small = settings.raw("fp8")
    if settings.raw("fp4") not in OFF:
        settings.put("training.precision", "nvfp4", "fp4")
    elif small not in OFF:
        settings.put("training.precision", "mxfp8" if recipe == "mxfp8" else "fp8", "fp8")
        name = "fp8_recipe" if recipe else "fp8"
        settings.put("training.fp8_recipe", recipe or "delayed", name)
    elif brain or half:
        settings.put("training.precision", "bf16" if brain else "fp16", "bf16" if brain else "fp16")
    if settings.has("grad_reduce_in_fp32"):
        wide = settings.flag("grad_reduce_in_fp32")
        narrow = "fp16" if half else "bf16"
        settings.put("training.gradient_dtype", "fp32" if wide else narrow, "grad_reduce_in_fp32")


def _read_recompute(settings: Settings) -> None:
    kinds = {"full": "full", "selective": "selective", "none": "none"}
    kind = settings.word("recompute_granularity", kinds)
    method = settings.word("recompute_method", {"uniform": "uniform", "block": "block"})
    layers = settings.count("recompute_num_layers")
    settings.put("training.recompute", kind, "recompute_granularity")
    named = settings.raw("recompute_modules")
    modules = named if isinstance(named, list) else [] if named in OFF else [named]
    if kind == "selective" and modules:
        if set(map(str, modules)) <= set(get_args(RecomputeModule)):
            settings.put("training.recompute_modules", modules, "recompute_modules")
        else:
            settings.unmodelled("recompute_modules")
    if kind != "full":
        return
    if method == "block":
        settings.put("training.recompute_layers", layers, "recompute_num_layers")
    elif layers is not None and layers > 1:
        settings.not_modelled(
            f"{settings.where('recompute_num_layers')} = {layers}: every layer is kept as a block "
            "of its own"
        )
