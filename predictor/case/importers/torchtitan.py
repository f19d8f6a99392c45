"""torchtitan's TOML (its job configuration, 2024 to 2025) as fields of a case.

Read in torchtitan ``config/job_config.py`` at 000204a (2025-07) and ``config_manager.py`` at
9dec370 (2024-12), whose older names are read too. Newer releases are configured in Python, which is
not read: only running it could tell what it holds.
"""

from __future__ import annotations

import re
from typing import Any

from predictor.case.importers.files import flattened, parse
from predictor.case.importers.found import Draft, Imported, ranks_of
from predictor.case.importers.settings import OFF, Setting, Settings
from predictor.case.importers.torchtitan_plan import read_plan

FORM = "torchtitan"

# Models by family and flavour, in lower case.
PRESETS = {
    ("llama3", "8b"): "llama3-8b",
    ("llama3", "70b"): "llama3-70b",
    ("llama3", "405b"): "llama3-405b",
    ("llama2", "7b"): "llama2-7b",
    ("llama2", "13b"): "llama2-13b",
    ("llama2", "70b"): "llama2-70b",
    ("llama4", "17bx16e"): "llama4-scout",
    ("llama4", "17bx128e"): "llama4-maverick",
    ("deepseek_v3", "236b"): "deepseek-v2",
    ("deepseek_v3", "671b"): "deepseek-v3",
    ("qwen3", "0.6b"): "qwen3-0.6b",
    ("qwen3", "1.7b"): "qwen3-1.7b",
    ("qwen3", "4b"): "qwen3-4b",
    ("qwen3", "8b"): "qwen3-8b",
    ("qwen3", "14b"): "qwen3-14b",
    ("qwen3", "32b"): "qwen3-32b",
    ("qwen3", "30b-a3b"): "qwen3-30b-a3b",
    ("qwen3", "235b-a22b"): "qwen3-235b-a22b",
}
# Names of older releases, and of newer ones, beside those of mid-2025.
_RENAMED = {
    "training.batch_size": "training.local_batch_size",
    "training.data_parallel_degree": "parallelism.data_parallel_shard_degree",
    "training.data_parallel_replicate_degree": "parallelism.data_parallel_replicate_degree",
    "training.data_parallel_shard_degree": "parallelism.data_parallel_shard_degree",
    "training.tensor_parallel_degree": "parallelism.tensor_parallel_degree",
    "training.compile": "compile.enable",
    "experimental.pipeline_parallel_degree": "parallelism.pipeline_parallel_degree",
    "experimental.pipeline_parallel_schedule": "parallelism.pipeline_parallel_schedule",
    "experimental.context_parallel_degree": "parallelism.context_parallel_degree",
    "experimental.context_parallel_rotate_method": "parallelism.context_parallel_rotate_method",
    "experimental.enable_async_tensor_parallel": "parallelism.enable_async_tensor_parallel",
}
_FREE = re.compile(
    r"""(job|profiling|metrics|checkpoint|lr_scheduler|comm|validation|validate|memory_estimation|debug)\.
    |optimizer\.(lr|eps|beta|weight_decay|implementation)
    |training\.(dataset|dataset_path|steps|max_norm|seed|gc_|deterministic|debug|tokenizer|data)
    |model\.(tokenizer_path|hf_assets_path|print_after|norm_type|tokenizer|converters)
    |experimental\.custom|compile\.(components|backend)|float8\.(emulate|filter|force)|mx\.(filter|mxfp8)
    |activation_checkpoint\.(per_op|early_stop|preserve)
    """,
    re.VERBOSE,
)


def read_torchtitan(origin: str, text: str) -> Imported:
    """Read a job configuration.

    Raises:
        CaseError: It is damaged, or a value is not legal.
    """
    found = flattened(origin, text, parse(origin, text, "toml"))
    renamed: dict[str, Setting] = {}
    for name, setting in found.items():
        renamed[_RENAMED.get(name, name)] = setting
    settings = Settings(origin, FORM, renamed)
    settings.put_default("implementation", "torchtitan", "a configuration of torchtitan")
    _read_model(settings)
    read_plan(settings)
    _read_batch(settings)
    _read_numbers(settings)
    _read_recompute(settings)
    return settings.finished(lambda name, value: value in OFF or bool(_FREE.match(name)))


