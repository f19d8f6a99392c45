"""From files and mappings to a :class:`~predictor.case.whole.Case`, with errors for people."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predictor.case.cluster_schema import Links
from predictor.case.details import plan_from_details, training_from_details
from predictor.case.gpus import has_gpu, ways_out
from predictor.case.hf_config import model_fields_from_hf
from predictor.case.model_schema import Mla, Model, Moe
from predictor.case.models import HYBRID_RULE, find_preset, is_hybrid, model_fields, model_names
from predictor.case.named_files import located, with_expert_tokens, with_links
from predictor.case.networks import network_names
from predictor.case.presets import closest
from predictor.case.rule import RuleError
from predictor.case.schema import SECTIONS
from predictor.case.section import Section, shown
from predictor.case.training_schema import Training
from predictor.case.whole import Case
from predictor.errors import CaseError, nearest
from predictor.files import MEBIBYTE, read_json, read_toml

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_FILE_BYTES = MEBIBYTE
RECORD_KEYS = frozenset({"id", "source", "source_location", "framework", "measured", "notes"})
_PARTS: dict[str, type[Section]] = {"moe": Moe, "mla": Mla, "links": Links}
_MODEL_SOURCES = ("preset", "hf_config")


def case_from_file(path: str | Path) -> Case:
    """Read a case from a TOML or JSON file; it may name files of its own folder.

    Raises:
        CaseError: The file is not there, too large, not readable or not a legal case.
    """
    return case_from_dict(read_tables(Path(path)), origin=str(path))


def read_tables(path: Path) -> dict[str, Any]:
    """Read the tables of a case file, in which names of files are told in full.

    Raises:
        CaseError: See :func:`read_mapping`; or a name leaves the file's folder.
    """
    mapping = read_mapping(path)
    try:
        return located(mapping, path.parent)
    except CaseError as error:
        raise CaseError(f"{path}: {error}") from None


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a ``.toml`` or ``.json`` file of at most one mebibyte as a mapping.

    Raises:
        CaseError: The file is not there, too large, of another kind or damaged.
    """
    if path.suffix not in {".toml", ".json"}:
        raise CaseError(f"{path}: a case file ends in .toml or .json")
    read = read_toml if path.suffix == ".toml" else read_json
    parsed = read(path, CaseError, MAX_FILE_BYTES)
    if not isinstance(parsed, dict):
        raise CaseError(f"{path}: must hold a table of names and values, not {shown(parsed)}")
    return parsed


def case_from_dict(mapping: Mapping[str, object], *, origin: str = "case") -> Case:
    """Read a case from a mapping of its sections.

    Keys of a run record, ``*_detail`` and nulls are left aside; ``model.preset`` and
    ``model.hf_config`` are read, and fields beside them win.

    Raises:
        CaseError: Something is not legal; the message begins with ``origin``.
    """
    try:
        case = _read_case(mapping)
        _check_names(case)
        _check_sequence(case, mapping)
    except CaseError as error:
        raise CaseError(f"{origin}: {error}") from None
    return case


def case_from_sections(sections: Mapping[str, object]) -> Case:
    """Build a case from tables of fields alone; every rule is held, no preset is read.

    Raises:
        CaseError: Something is not legal.
    """
    parts: dict[str, Any] = {
        name: _read_section(section, _table(sections.get(name), name))
        for name, section in SECTIONS.items()
    }
    if sections.get("implementation") is not None:
        parts["implementation"] = sections["implementation"]
    return Case(**parts)


def _read_case(mapping: Mapping[str, object]) -> Case:
    known = (*SECTIONS, "implementation")
    for key in mapping:
        if key not in known and key not in RECORD_KEYS:
            raise CaseError(f"{key}: unknown key{_right_key(key, '', known)}")
    model = with_expert_tokens(_expand_model(_table(mapping.get("model"), "model")))
    cluster = with_links(_table(mapping.get("cluster"), "cluster"))
    plan = plan_from_details(_table(mapping.get("plan"), "plan"), cluster)
    training = training_from_details(_table(mapping.get("training"), "training"), model)
    parts = {"model": model, "training": training, "plan": plan, "cluster": cluster}
    return case_from_sections({**mapping, **parts})


