"""runs.toml: one table of provenance for each run that put rows into a SKU's tables."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from predictor.errors import TableError
from predictor.files import MEBIBYTE, read_toml
from predictor.tables.writing import write_atomically

RUNS_FILE: Final = "runs.toml"
MAX_RUNS_BYTES: Final = 4 * MEBIBYTE
Run = dict[str, Any]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def read_runs(path: Path) -> dict[str, Run]:
    """Provenance by run key.

    Raises:
        TableError: The file cannot be read, is not TOML, or holds something else than tables.
    """
    runs = read_toml(path, TableError, MAX_RUNS_BYTES)
    for key, run in runs.items():
        if not isinstance(run, dict):
            raise TableError(f"{path}: {key} = {run!r} must be a table of provenance: [{key}]")
    return runs


def write_runs(path: Path, runs: Mapping[str, Run]) -> None:
    """Replace runs.toml, whole or not at all; values that are None are left out."""
    write_atomically(path, "\n".join(_table([key], run) for key, run in runs.items()))


def _table(keys: list[str], content: Mapping[str, Any]) -> str:
    lines = [f"[{'.'.join(_key(key) for key in keys)}]"]
    nested = []
    for key, value in content.items():
        if isinstance(value, Mapping):
            nested.append(_table([*keys, key], value))
        elif value is not None:
            lines.append(f"{_key(key)} = {_value(value)}")
    return "\n".join([*lines, "", *nested])


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _string(key)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(item) for item in value)}]"
    return _string(str(value))


def _string(text: str) -> str:
    """Quote as JSON does, which is a TOML basic string but for the delete character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
