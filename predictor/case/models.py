"""Model presets, and the public model that a name in somebody's record stands for."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from predictor.case.model_schema import Mla, Model, Moe
from predictor.case.presets import aliases, preset_names, read_preset

if TYPE_CHECKING:
    from collections.abc import Mapping

# What a source appends to a model's name: "(fine-tune)", "-proxy-12L".
_SUFFIX = re.compile(r"\s*\(.*\)$|-proxy-\d+l$")

# Families that mix state-space or linear-attention layers with attention, as their cards say.
_HYBRIDS = re.compile(
    r"""nemotron-?h\b | nemotron-?nano.*(v2|v3|a3b) | nemotron-?3-?(nano|super|ultra)
    | jamba | zamba | bamba | samba | hymba | (falcon-)?mamba | falcon-h1 | plamo-2
    | granite-4.*-h\b | recurrent-?gemma | griffin | minimax-(text|m1) | kimi-linear
    | qwen3-next""",
    re.VERBOSE,
)
_SHAPE = ("hidden_size", "num_attention_heads", "gated_mlp")

HYBRID_RULE = "mixes state-space or linear-attention layers with attention, which is not modelled"


def model_names() -> tuple[str, ...]:
    """Return the names of all model presets, sorted."""
    return preset_names("models")


@cache
def load_model(name: str) -> Model:
    """Read a model preset by its name or an alias.

    Raises:
        UnknownName: No preset has that name.
    """
    values = model_fields(name)
    moe, mla = values.pop("moe", None), values.pop("mla", None)
    return Model(**values, moe=Moe(**moe) if moe else None, mla=Mla(**mla) if mla else None)


def model_fields(name: str) -> dict[str, Any]:
    """Return the fields of a preset as plain values, its ``name`` among them.

    Raises:
        UnknownName: No preset has that name.
    """
    found = find_preset(name) or name
    fields = read_preset("models", found)
    del fields["source"]
    return {"name": found, **fields}


def model_source(name: str) -> str:
    """Return where the dimensions of a preset come from.

    Raises:
        UnknownName: No preset has that name.
    """
    return str(read_preset("models", find_preset(name) or name)["source"])


def find_preset(name: str) -> str | None:
    """Return the preset that ``name`` stands for, in whatever case it is written."""
    plain = _SUFFIX.sub("", name.strip().lower())
    if plain in preset_names("models"):
        return plain
    return aliases().get(plain)


def public_model(model: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the fields of the public model that a name stands for; None where shapes differ.

    Args:
        model: Fields of a case's model; those that are absent or None differ from nothing.
    """
    preset = find_preset(model["name"]) if model.get("name") else None
    if preset is None:
        return None
    public = model_fields(preset)
    told = ((key, model.get(key)) for key in _SHAPE)
    return public if all(value in {None, public.get(key)} for key, value in told) else None


def has_latent_attention(model: Model) -> bool:
    """Whether a model says so, or the public one of its name and shape has."""
    named = {key: getattr(model, key) for key in ("name", *_SHAPE)}
    return model.mla is not None or "mla" in (public_model(named) or {})


def is_hybrid(name: str) -> bool:
    """Whether a public model of this name has layers other than attention and feed-forward ones."""
    return _HYBRIDS.search(re.sub(r"[\s_]+", "-", name.strip().lower())) is not None