def _table(value: object, key: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RuleError(key, shown(value), "must be a table of fields")
    return value


def _read_section(section: type[Section], given: dict[str, Any]) -> Section:
    """Build a section from the fields that are given, nulls and ``*_detail`` left aside."""
    known = {each.name: each for each in fields(section)}
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key in known:
            if value is not None:
                part = _PARTS.get(key)
                path = f"{section.path}.{key}"
                values[key] = _read_section(part, _table(value, path)) if part else value
        elif not str(key).endswith("_detail"):
            hint = _right_key(str(key), section.path, tuple(known))
            raise CaseError(f"{section.path}.{key}: unknown key{hint}")
    for name, each in known.items():
        if name not in values and each.default is MISSING:
            raise _needed(section, name, is_null=name in given)
    return section(**values)


def _needed(section: type[Section], name: str, *, is_null: bool) -> CaseError:
    """What to say of a field that has to be given."""
    (what,) = (each.metadata["description"] for each in fields(section) if each.name == name)
    null = " (it is null)" if is_null else ""
    return CaseError(
        f"{section.path}.{name} is needed{null}: {what.rstrip('.')}; in the file, or as "
        f"--{name.replace('_', '-')}"
    )


def _expand_model(model: dict[str, Any]) -> dict[str, Any]:
    """Put the fields of a preset or a Hugging Face configuration under the given ones."""
    given = [key for key in _MODEL_SOURCES if model.get(key) is not None]
    own = {k: v for k, v in model.items() if k not in _MODEL_SOURCES and v is not None}
    if len(given) > 1:
        raise RuleError("model.preset", shown(model["preset"]), "cannot stand beside hf_config")
    if not given:
        return {key: value for key, value in model.items() if key not in _MODEL_SOURCES}
    base = _preset(model["preset"]) if given == ["preset"] else _hf_config(model["hf_config"])
    merged = {**base, **own}
    for part in _PARTS:
        if isinstance(base.get(part), dict) and isinstance(own.get(part), dict):
            merged[part] = {**base[part], **own[part]}
    return merged


def _preset(name: object) -> dict[str, Any]:
    if isinstance(name, str) and is_hybrid(name):
        raise RuleError("model.preset", shown(name), HYBRID_RULE)
    if not isinstance(name, str) or find_preset(name) is None:
        hint = closest(str(name), model_names())
        rule = f"no model has this name{hint}; `predictor models` lists them"
        raise RuleError("model.preset", shown(name), rule)
    return model_fields(name)


def _hf_config(path: object) -> dict[str, Any]:
    if not isinstance(path, str):
        raise RuleError("model.hf_config", shown(path), "must be the path of a config.json")
    return model_fields_from_hf(read_mapping(Path(path)))


def _check_names(case: Case) -> None:
    for key, sku in (
        ("cluster.gpu", case.cluster.gpu),
        *(("cluster.stage_gpus", each) for each in case.cluster.stage_gpus or ()),
    ):
        if not has_gpu(sku):
            raise RuleError(key, shown(sku), f"unknown name{ways_out(sku)}")
    network = case.cluster.network
    if network is not None and network not in network_names():
        known = network_names()
        rule = f"unknown name{closest(network, known)}; known: {', '.join(known)}"
        raise RuleError("cluster.network", shown(network), rule)


def _check_sequence(case: Case, mapping: Mapping[str, object]) -> None:
    training = mapping.get("training")
    given_as_null = isinstance(training, dict) and "seq_length" in training
    if case.training.seq_length is None and (
        given_as_null or case.model.max_position_embeddings is None
    ):
        raise _needed(Training, "seq_length", is_null=given_as_null)


def _right_key(key: str, path: str, known: tuple[str, ...]) -> str:
    """Say which key was meant: the nearest one here, else the same one in another section."""
    for other in (*SECTIONS.values(), *_PARTS.values()):
        if other.path != path and key in {each.name for each in fields(other)}:
            return f" (it belongs to [{other.path}])"
    if path == Model.path:
        known = (*known, *_MODEL_SOURCES)
    return nearest(key, known) or f"; known: {', '.join(known)}"
