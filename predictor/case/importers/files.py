"""Text of another tool's file, read with limits, and its syntax as plain values with lines."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from predictor.case.importers.found import Setting
from predictor.case.reading import read_bytes
from predictor.errors import CaseError

if TYPE_CHECKING:
    from pathlib import Path

MAX_YAML_BYTES = 256 * 1024
"""The safe YAML reader takes some ten seconds a mebibyte; a whole recipe has twenty kibibytes."""

MAX_DEPTH = 64
MAX_SETTINGS = 20_000


def read_text(path: Path) -> str:
    """Return the text of a file.

    Raises:
        CaseError: It is not there, not a file, too large or not UTF-8.
    """
    content = read_bytes(path, "the most that is read")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CaseError(f"{path}: is not text: {error}") from error


def check_depth(origin: str, text: str) -> None:
    """Refuse brackets that are nested deeper than any configuration.

    Raises:
        CaseError: They are.
    """
    depth = 0
    for bracket in re.finditer(r"[\[{(]|[\]})]", text):
        depth = depth + 1 if bracket[0] in "[{(" else max(0, depth - 1)
        if depth > MAX_DEPTH:
            raise CaseError(f"{origin}: brackets are nested deeper than {MAX_DEPTH}")


def parse(origin: str, text: str, syntax: str) -> dict[str, Any]:
    """Return a ``json`` or ``toml`` text as a mapping.

    Raises:
        CaseError: It is damaged, or holds something else at its top.
    """
    check_depth(origin, text)
    try:
        parsed = tomllib.loads(text) if syntax == "toml" else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CaseError(f"{origin}: is not {syntax.upper()}: {error}") from error
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
    if len(path) > MAX_DEPTH:
        raise CaseError(f"{origin}: tables are nested deeper than {MAX_DEPTH}")
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
    check_depth(origin, text)
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
    except yaml.YAMLError as error:
        raise CaseError(f"{origin}: is not plain YAML: {error}") from error
    except RecursionError as error:
        raise CaseError(f"{origin}: is nested too deeply, or holds itself") from error
    raise CaseError(f"{origin}: must hold a mapping of names to values")


def _nodes(origin: str, node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:  # noqa: ANN401
    if len(path) > MAX_DEPTH:
        raise CaseError(f"{origin}: tables are nested deeper than {MAX_DEPTH}")
    for key, inner in node.value:
        here = (*path, str(key.value))
        if inner.id == "mapping" and inner.value:
            yield from _nodes(origin, inner, here)
        else:
            yield here, inner
