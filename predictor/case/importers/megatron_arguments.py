"""Megatron-LM's arguments, in a shell script, on a line or bare, and torchrun's before them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from predictor.case.importers.megatron_defaults import read_defaults
from predictor.case.importers.megatron_fields import read_fields
from predictor.case.importers.megatron_names import FLAGS, is_free
from predictor.case.importers.settings import Setting, Settings
from predictor.case.importers.shell import read_script
from predictor.case.importers.shell_words import Word
from predictor.errors import CaseError

if TYPE_CHECKING:
    from predictor.case.importers.found import Imported

FORM = "megatron"

# Arguments with a name of their own in the configuration classes; a second entry turns a switch.
_RENAMED = {
    "num_experts": "num_moe_experts",
    "decoder_first_pipeline_num_layers": "num_layers_in_first_pipeline_stage",
    "decoder_last_pipeline_num_layers": "num_layers_in_last_pipeline_stage",
    "num_virtual_stages_per_pipeline_rank": "virtual_pipeline_model_parallel_size",
    "padded_vocab_size": "vocab_size",
    "fp8_format": "fp8",
    "fp4_format": "fp4",
    "accumulate_allreduce_grads_in_fp32": "grad_reduce_in_fp32",
    "ddp_average_in_collective": "average_in_collective",
    "batch_size": "micro_batch_size",
    "model_parallel_size": "tensor_model_parallel_size",
    "use_nccl_ub": "nccl_ub",
    "num_nodes": "nnodes",
}
_SWITCHES: dict[str, tuple[str, object]] = {
    "swiglu": ("gated_linear_unit", True),
    "untie_embeddings_and_output_weights": ("share_embeddings_and_output_weights", False),
    "disable_bias_linear": ("add_bias_linear", False),
    "grad_reduce_in_bf16": ("grad_reduce_in_fp32", False),
    "no_overlap_p2p_communication": ("overlap_p2p_comm", False),
    "recompute_activations": ("recompute_granularity", "selective"),
    "checkpoint_activations": ("recompute_granularity", "full"),
    "use_rotary_position_embeddings": ("position_embedding_type", "rope"),
    "torch_fsdp2_no_reshard_after_forward": ("torch_fsdp2_reshard_after_forward", False),
    "disable_tp_comm_overlap_ag": ("tp_comm_overlap_ag", False),
    "disable_tp_comm_overlap_rs": ("tp_comm_overlap_rs", False),
    "disable_tp_comm_bulk_dgrad": ("tp_comm_bulk_dgrad", False),
    "disable_tp_comm_bulk_wgrad": ("tp_comm_bulk_wgrad", False),
    "no_rope_fusion": ("apply_rope_fusion", False),
}
# Arguments that begin with "no-" or "disable-" and are settings of their own.
_OWN_NAME = ("no_rope_freq",)


def read_arguments(origin: str, text: str) -> Imported:
    """Read the one command of a script that has Megatron's arguments.

    Raises:
        CaseError: There is none or more than one, or a value is not legal.
    """
    script = read_script(origin, text)
    words = _command(origin, script.commands)
    _refuse_others(origin, words)
    found, unread = _settings(origin, words)
    settings = Settings(origin, FORM, found)
    for word in script.conditional:
        if is_free(_name(word), value=True):
            settings.without_influence(word.text.split()[0])
        else:
            words_ = f"{origin}:{word.line}: {word.text} stands under a condition; not taken"
            settings.not_modelled(words_)
    for line in unread:
        settings.not_modelled(line)
    _read_gpus(settings)
    _read_command_only(settings)
    read_fields(settings)
    read_defaults(settings)
    return settings.finished(is_free)


def _command(origin: str, commands: tuple[tuple[Word, ...], ...]) -> tuple[Word, ...]:
    """The command that trains: the one with most options that Megatron has."""
    trains = [
        command
        for command in commands
        if any(_name(word) in _TELLING for word in command if word.text.startswith("--"))
    ]
    if not trains:
        raise CaseError(
            f"{origin}: holds no command with Megatron-LM's arguments, as --num-layers 32; name "
            "another format with --from-format"
        )
    if len(trains) > 1:
        lines = " and ".join(str(command[0].line) for command in trains[:3])
        raise CaseError(f"{origin}: lines {lines} hold a training command each; keep one")
    return trains[0]


def _refuse_others(origin: str, words: tuple[Word, ...]) -> None:
    """Refuse scripts of Megatron-LM whose models are no decoders, though they take its arguments.

    Raises:
        CaseError: The command runs one of them.
    """
    for word in words:
        if found := _OTHER_SCRIPT.search(word.text):
            raise CaseError(
                f"{origin}:{word.line}: {found[0].strip('/')}: its model is not that of "
                "pretrain_gpt.py, the one that is modelled"
            )


_OTHER_SCRIPT = re.compile(r"(?:^|/)pretrain_(?:bert|t5|ict|realm|retro|vlm|vision_\w+)\.py$")

_TELLING = frozenset(
    (
        "num_layers",
        "hidden_size",
        "tensor_model_parallel_size",
        "pipeline_model_parallel_size",
        "micro_batch_size",
        "global_batch_size",
        "num_attention_heads",
        "seq_length",
    )
)


def _name(word: Word) -> str:
    return word.text[2:].partition("=")[0].partition(" ")[0].replace("-", "_")


def _settings(origin: str, words: tuple[Word, ...]) -> tuple[dict[str, Setting], list[str]]:
    """Options with the words that follow them, and what has no value in the file."""
    found: dict[str, Setting] = {}
    unread: list[str] = []
    option: Word | None = None
    values: list[Word] = []
    for word in (*words, Word("--", 0)):
        if not word.text.startswith("--"):
            values.append(word)
            continue
        if option is not None:
            unread += _entered(origin, found, option, values)
        option, values = word, []
    return found, unread


def _entered(origin: str, found: dict[str, Setting], option: Word, values: list[Word]) -> list[str]:
    """Note one option; return what about it has no value in the file.

    Raises:
        CaseError: It says another value than before, and which one holds is not known.
    """
    written, equals, inline = option.text.partition("=")
    if equals:
        values = [Word(inline, option.line, option.missing), *values]
    name = _name(option)
    own, missing = _own_words(name, values)
    unread = [
        f"{origin}:{each.line}: {each.text} may hold arguments, and has no plain value in this file"
        for each in missing
    ]
    free = is_free(name, value=True) and name not in _OF_THE_JOB
    if any(each.missing for each in own) and not free:
        place = f"{origin}:{option.line}: {written} {own[0].text}"
        return [f"{place}: {own[0].missing} has no plain value in this file", *unread]
    name, value = _told(name, [each.text for each in own])
    old = found.get(name)
    if old is not None and old.value != value and name in _UNREPEATED:
        raise CaseError(
            f"{origin}:{option.line}: {written} = {value}: line {old.line} says {old.value}; keep "
            "one"
        )
    found[name] = Setting(value, written, option.line)
    return unread


def _own_words(name: str, values: list[Word]) -> tuple[list[Word], list[Word]]:
    """The words that are an option's values, and those behind them that are not known."""
    alone = name in _ALONE or name in _SWITCHES
    missing = [each for each in values[0 if alone else 1 :] if each.missing]
    own = [] if alone else [each for each in values if each not in missing]
    return own if name in _SEVERAL else own[:1], missing


