"""From files and mappings to a :class:`~predictor.case.schema.Case`, with errors for people."""

from __future__ import annotations

import json
import tomllib
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predictor.case.details import plan_from_details
from predictor.case.gpus import gpu_names, has_gpu
from predictor.case.hf_config import model_fields_from_hf
from predictor.case.models import HYBRID_RULE, find_preset, is_hybrid, model_fields, model_names
from predictor.case.networks import network_names
from predictor.case.presets import closest
from predictor.case.rules import RuleError
from predictor.case.schema import SECTIONS, Case, Links, Mla, Model, Moe, Section, shown
from predictor.errors import CaseError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_FILE_BYTES = 1024**2
RECORD_KEYS = frozenset({"id", "source", "source_location", "framework", "measured", "notes"})
_PARTS: dict[str, type[Section]] = {"moe": Moe, "mla": Mla, "links": Links}
_MODEL_SOURCES = ("preset", "hf_config")
_HISTOGRAM = "histogram:"


def case_from_file(path: str | Path) -> Case:
    """Read a case from a TOML or JSON file.

    Raises:
        CaseError: the file is not there, too large, not readable or not a legal case.
    """
    path = Path(path)
    return case_from_dict(read_mapping(path), origin=str(path), folder=path.parent)


def read_bytes(path: Path, limit: str) -> bytes:
    """Read a file of at most one mebibyte; ``limit`` says what that size is.

    Raises:
        CaseError: The file is not there, not a file or too large.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise CaseError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise CaseError(f"{path}: is larger than {MAX_FILE_BYTES} bytes, {limit}")
    return content


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a ``.toml`` or ``.json`` file of at most one mebibyte as a mapping.

    Raises:
        CaseError: the file is not there, too large, of another kind or damaged.
    """
    if path.suffix not in {".toml", ".json"}:
        raise CaseError(f"{path}: a case file ends in .toml or .json")
    content = read_bytes(path, "the most a case may have")
    try:
        text = content.decode("utf-8")
        parsed = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CaseError(f"{path}: is not {path.suffix[1:].upper()}: {error}") from error
    if not isinstance(parsed, dict):
        raise CaseError(f"{path}: must hold the sections {', '.join(SECTIONS)}")
    return parsed


def case_from_dict(
    mapping: Mapping[str, object], *, origin: str = "case", folder: Path | None = None
) -> Case:
    """Read a case from a mapping of its sections.

    Keys of a run record, ``*_detail`` and nulls are left aside; ``model.preset`` and
    ``model.hf_config`` (relative to ``folder``) are read, and fields beside them win.

    Raises:
        CaseError: something is not legal; the message begins with ``origin``.
    """
    try:
        case = _read_case(mapping, folder or Path())
        _check_names(case)
        _check_sequence(case, mapping)
    except CaseError as error:
        raise CaseError(f"{origin}: {error}") from None
    return case


def case_from_sections(sections: Mapping[str, object]) -> Case:
    """Build a case from tables of fields alone; every rule is held, no preset is read.

    Raises:
        CaseError: something is not legal.
    """
    parts: dict[str, Any] = {
        name: _read_section(section, _table(sections.get(name), name))
        for name, section in SECTIONS.items()
    }
    if sections.get("implementation") is not None:
        parts["implementation"] = sections["implementation"]
    return Case(**parts)


def _read_case(mapping: Mapping[str, object], folder: Path) -> Case:
    known = (*SECTIONS, "implementation")
    for key in mapping:
        if key not in known and key not in RECORD_KEYS:
            raise CaseError(f"{key}: unknown key{_right_key(key, '', known)}")
    model = _expand_model(_table(mapping.get("model"), "model"), folder)
    model = _expand_histogram(model, folder)
    plan = plan_from_details(_table(mapping.get("plan"), "plan"))
    cluster = _expand_links(_table(mapping.get("cluster"), "cluster"), folder)
    return case_from_sections({**mapping, "model": model, "plan": plan, "cluster": cluster})


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
            null = " (it is null)" if name in given else ""
            what = each.metadata["description"].rstrip(".")
            raise CaseError(f"{section.path}.{name} is needed{null}: {what}")
    return section(**values)


