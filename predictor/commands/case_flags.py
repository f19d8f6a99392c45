"""The case that arguments stand for: a file or a preset, other tools' files, and a flag a field."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from predictor.case.schema import SECTIONS
from predictor.commands.case_options import case_flags
from predictor.errors import CaseError

if TYPE_CHECKING:
    from predictor.case import Case
    from predictor.case.importers import Brought, Imported

SUFFIXES = (".toml", ".json")
_FROM = ("from_files", "from_formats")
_OTHERS = "{0}: is no case file; --from {0} reads configurations of other tools"


def read_case(name: str | None, flags: dict[str, object]) -> Case:
    """Return the case that a file or preset, other tools' files and flags stand for; flags win.

    Raises:
        CaseError: Something is not legal.
        UsageError: No model is named.
    """
    from predictor.case.reading import case_from_dict  # noqa: PLC0415

    if flags.get("from_files"):
        return read_brought(name, flags)[0]
    given = _given(flags)
    _check_model(name, given)
    mapping, origin = base(name)
    return case_from_dict(overlaid(mapping, given), origin=origin)


def _check_model(name: str | None, given: dict[str, object]) -> None:
    if name is None and not any(case_flags()[flag][0] == "model" for flag in given):
        raise click.UsageError(
            "a case file or a model is needed, as llama3-8b; `predictor models` lists them"
        )


def read_brought(name: str | None, flags: dict[str, object]) -> tuple[Case, Brought]:
    """Return the case as :func:`read_case` and, beside it, where each field was found.

    Raises:
        CaseError: Something is not legal.
        UsageError: No model is named, or formats do not belong to files.
    """
    from predictor.case.importers import case_of, merged, read_configuration  # noqa: PLC0415

    names = [str(each) for each in _several(flags, "from_files")]
    if not names:
        _check_model(name, _given(flags))
    forms = [str(each) for each in _several(flags, "from_formats")]
    if len(forms) not in {0, 1, len(names)}:
        raise click.UsageError("--from-format must be given once, or once for each --from")
    every = forms * len(names) if len(forms) == 1 else forms or [None] * len(names)  # type: ignore[list-item]
    sources = [read_configuration(each, form=form) for each, form in zip(names, every, strict=True)]
    if name is not None:
        sources.insert(0, _as_source(name))
    paths = case_flags()
    given = {".".join(paths[flag]): value for flag, value in _given(flags).items()}
    brought = merged(sources, given)
    return case_of(brought), brought


def _several(flags: dict[str, object], name: str) -> tuple[object, ...]:
    value = flags.get(name)
    return value if isinstance(value, tuple) else ()


def _given(flags: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in flags.items() if value is not None and name not in _FROM}


def base(name: str | None) -> tuple[dict[str, Any], str]:
    """Return tables of a case file or a preset, and their origin.

    Raises:
        CaseError: The file cannot be read, or is another tool's.
    """
    from predictor.case.reading import read_tables  # noqa: PLC0415

    if name is None:
        return {}, "command line"
    path = Path(name)
    if path.suffix in SUFFIXES:
        mapping = read_tables(path)
        _check_own(path, mapping)
        return mapping, name
    if os.path.isfile(path):  # noqa: PTH113 - a name may be too long to ask for
        raise CaseError(_OTHERS.format(path))
    return {"model": {"preset": name}}, "command line"


def _check_own(path: Path, mapping: dict[str, Any]) -> None:
    """Name the way in for a file of another tool, which has other keys than a case.

    Raises:
        CaseError: It is one.
    """
    from predictor.case.importers import foreign_format  # noqa: PLC0415
    from predictor.case.reading import RECORD_KEYS  # noqa: PLC0415

    unknown = mapping.keys() - {*SECTIONS, "implementation", *RECORD_KEYS}
    if unknown and foreign_format(path.suffix, mapping.keys()) is not None:
        raise CaseError(_OTHERS.format(path))


def _as_source(name: str) -> Imported:
    """A case file or a preset as one of several files."""
    from predictor.case.importers import Found, Imported  # noqa: PLC0415

    mapping, _ = base(name)
    found: dict[str, Found] = {}

    def enter(table: dict[str, Any], path: tuple[str, ...]) -> None:
        for key, value in table.items():
            here = (*path, str(key))
            if isinstance(value, dict):
                enter(value, here)
            else:
                found[".".join(here)] = Found(value, name)

    enter(mapping, ())
    return Imported(origin=name, form="case", fields=found)


def overlaid(mapping: dict[str, Any], given: dict[str, object]) -> dict[str, Any]:
    """Put flags into the tables of a case, in place."""
    paths = case_flags()
    for flag, value in given.items():
        *sections, name = paths[flag]
        inner = mapping
        for section in sections:
            inner = inner.setdefault(section, {})
            if not isinstance(inner, dict):
                raise click.UsageError(f"[{section}] of the case file is not a table")
        inner[name] = value
    return mapping
