"""LoRA as recipes of Megatron-Bridge and NeMo write it.

Names are those of the ``LoRA`` class of Megatron-Bridge (0191fc5e ``peft/lora.py``) and NeMo 2
(``collections/llm/peft/lora.py``), and of NeMo 1's ``model.peft`` (its ``peft_scheme`` and
``lora_tuning``, ``megatron_gpt_finetuning_config.yaml``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from predictor.case.importers.settings import OFF
from predictor.case.training_schema import AdapterModule
from predictor.values import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from predictor.case.importers.settings import Settings

RANK = "training.adapter_rank"
MODULES = "training.adapter_modules"
EVERY: tuple[str, ...] = get_args(AdapterModule)


@frozen(kw_only=True)
class Dialect:
    """How a framework names what LoRA is.

    Attributes:
        scheme: Which kind of adapters there are.
        rank: Their rank.
        target: The modules that have one.
        names: What modules are called.
        default: Which have one where the file is silent.
        dropout: Of what enters an adapter.
        other: What is known and not modelled, unless it is off.
    """

    scheme: str
    rank: str
    target: str
    names: Mapping[str, tuple[str, ...]]
    default: tuple[str, ...]
    dropout: str
    other: tuple[str, ...]


DEFAULT_RANK = 32
"""In all of them."""

CLASS = Dialect(
    scheme="peft._target_",
    rank="peft.dim",
    target="peft.target_modules",
    names={name: (name,) for name in EVERY},
    default=EVERY,
    dropout="peft.dropout",
    other=(
        "peft.exclude_modules",
        "peft.a2a_experimental",
        "peft.normalize_moe_lora",
        "peft.lora_dtype",
    ),
)
NEMO_1 = Dialect(
    scheme="model.peft.peft_scheme",
    rank="model.peft.lora_tuning.adapter_dim",
    target="model.peft.lora_tuning.target_modules",
    names={
        "attention_qkv": ("linear_qkv",),
        "attention_dense": ("linear_proj",),
        "mlp_fc1": ("linear_fc1",),
        "mlp_fc2": ("linear_fc2",),
        "attention": ("linear_qkv", "linear_proj"),
        "mlp": ("linear_fc1", "linear_fc2"),
        "all": EVERY,
    },
    default=("linear_qkv",),
    dropout="model.peft.lora_tuning.adapter_dropout",
    other=("model.peft.lora_tuning.layer_selection",),
)


def read_adapters(settings: Settings) -> None:
    """Put the adapters that a recipe trains, if it trains no other weights."""
    told = [settings.has(name) for name in (CLASS.scheme, CLASS.rank, CLASS.target)]
    if any(told):
        kind = str(settings.raw(CLASS.scheme) or "LoRA").rpartition(".")[2]
        _read(settings, CLASS, kind)
    scheme = settings.raw(NEMO_1.scheme)
    if scheme not in OFF and str(scheme).lower() not in {"none", "null"}:
        _read(settings, NEMO_1, str(scheme))


def _read(settings: Settings, dialect: Dialect, kind: str) -> None:
    if kind.lower() != "lora":
        words = f"{dialect.scheme} = {kind} is not modelled, LoRA is"
        settings.leave_open(RANK, f"{words}; give --adapter-rank for LoRA of that rank")
        return
    settings.put_counts({dialect.rank: RANK})
    settings.put_default(RANK, DEFAULT_RANK, "LoRA's own rank")
    given = settings.raw(dialect.target)
    told = [str(name) for name in (given if isinstance(given, list) else [given])]
    if given is None:
        settings.put_default(MODULES, list(dialect.default), "LoRA's own target_modules")
    elif set(told) <= set(dialect.names):
        modules = {module for name in told for module in dialect.names[name]}
        settings.put(MODULES, [name for name in EVERY if name in modules], dialect.target)
    else:
        words = f"{dialect.target} = {given}: known are {', '.join(dialect.names)}"
        settings.leave_open(MODULES, f"{words}; give --adapter-modules")
    if settings.real(dialect.dropout):
        settings.unmodelled(dialect.dropout)
    for name in dialect.other:
        settings.unmodelled(name)