def _told(name: str, texts: list[str]) -> tuple[str, object]:
    """The setting that an option stands for, under its present name, and its value."""
    value: object = texts
    if len(texts) < 2:  # noqa: PLR2004 - a list has more
        value = texts[0] if texts else True
    if name in _SWITCHES:
        name, value = _SWITCHES[name]
    elif name.startswith("no_") and name not in _OWN_NAME and not texts:
        name, value = name.removeprefix("no_"), False
    return _RENAMED.get(name, name), value


# torchrun's arguments that say how many GPUs there are.
_OF_THE_JOB = frozenset({"nnodes", "num_nodes", "nproc_per_node"})
# Arguments that take several values; a second word behind another is not its own.
_SEVERAL = frozenset({"recompute_modules", "cp_comm_type", "hierarchical_context_parallel_sizes"})
# Arguments that take no value: a word behind them is not theirs.
_ALONE = frozenset(
    {name for name in FLAGS if name != "share_embeddings_and_output_weights"}
    | {"bf16", "fp16", "use_distributed_optimizer", "group_query_attention", "use_torch_fsdp2"}
    | {"multi_latent_attention", "moe_grouped_gemm", "use_megatron_fsdp", "moe_enable_deepep"}
    | {"accumulate_allreduce_grads_in_fp32", "moe_pad_expert_input_to_capacity", "squared_relu"}
    | {"use_mcore_models", "use_flash_attn", "cross_entropy_loss_fusion", "mock_data"}
)
_UNREPEATED = _TELLING | {"recompute_granularity", "num_moe_experts", "context_parallel_size"}


def _read_gpus(settings: Settings) -> None:
    per_node, nodes = settings.count("nproc_per_node"), settings.count("nnodes")
    if per_node is not None:
        settings.put("cluster.gpus_per_node", per_node, "nproc_per_node")
        if nodes is not None:
            settings.put("cluster.num_gpus", per_node * nodes, "nproc_per_node")


def _read_command_only(settings: Settings) -> None:
    """What the command line says in other words than the configuration classes."""
    if settings.flag("gated_linear_unit"):
        settings.put("model.activation", "silu", "gated_linear_unit")
    for name, ours, gated in (
        ("squared_relu", "squared-relu", False),
        ("quick_geglu", "gelu", True),
        ("openai_gelu", "gelu", False),
    ):
        if settings.flag(name):
            settings.put("model.activation", ours, name)
            settings.put("model.gated_mlp", gated, name)
    if settings.has("position_embedding"):
        settings.flag("position_embedding")  # deprecated, and ignored with a type beside it
    settings.flag("group_query_attention")
