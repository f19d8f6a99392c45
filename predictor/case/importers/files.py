"""Text of another tool's file, read with limits, and its syntax as plain values with lines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from predictor import files
from predictor.case.importers.settings import Setting
from predictor.case.reading import MAX_FILE_BYTES
from predictor.errors import CaseError

if TYPE_CHECKING:
    from pathlib import Path

MAX_YAML_BYTES = 256 * 1024
"""The safe YAML reader takes some ten seconds a mebibyte; a whole recipe has twenty kibibytes."""

MAX_SETTINGS = 20_000


def read_text(path: Path) -> str:
    """Return the text of a file.

    Raises:
        CaseError: It is not there, not a file, too large or not UTF-8.
    """
    return files.read_text(path, CaseError, MAX_FILE_BYTES)


def parse(origin: str, text: str, syntax: str) -> dict[str, Any]:
    """Return a ``json`` or ``toml`` text as a mapping.

    Raises:
        CaseError: It is damaged, or holds something else at its top.
    """
    read = files.parse_toml if syntax == "toml" else files.parse_json
    parsed = read(origin, text, CaseError)
    if not isinstance(parsed, dict):
        raise CaseError(f"{origin}: must hold a mapping of names to values")
    return parsed


def flattened(origin: str, text: str, parsed: Mapping[str, Any]) -> dict[str, Setting]:
    """Return nested tables as settings by dotted path, with the line of each name that is unique.

    Raises:
        CaseError: There are too many settings.
    """
    found: dict[str, Setting] = {}
    for path, value in _leaves(origin, parsed, ()):
        found[".".join(path)] = Setting(value, ".".join(path), line_of(text, path[-1]))
        if len(found) > MAX_SETTINGS:
            raise CaseError(f"{origin}: holds more than {MAX_SETTINGS} settings")
    return found


def _leaves(
    origin: str, value: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    if len(path) > files.MAX_DEPTH:
        raise CaseError(f"{origin}: tables are nested deeper than {files.MAX_DEPTH}")
    for key, inner in value.items():
        here = (*path, str(key))
        if isinstance(inner, Mapping) and inner:
            yield from _leaves(origin, inner, here)
        else:
            yield here, inner


def line_of(text: str, name: str) -> int | None:
    """Return the line that sets ``name``, or None where there is not just one."""
    pattern = rf"^[ \t{{,]*[\"']?{re.escape(name)}[\"']?[ \t]*[:=]"
    lines = [
        text.count("\n", 0, found.end()) + 1 for found in re.finditer(pattern, text, re.MULTILINE)
    ]
    return lines[0] if len(lines) == 1 else None


def parse_yaml(origin: str, text: str) -> dict[str, Setting]:
    """Return a YAML text as settings by dotted path; tags and merges of Python are refused.

    Raises:
        CaseError: It is damaged, too large, or holds something else at its top.
    """
    import yaml  # noqa: PLC0415 - a recipe alone needs it

    if len(text) > MAX_YAML_BYTES:
        raise CaseError(f"{origin}: is larger than {MAX_YAML_BYTES} characters, the most for YAML")
    files.check_plain(origin, text, CaseError)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        found: dict[str, Setting] = {}
        if isinstance(node, yaml.MappingNode):
            constructor = yaml.SafeLoader("")
            for path, leaf in _nodes(origin, node, ()):
                value = constructor.construct_object(leaf, deep=True)
                found[".".join(path)] = Setting(value, ".".join(path), leaf.start_mark.line + 1)
                if len(found) > MAX_SETTINGS:
                    raise CaseError(f"{origin}: holds more than {MAX_SETTINGS} settings")
            return found
    except (*files.YAML_ERRORS, yaml.YAMLError) as error:
        raise CaseError(f"{origin}: is not plain YAML: {error}") from error
    except RecursionError as error:
        raise CaseError(f"{origin}: is nested too deeply, or holds itself") from error
    raise CaseError(f"{origin}: must hold a mapping of names to values")


def _nodes(origin: str, node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:  # noqa: ANN401
    if len(path) > files.MAX_DEPTH:
        raise CaseError(f"{origin}: tables are nested deeper than {files.MAX_DEPTH}")
    for key, inner in node.value:
        here = (*path, str(key.value))
        if inner.id == "mapping" and inner.value:
            yield from _nodes(origin, inner, here)
        else:
            yield here, inner
