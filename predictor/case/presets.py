"""Files that ship with the package: one preset a file, found by name.

A preset is TOML, carries a ``source`` and is read when it is asked for. ``aliases.toml`` maps other
common names of a model to its file.
"""

from __future__ import annotations

import os
import tomllib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predictor.errors import UnknownName, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable

FOLDER = Path(__file__).parent / "presets"


def closest(name: str, known: Iterable[str]) -> str:
    """Return a hint at the nearest name, or at the first that begins as ``name`` does."""
    known = sorted(known)
    beginning = next((each for each in known if name and each.startswith(name.lower())), None)
    return f" (did you mean {beginning!r}?)" if beginning else nearest(name, known)


@cache
def preset_names(kind: str) -> tuple[str, ...]:
    """Return the names of all presets of a kind (``models`` or ``networks``), sorted."""
    files = os.listdir(FOLDER / kind)  # noqa: PTH208 - a path of each takes longer than reading one
    return tuple(sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml")))


def read_preset(kind: str, name: str) -> dict[str, Any]:
    """Read one preset.

    Raises:
        UnknownName: There is no preset of that kind and name.
    """
    if name not in preset_names(kind):
        hint = closest(name, preset_names(kind))
        raise UnknownName(f"no {kind.removesuffix('s')} preset is called {name!r}{hint}")
    return {key: _copied(value) for key, value in _parsed(kind, name).items()}


@cache
def _parsed(kind: str, name: str) -> dict[str, Any]:
    with (FOLDER / kind / f"{name}.toml").open("rb") as file:
        return tomllib.load(file)


def _copied(value: object) -> object:
    return dict(value) if isinstance(value, dict) else value


@cache
def aliases() -> dict[str, str]:
    """Return other names of models, in lower case, with the preset that each stands for."""
    with (FOLDER / "aliases.toml").open("rb") as file:
        return tomllib.load(file)
