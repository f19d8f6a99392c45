"""Files that a case names: a model's ``config.json``, links of a cluster, tokens of experts.

A case in a file may name files of its own folder alone (:func:`located`): a case that somebody
else wrote reads nothing else. Flags and mappings of Python name what they like.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from predictor.case.rule import RuleError
from predictor.case.section import shown
from predictor.errors import CaseError
from predictor.files import MEBIBYTE, inside, read_text

if TYPE_CHECKING:
    from collections.abc import Mapping

HISTOGRAM = "histogram:"
MAX_HISTOGRAM_BYTES = MEBIBYTE
PATHS = (("model", "hf_config"), ("cluster", "links"), ("cluster", "links", "file"))
"""Fields that hold the name of a file."""

_IMBALANCE = ("model", "moe", "imbalance")


def located(mapping: Mapping[str, object], folder: Path) -> dict[str, Any]:
    """Return the tables of a case file with its files' names in full.

    Raises:
        CaseError: A name leaves the folder of the case file.
    """
    found: dict[str, Any] = _copied(mapping)
    for path in (*PATHS, _IMBALANCE):
        inner: Any = found
        for section in path[:-1]:
            inner = inner.get(section) if isinstance(inner, dict) else None
        if not isinstance(inner, dict):
            continue
        named, field = inner.get(path[-1]), ".".join(path)
        inner.update({path[-1]: _full(named, path, field, folder)} if named is not None else {})
    return found


def _full(named: object, path: tuple[str, ...], field: str, folder: Path) -> object:
    if isinstance(named, list):  # of a study
        return [_full(each, path, field, folder) for each in named]
    if not isinstance(named, str):
        return named
    if path != _IMBALANCE:
        return str(inside(folder, named, field, CaseError))
    if not named.startswith(HISTOGRAM):
        return named
    file = inside(folder, named.removeprefix(HISTOGRAM), field, CaseError)
    return f"{HISTOGRAM}{file}"


def _copied(value: Any) -> Any:  # noqa: ANN401
    return {key: _copied(each) for key, each in value.items()} if isinstance(value, dict) else value


def with_expert_tokens(model: dict[str, Any]) -> dict[str, Any]:
    """Read the counts of ``moe.imbalance = "histogram:FILE"`` into ``moe.expert_tokens``."""
    moe = model.get("moe")
    named = moe.get("imbalance") if isinstance(moe, dict) else None
    if not isinstance(moe, dict) or not isinstance(named, str):
        return model
    if not named.startswith(HISTOGRAM):
        return model
    path = Path(named.removeprefix(HISTOGRAM))
    text = read_text(path, CaseError, MAX_HISTOGRAM_BYTES)
    try:
        counts = [float(word) for word in text.replace(",", " ").split()]
    except ValueError as error:
        rule = f"{path} must hold numbers alone, one an expert"
        raise RuleError("model.moe.imbalance", shown(named), rule) from error
    rest = {key: value for key, value in moe.items() if key != "imbalance"}
    return {**model, "moe": {**rest, "expert_tokens": counts}}


def with_links(cluster: dict[str, Any]) -> dict[str, Any]:
    """Read the file that ``cluster.links`` names: alone, or as ``file`` beside other fields."""
    links = cluster.get("links")
    given = {"file": links} if isinstance(links, str) else links
    if not isinstance(given, dict) or given.get("file") is None:
        return cluster
    if not isinstance(given["file"], str):
        raise RuleError("cluster.links.file", shown(given["file"]), "must be the path of a .csv")
    from predictor.case.links import read_links  # noqa: PLC0415 - not on the path of most cases

    rest = {key: value for key, value in given.items() if key != "file"}
    more = rest.get("overrides") or []
    if not isinstance(more, list | tuple):
        raise RuleError("cluster.links.overrides", shown(more), "must be a list")
    read = read_links(Path(given["file"]))
    return {**cluster, "links": {**rest, "overrides": [*read, *more]}}