def _read_model(settings: Settings) -> None:
    family, flavor = settings.raw("model.name"), settings.raw("model.flavor")
    if not family or not flavor:
        settings.leave_open("model", "names no model.name and model.flavor; bring the model too")
        return
    preset = PRESETS.get((str(family).lower(), str(flavor).lower().partition("_")[0]))
    if preset is None:
        known = ", ".join(f"{family} {size}" for family, size in PRESETS)
        settings.leave_open(
            "model",
            f"model.name = {family!r}, model.flavor = {flavor!r}: is not read; known: {known}; or "
            "bring the model with another --from",
        )
        return
    settings.put("model.preset", preset, "model.flavor")


def _read_batch(settings: Settings) -> None:
    name = "training.local_batch_size"
    local = settings.count(name)
    if settings.has("training.seq_len"):
        settings.put("training.seq_length", settings.count("training.seq_len"), "training.seq_len")
    settings.put_default("training.seq_length", 2048, "torchtitan's default, no training.seq_len")
    batch = 8 if local is None else local
    micro = "parallelism.pipeline_parallel_microbatch_size"
    if settings.value_of("plan.pipeline_parallel") > 1:
        size = settings.count(micro)
        settings.put_default("training.micro_batch_size", size or 1, f"{micro}, or its default 1")
    elif local is not None:
        settings.put("training.micro_batch_size", local, name)
    else:
        settings.put_default("training.micro_batch_size", 8, f"torchtitan's default, no {name}")
    whole = settings.count("training.global_batch_size")
    if whole is not None and whole > 0:
        settings.put("training.global_batch_size", whole, "training.global_batch_size")
    else:
        settings.derive(
            "training.global_batch_size",
            lambda draft: _whole_batch(draft, batch),
            "local_batch_size x replicas, as torchtitan without global_batch_size",
        )


def _whole_batch(draft: Draft, local: int) -> int | None:
    gpus = draft.get("cluster.num_gpus")
    return None if gpus is None else gpus // ranks_of(draft) * local or None


def _read_numbers(settings: Settings) -> None:
    name = "training.mixed_precision_param"
    if settings.raw(name) not in (None, "bfloat16"):
        words = f"{name} = {settings.raw(name)} is not modelled; give --precision bf16"
        settings.leave_open("training.precision", words)
    settings.put_default("training.precision", "bf16", "torchtitan's mixed precision")
    settings.unmodelled("training.mixed_precision_reduce", unless=(None, "float32"))
    settings.unmodelled("training.dtype", unless=(None, "float32"))
    settings.unmodelled("training.enable_cpu_offload")
    settings.unmodelled("optimizer.early_step_in_backward")
    settings.unmodelled("optimizer.name", unless=(None, "AdamW", "Adam"))
    converters = settings.raw("model.converters") or []
    words = ",".join(map(str, converters)) if isinstance(converters, list) else str(converters)
    if "float8" in words or settings.flag("float8.enable_float8_linear"):
        named = "model.converters" if words else "float8.enable_float8_linear"
        settings.put("training.precision", "fp8", named)
        recipe = settings.raw("float8.recipe_name") or "tensorwise"
        settings.put("training.fp8_recipe", str(recipe), named)
    elif "mx" in words:
        settings.put("training.precision", "mxfp8", "model.converters")
    else:
        for unused in ("float8.recipe_name", "mx.recipe_name"):
            settings.has(unused)  # without its converter, a section says nothing
    if settings.flag("compile.enable") is False or not settings.has("compile.enable"):
        settings.not_modelled(
            f"{settings.origin}: no compilation: torchtitan's blocks are estimated as compiled"
        )


def _read_recompute(settings: Settings) -> None:
    name = "activation_checkpoint.mode"
    kinds: dict[str, Any] = {"none": "none", "selective": "selective", "full": "full"}
    kind = settings.word(name, kinds)
    if kind is not None:
        settings.put("training.recompute", kind, name)
    settings.put_default("training.recompute", "selective", f"torchtitan's default, no {name}")
    option = settings.raw("activation_checkpoint.selective_ac_option")
    if settings.value_of("training.recompute") == "selective" and option != "op":
        settings.not_modelled(
            f"{settings.origin}: activation_checkpoint.selective_ac_option = {option or '2'}: the "
            "policy by operators is estimated"
        )
