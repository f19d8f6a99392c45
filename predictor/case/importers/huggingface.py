"""A Hugging Face ``config.json`` as fields of a model; :mod:`predictor.case.hf_config` reads it."""

from __future__ import annotations

from typing import Any

from predictor.case.hf_config import FREE_KEYS, key_of, model_fields_from_hf
from predictor.case.importers.files import line_of, parse
from predictor.case.importers.found import Found, Imported

FORM = "huggingface"


def read_huggingface(origin: str, text: str) -> Imported:
    """Read a model's configuration.

    Raises:
        CaseError: It is damaged, or of a family that is not read.
    """
    config = parse(origin, text, "json")
    told = model_fields_from_hf(config)
    notes = told.pop("notes", [])
    family = str(config["model_type"])
    fields: dict[str, Found] = {}
    for path, value in _leaves(told, "model"):
        key = key_of(path, config)
        if key is None:
            where = f"{origin}: as {family} has it"
        else:
            line = line_of(text, key)
            where = f"{origin}{'' if line is None else f':{line}'}: {key}"
        fields[path] = Found(value, where, stated=path != "model.name")
    return Imported(
        origin=origin,
        form=FORM,
        fields=fields,
        free=tuple(key for key in config if key in FREE_KEYS),
        unknown=tuple(note.replace("hf_config", origin, 1) for note in notes),
    )


def _leaves(told: dict[str, Any], path: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in told.items():
        here = f"{path}.{key}"
        found += _leaves(value, here) if isinstance(value, dict) else [(here, value)]
    return found
