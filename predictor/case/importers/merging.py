"""Several files to the fields of one case: what is stated wins over defaults, flags over files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from predictor.case.importers.found import Found, Imported
from predictor.case.models import find_preset, model_fields
from predictor.case.section import shown
from predictor.errors import CaseError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LONGEST_NOTE = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """What files and flags say together.

    Attributes:
        origin: The files, in words.
        fields: Fields of a case by dotted path.
        free: Settings that were recognised and change neither time nor memory.
        unknown: Settings that are not understood or not modelled.
    """

    origin: str
    fields: Mapping[str, Found]
    free: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    def mapping(self) -> dict[str, Any]:
        """Tables of a case; what is not understood becomes notes of the model."""
        tables: dict[str, Any] = {}
        for path, found in self.fields.items():
            *sections, name = path.split(".")
            inner = tables
            for section in sections:
                inner = inner.setdefault(section, {})
            inner[name] = found.value
        notes = [*tables.get("model", {}).get("notes", ()), *self.unknown]
        if notes:
            tables.setdefault("model", {})["notes"] = [note[:LONGEST_NOTE] for note in notes]
        return tables


def merged(sources: Sequence[Imported], given: Mapping[str, object]) -> Brought:
    """Put files together.

    Args:
        sources: What each file says.
        given: Fields that flags decide, by dotted path.

    Raises:
        CaseError: Two files state different values of a field, or leave one open.
    """
    fields = {path: Found(value, f"--{_flag_of(path)}") for path, value in given.items()}
    for source in sources:
        for path, found in _with_preset(source).items():
            if path not in given:
                _enter(fields, path, found)
    for derived in (each for source in sources for each in source.derived):
        value = derived.value({path: found.value for path, found in fields.items()})
        if value is not None and derived.path not in fields:
            fields[derived.path] = Found(value, derived.where, stated=False)
    _refuse_open(sources, fields)
    return Brought(
        origin=" + ".join(source.origin for source in sources) or "command line",
        fields=fields,
        free=tuple(name for source in sources for name in source.free),
        unknown=tuple(words for source in sources for words in source.unknown),
    )


def _refuse_open(sources: Sequence[Imported], fields: Mapping[str, Found]) -> None:
    for source in sources:
        for path, words in source.open.items():
            if path not in fields and not (path == "model" and "model.num_layers" in fields):
                raise CaseError(words if path == "model" else f"{path}: {words}")


def _enter(fields: dict[str, Found], path: str, found: Found) -> None:
    old = fields.get(path)
    if old is None or (found.stated and not old.stated):
        fields[path] = found
    elif found.stated and old.value != found.value:
        raise CaseError(
            f"{path} = {shown(found.value)} ({found.where}): {old.where} says {shown(old.value)}; "
            f"decide with --{_flag_of(path)}"
        )


def _flag_of(path: str) -> str:
    return path.rpartition(".")[2].replace("_", "-")


def _with_preset(source: Imported) -> dict[str, Found]:
    """A file's fields, those of the preset that it names among them."""
    named = source.fields.get("model.preset")
    if named is None or find_preset(str(named.value)) is None:
        return dict(source.fields)
    fields = {
        path: Found(value, f"{named.where}, preset {named.value}", stated=path != "model.name")
        for path, value in _leaves(model_fields(str(named.value)), "model")
    }
    own = {path: found for path, found in source.fields.items() if path != "model.preset"}
    return {**fields, **own}


def _leaves(table: Mapping[str, Any], path: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in table.items():
        here = f"{path}.{key}"
        found += _leaves(value, here) if isinstance(value, dict) else [(here, value)]
    return found
