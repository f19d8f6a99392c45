"""Megatron-LM's arguments, in a shell script, on a line or bare, and torchrun's before them."""

from __future__ import annotations

from predictor.case.importers.found import Imported, Setting, Settings
from predictor.case.importers.megatron_fields import data_parallel_of, is_free, read_fields
from predictor.case.importers.shell import Word, read_script
from predictor.errors import CaseError

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
    "moe_pad_expert_input_to_capacity": "moe_pad_expert_input_to_capacity",
    "accumulate_allreduce_grads_in_fp32": "grad_reduce_in_fp32",
    "ddp_average_in_collective": "average_in_collective",
    "batch_size": "micro_batch_size",
    "model_parallel_size": "tensor_model_parallel_size",
    "use_nccl_ub": "nccl_ub",
    "nproc_per_node": "nproc_per_node",
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
_DEFAULT_COUNTS = {
    "tensor_model_parallel_size": "plan.tensor_parallel",
    "pipeline_model_parallel_size": "plan.pipeline_parallel",
    "context_parallel_size": "plan.context_parallel",
    "expert_model_parallel_size": "plan.expert_parallel",
}
_WITHOUT_FLAG = {
    "plan.sequence_parallel": "--sequence-parallel",
    "plan.overlap_grad_reduce": "--overlap-grad-reduce",
    "plan.overlap_param_gather": "--overlap-param-gather",
    "plan.tp_overlap": "--tp-comm-overlap",
}


def read_arguments(origin: str, text: str) -> Imported:
    """Read the one command of a script that has Megatron's arguments.

    Raises:
        CaseError: There is none or more than one, or a value is not legal.
    """
    script = read_script(origin, text)
    words = _command(origin, script.commands)
    settings = Settings(origin, FORM, _settings(origin, words))
    for word in script.conditional:
        settings.not_modelled(f"{origin}:{word.line}: {word.text} stands under a condition; not taken")
    for word in words:
        if word.missing:
            settings.not_modelled(
                f"{origin}:{word.line}: {word.text}: {word.missing} has no plain value in this file"
            )
    _read_gpus(settings)
    _read_command_only(settings)
    read_fields(settings)
    _read_defaults(settings)
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


_TELLING = frozenset(
    ("num_layers", "hidden_size", "tensor_model_parallel_size", "pipeline_model_parallel_size")
    + ("micro_batch_size", "global_batch_size", "num_attention_heads", "seq_length")
)


def _name(word: Word) -> str:
    return word.text[2:].partition("=")[0].replace("-", "_")


def _settings(origin: str, words: tuple[Word, ...]) -> dict[str, Setting]:
    """Options with the words that follow them; ``--flag`` alone is true."""
    found: dict[str, Setting] = {}
    option: Word | None = None
    values: list[Word] = []
    for word in (*words, Word("--", 0)):
        if not word.text.startswith("--"):
            values.append(word)
            continue
        if option is not None:
            _enter(origin, found, option, values)
        option, values = word, []
    return found


def _enter(origin: str, found: dict[str, Setting], option: Word, values: list[Word]) -> None:
    written, equals, inline = option.text.partition("=")
    if equals:
        values = [Word(inline, option.line, option.missing), *values]
    name = _name(option)
    value: object = True
    if values:
        texts = [each.text for each in values]
        value = texts[0] if len(texts) == 1 else texts
        if any(each.missing for each in values):
            return  # listed with the words that have no value
    if name in _SWITCHES:
        name, value = _SWITCHES[name]
    elif name.startswith("no_") and name not in _OWN_NAME and not values:
        name, value = name.removeprefix("no_"), False
    name = _RENAMED.get(name, name)
    old = found.get(name)
    if old is not None and old.value != value and name in _UNREPEATED:
        raise CaseError(
            f"{origin}:{option.line}: {written} = {value}: line {old.line} says {old.value}; keep one"
        )
    found[name] = Setting(value, written, option.line)


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


def _read_defaults(settings: Settings) -> None:
    """What Megatron does where an argument is absent; another file may say otherwise."""
    for name, path in _DEFAULT_COUNTS.items():
        settings.put_default(path, 1, f"Megatron's default, no --{name.replace('_', '-')}")
    for path, flag in _WITHOUT_FLAG.items():
        settings.put_default(path, value=False, words=f"Megatron's default, no {flag}")
    settings.put_default("training.micro_batch_size", 1, "no --micro-batch-size")
    settings.derive(
        "training.global_batch_size",
        lambda draft: _one_micro_batch(draft),
        "micro_batch_size x replicas, as Megatron without --global-batch-size",
    )
    settings.put_default("training.recompute", "none", "no --recompute-granularity")
    settings.put_default("plan.sharding", "none", "no --use-distributed-optimizer")
    settings.put_default("implementation", "megatron-core-te", "Megatron's default")
    if settings.value_of("training.precision") is None:
        settings.leave_open(
            "training.precision",
            "neither --bf16 nor --fp16: Megatron then trains in fp32, which is not modelled; give "
            "--precision bf16",
        )
    if settings.value_of("model.num_layers") is not None:
        _read_model_defaults(settings)


def _one_micro_batch(draft: dict[str, object] | object) -> int | None:
    replicas = data_parallel_of(draft)  # type: ignore[arg-type]
    micro = draft.get("training.micro_batch_size", 1)  # type: ignore[attr-defined]
    return None if replicas is None else replicas * micro


def _read_model_defaults(settings: Settings) -> None:
    gated = settings.value_of("model.gated_mlp") or False
    settings.put_default("model.gated_mlp", gated, "no --swiglu")
    settings.put_default("model.activation", "gelu", "no --swiglu")
    settings.put_default("model.normalization", "layernorm", "no --normalization")
    settings.put_default("model.position_embedding", "learned", "no --position-embedding-type")
    settings.put_default("model.tied_embeddings", value=True, words="no --untie-embeddings-and-output-weights")
    settings.put_default("model.linear_bias", "all", "no --disable-bias-linear")
    settings.put_default("model.qk_norm", value=False, words="no --qk-layernorm")
    hidden = settings.value_of("model.hidden_size")
    if hidden:
        settings.put_default("model.ffn_hidden_size", 4 * hidden, "4 x hidden_size, no --ffn-hidden-size")
    if not settings.flag("group_query_attention"):
        heads = settings.value_of("model.num_attention_heads")
        settings.put_default("model.num_query_groups", heads, "no --group-query-attention")
    for name in ("attention_dropout", "hidden_dropout"):
        if not settings.has(name):
            flag = f"--{name.replace('_', '-')}"
            settings.not_modelled(f"{settings.origin}: no {flag}: Megatron drops 10 %, which is not modelled")
