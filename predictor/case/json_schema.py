"""The JSON schema of a case, so that an editor completes and checks a case file.

It follows from the fields and their kinds. It cannot say the rules between fields; those are
checked when a case is read.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

from predictor.case.cluster_schema import Links
from predictor.case.defaults import DEFAULTS
from predictor.case.kinds import Choice, Count, Flag, Kind, Real, Sequence, Spread, Text
from predictor.case.model_schema import Mla, Model, Moe
from predictor.case.models import model_names
from predictor.case.schema import SECTIONS
from predictor.case.section import Section, kinds
from predictor.case.whole import IMPLEMENTATION

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_PARTS: dict[str, type[Section]] = {"moe": Moe, "mla": Mla, "links": Links}
_DETAIL = {"_detail$": {"description": "The source's own words; left aside."}}


def case_schema() -> dict[str, Any]:
    """Return the schema of a case file, or of the case in a run record."""
    rules = {default.key: default.rule for default in DEFAULTS}
    tables = {name: _table(section, rules) for name, section in SECTIONS.items()}
    implementation = {**_kind(IMPLEMENTATION), "description": "Training stack."}
    return {
        "$schema": DIALECT,
        "title": "predictor case",
        "description": "What an estimate of a training iteration depends on.",
        "type": "object",
        "properties": {
            "implementation": _with_default(implementation, "implementation", rules),
            **tables,
        },
        "required": ["model", "cluster"],
        "additionalProperties": False,
    }


def _table(section: type[Section], rules: dict[str, str]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    required: list[str] = []
    for each in fields(section):
        part = _PARTS.get(each.name)
        if part is not None:
            told = _table(part, rules)
            properties[each.name] = _or_null(_or_file(told) if part is Links else told)
            continue
        told = {**_kind(kinds(section)[each.name]), "description": each.metadata["description"]}
        path = f"{section.path}.{each.name}"
        if each.default is MISSING:
            required.append(each.name)
            properties[each.name] = told
        else:
            properties[each.name] = _or_null(_with_default(told, path, rules))
    table: dict[str, Any] = {
        "description": (section.__doc__ or "").splitlines()[0],
        "type": "object",
        "properties": properties,
        "patternProperties": _DETAIL,
        "additionalProperties": False,
    }
    if section is Model:
        return _with_sources(table, required)
    return {**table, "required": required} if required else table


def _or_file(table: dict[str, Any]) -> dict[str, Any]:
    """Links may stand in a file, named in place of the table or in it."""
    file = {"type": "string", "pattern": "[.]csv$"}
    table["properties"]["file"] = {**file, "description": "Path of a CSV, beside the case file."}
    return {"anyOf": [table, file], "description": table["description"]}


def _with_sources(table: dict[str, Any], required: list[str]) -> dict[str, Any]:
    """A model is its own fields, or a preset or a configuration with fields beside it."""
    table["properties"] |= {
        "preset": {
            "type": "string",
            "examples": list(model_names()),
            "description": "Name of a public model; `predictor models` lists them.",
        },
        "hf_config": {
            "type": "string",
            "description": "Path of a Hugging Face config.json, beside the case file.",
        },
    }
    sources = [{"required": ["preset"]}, {"required": ["hf_config"]}, {"required": required}]
    return {**table, "anyOf": sources}


def _with_default(told: dict[str, Any], path: str, rules: dict[str, str]) -> dict[str, Any]:
    rule = rules.get(path)
    words = f"{told['description']} Default: {rule}." if rule else told["description"]
    return {**told, "description": words}


def _or_null(told: dict[str, Any]) -> dict[str, Any]:
    """A field that may be absent may be null too, in JSON."""
    description = told.pop("description")
    return {"anyOf": [told, {"type": "null"}], "description": description}


def _kind(kind: Kind) -> dict[str, Any]:
    """A kind of value in the words of JSON schema."""
    told: dict[str, Any]
    match kind:
        case Count():
            told = {"type": "integer", "minimum": kind.least, "maximum": kind.most}
        case Real():
            least = "exclusiveMinimum" if kind.least is None else "minimum"
            bound = kind.above if kind.least is None else kind.least
            told = {"type": "number", least: bound, "maximum": kind.most}
        case Flag():
            told = {"type": "boolean"}
        case Choice():
            told = {"enum": list(kind.options)}
        case Text():
            pattern = {"pattern": f"^(?:{kind.pattern})$"} if kind.pattern else {}
            told = {"type": "string", "maxLength": kind.longest, **pattern}
        case Sequence():
            told = {"type": "array", "items": _kind(kind.of)}
        case Spread():
            plain, drawn = "|".join(kind.plain), "|".join(kind.with_parameter)
            number = r"[0-9]+([.][0-9]*)?([eE][+-]?[0-9]+)?"
            words = {"type": "string", "pattern": f"^({plain}|({drawn}):{number}|histogram:.+)$"}
            told = {"anyOf": [words, {"type": "number", "minimum": 1}]}
        case _:
            raise TypeError(f"{kind!r} has no JSON schema")
    return told
