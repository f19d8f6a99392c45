"""Recipes as YAML: Megatron-Bridge's, NeMo 2's exports and NeMo 1's configurations.

All of them hold Megatron-Core's names in sections of their own. What a recipe in Python adds where
a YAML file is silent cannot be known from it, so no default of a framework is taken.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from predictor.case.importers.adapters import read_adapters
from predictor.case.importers.files import parse_yaml
from predictor.case.importers.megatron_arguments import read_arguments
from predictor.case.importers.megatron_fields import read_fields
from predictor.case.importers.megatron_names import is_free
from predictor.case.importers.settings import OFF, Setting, Settings

if TYPE_CHECKING:
    from predictor.case.importers.found import Imported

FORM = "nemo"

# Sections that hold settings of the configuration classes; what stands in another is named whole.
_SECTIONS = re.compile(
    r"""^(ConfigContainer\.|recipe\.)?
    (model(_config)?\.config|model(_config)?\.optim|model(_config)?\.data|model(_config)?|train(_config)?
    |trainer\.strategy\.ddp|trainer\.strategy|trainer\.plugins|trainer|ddp(_config)?|dist(_config)?
    |dataset(_config)?|data|mixed_precision(_config)?|comm_overlap(_config)?|optim\.config|optim
    |optimizer(_config)?)\.(?=[^.]+$)""",
    re.VERBOSE,
)
# Sections of which nothing bears on an iteration.
_FREE_SECTIONS = re.compile(
    r"""^(ConfigContainer\.|recipe\.)?(checkpoint|logger|profiling|rng|scheduler|tokenizer|straggler
    |nvrx_straggler|ft|inprocess_restart|validation|exp_manager|log|resume|optim\.lr_scheduler
    |model\.(tokenizer|nsys_profile|data|peft|optim\.sched)|peft\.(alpha|dropout_position|lora_[AB]_init_method)
    |trainer\.callbacks|wandb|env_vars
    |rerun_state_machine|optimizer_config_override_provider|tensor_inspect)(_config)?\b""",
    re.VERBOSE | re.IGNORECASE,
)
_RENAMED = {
    "activations_checkpoint_granularity": "recompute_granularity",
    "activations_checkpoint_method": "recompute_method",
    "activations_checkpoint_num_layers": "recompute_num_layers",
    "encoder_seq_length": "seq_length",
    "sequence_length": "seq_length",
    "bias": "add_bias_linear",
    "activation": "activation_func",
    "num_experts": "num_moe_experts",
    "ub_tp_comm_overlap": "tp_comm_overlap",
    "overlap_grad_sync": "overlap_grad_reduce",
    "overlap_param_sync": "overlap_param_gather",
    "num_nodes": "nnodes",
    "devices": "nproc_per_node",
    "num_gpus_per_node": "nproc_per_node",
    "position_embeddings": "position_embedding_type",
}
_PRECISION = re.compile(r"(bf16|fp16|16|32)")


def read_recipe(origin: str, text: str) -> Imported:
    """Read a recipe, or a YAML list of Megatron's arguments (``--num-layers: 61``).

    Raises:
        CaseError: The file is not plain YAML, or a value is not legal.
    """
    found = parse_yaml(origin, text)
    if any(name.rpartition(".")[2].startswith("--") for name in found):
        return read_arguments(origin, _as_line(found))
    settings = Settings(origin, FORM, _leaves(found))
    _read_whole(settings)
    read_fields(settings)
    read_adapters(settings)
    settings.put_default("implementation", "megatron-core-te", "a recipe of Megatron-Core")
    return settings.finished(_is_free)


def _as_line(found: dict[str, Setting]) -> str:
    """Arguments that are keys of a mapping, on one line each where the file has them."""
    lines: dict[int, str] = {}
    for name, setting in found.items():
        leaf = name.rpartition(".")[2]
        if leaf.startswith("--") and setting.value is not False:
            value = "" if setting.value in (True, None) else f" '{setting.value}'"
            lines[setting.line or 0] = f"{leaf}{value}"
    last = max(lines, default=0)
    return " \\\n".join(lines.get(number, "") for number in range(1, last + 1))


def _leaves(found: dict[str, Setting]) -> dict[str, Setting]:
    """Settings by Megatron-Core's names; of a name in several sections the one that decides."""
    leaves: dict[str, Setting] = {}
    ranks: dict[str, int] = {}
    for path, setting in found.items():
        whole = path.removesuffix("._target_")
        leaf = _SECTIONS.sub("", whole)
        leaf = path if leaf == whole else leaf
        name = leaf if "." in leaf else _RENAMED.get(leaf, leaf)
        if path.endswith("optim.name"):
            name = "optimizer_name"
        value = setting.value
        if isinstance(value, str) and ("${" in value or value == "???"):
            value = None  # another setting's, or left to the command line
        rank = next((at for at, section in enumerate(_DECIDING) if section in path), 0)
        if value is None:
            rank = -1
        if rank >= ranks.get(name, -2):
            ranks[name] = rank
            leaves[name] = Setting(value, setting.shown, setting.line)
    return leaves


# Sections that hold the same name, the one that decides last.
_DECIDING = (
    "optim",
    "tokenizer",
    "dataset",
    "data",
    "train",
    "model",
    "dist",
    "ddp",
    "mixed_precision",
    "comm_overlap",
)


def _is_free(name: str, value: Any) -> bool:  # noqa: ANN401 - whatever a file holds
    return bool(_FREE_SECTIONS.match(name)) or is_free(name, value)


def _read_whole(settings: Settings) -> None:
    """What recipes say in other words than Megatron-Core's configuration classes."""
    nodes, per_node = settings.count("nnodes"), settings.count("nproc_per_node")
    if per_node is not None:
        settings.put("cluster.gpus_per_node", per_node, "nproc_per_node")
        if nodes is not None:
            settings.put("cluster.num_gpus", per_node * nodes, "nproc_per_node")
    for name in ("precision", "mixed_precision"):
        value = settings.raw(name)
        if value in OFF:
            continue
        words = str(value).lower()
        found = _PRECISION.search(words)
        if "fp8" in words or "mxfp8" in words:
            settings.put("training.precision", "mxfp8" if "mxfp8" in words else "fp8", name)
            recipe = next((r for r in ("mxfp8", "current", "block") if r in words), "delayed")
            settings.put("training.fp8_recipe", recipe, name)
        elif found is not None and found[1] != "32":
            kind = "bf16" if found[1] == "bf16" else "fp16"
            settings.put("training.precision", kind, name)
        else:
            settings.leave_open(
                "training.precision", f"{name} = {value} is not modelled; give --precision bf16"
            )
    if settings.has("activation_func"):
        words = str(settings.raw("activation_func")).lower()
        if "glu" in words and "gelu" not in words.replace("geglu", ""):
            settings.put("model.gated_mlp", value=True, name="activation_func")
    if "distributed" in str(settings.raw("optimizer_name")):
        settings.put("plan.sharding", "optimizer", "optimizer_name")