def _expand_model(model: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Put the fields of a preset or a Hugging Face configuration under the given ones."""
    given = [key for key in _MODEL_SOURCES if model.get(key) is not None]
    own = {k: v for k, v in model.items() if k not in _MODEL_SOURCES and v is not None}
    if len(given) > 1:
        raise RuleError("model.preset", shown(model["preset"]), "cannot stand beside hf_config")
    if not given:
        return {key: value for key, value in model.items() if key not in _MODEL_SOURCES}
    if given == ["preset"]:
        base = _preset(model["preset"])
    else:
        base = _hf_config(model["hf_config"], folder)
    merged = {**base, **own}
    for part in _PARTS:
        if isinstance(base.get(part), dict) and isinstance(own.get(part), dict):
            merged[part] = {**base[part], **own[part]}
    return merged


def _expand_histogram(model: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Read the counts of ``moe.imbalance = "histogram:FILE"`` into ``moe.expert_tokens``."""
    moe = model.get("moe")
    named = moe.get("imbalance") if isinstance(moe, dict) else None
    if not isinstance(moe, dict) or not isinstance(named, str):
        return model
    if not named.startswith(_HISTOGRAM):
        return model
    path = folder / named.removeprefix(_HISTOGRAM)
    try:
        text = path.read_text(encoding="utf-8")[:MAX_FILE_BYTES]
        counts = [float(word) for word in text.replace(",", " ").split()]
    except OSError as error:
        rule = f"{path} cannot be read: {error.strerror}"
        raise RuleError("model.moe.imbalance", shown(named), rule) from error
    except ValueError as error:
        rule = f"{path} must hold numbers alone, one an expert"
        raise RuleError("model.moe.imbalance", shown(named), rule) from error
    rest = {key: value for key, value in moe.items() if key != "imbalance"}
    return {**model, "moe": {**rest, "expert_tokens": counts}}


def _expand_links(cluster: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Read the file that ``cluster.links`` names: alone, or as ``file`` beside other fields."""
    links = cluster.get("links")
    given = {"file": links} if isinstance(links, str) else links
    if not isinstance(given, dict) or given.get("file") is None:
        return cluster
    if not isinstance(given["file"], str):
        raise RuleError("cluster.links.file", shown(given["file"]), "must be the path of a .csv")
    from predictor.case.links import read_links  # noqa: PLC0415 - not on the path of most cases

    rest = {key: value for key, value in given.items() if key != "file"}
    read = read_links(folder / given["file"])
    return {**cluster, "links": {**rest, "overrides": [*read, *(rest.get("overrides") or ())]}}


def _preset(name: object) -> dict[str, Any]:
    if isinstance(name, str) and is_hybrid(name):
        raise RuleError("model.preset", shown(name), HYBRID_RULE)
    if not isinstance(name, str) or find_preset(name) is None:
        hint = closest(str(name), model_names())
        rule = f"no model has this name{hint}; `predictor models` lists them"
        raise RuleError("model.preset", shown(name), rule)
    return model_fields(name)


def _hf_config(path: object, folder: Path) -> dict[str, Any]:
    if not isinstance(path, str):
        raise RuleError("model.hf_config", shown(path), "must be the path of a config.json")
    return model_fields_from_hf(read_mapping(folder / path))


def _check_names(case: Case) -> None:
    if not has_gpu(case.cluster.gpu):
        _unknown("cluster.gpu", case.cluster.gpu, gpu_names(), "`predictor gpus` lists them")
    network = case.cluster.network
    if network is not None and network not in network_names():
        known = network_names()
        _unknown("cluster.network", network, known, f"known: {', '.join(known)}")


def _unknown(key: str, name: str, known: Iterable[str], where: str) -> None:
    raise RuleError(key, shown(name), f"unknown name{closest(name, known)}; {where}")


def _check_sequence(case: Case, mapping: Mapping[str, object]) -> None:
    training = mapping.get("training")
    given_as_null = isinstance(training, dict) and "seq_length" in training
    if case.training.seq_length is None and (
        given_as_null or case.model.max_position_embeddings is None
    ):
        null = " (it is null)" if given_as_null else ""
        raise CaseError(f"training.seq_length is needed{null}: Tokens of a sequence")


def _right_key(key: str, path: str, known: tuple[str, ...]) -> str:
    """Say which key was meant: the nearest one here, else the same one in another section."""
    for other in (*SECTIONS.values(), *_PARTS.values()):
        if other.path != path and key in {each.name for each in fields(other)}:
            return f" (it belongs to [{other.path}])"
    if path == Model.path:
        known = (*known, *_MODEL_SOURCES)
    return nearest(key, known) or f"; known: {', '.join(known)}"
