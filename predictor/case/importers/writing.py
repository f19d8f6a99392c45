"""A case file with a comment on every field: where it was found, or which default it takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from textwrap import wrap
from typing import Any

from predictor.case.defaults import DEFAULTS
from predictor.case.importers.merging import Brought
from predictor.case.resolve import resolve
from predictor.case.schema import SECTIONS, Case, Mla, Moe, Section, kinds

WIDTH = 100
_PARTS: dict[str, tuple[type[Section], ...]] = {"model": (Moe, Mla)}


def case_file(case: Case, brought: Brought) -> str:
    """Return the TOML of a case that was put together from files.

    A field that nothing tells stands as a comment with the default that an estimate takes, so that
    it can be decided by taking the sign away.
    """
    rules = {default.key: default.rule for default in DEFAULTS}
    filled = resolve(case).case
    lines = [f"# From {brought.origin}.", *_listed(brought), ""]
    lines += _field("implementation", case.implementation, filled.implementation, brought, rules)
    for name, kind in SECTIONS.items():
        lines += _section(kind, getattr(case, name), getattr(filled, name), brought, rules)
        for part in _PARTS.get(name, ()):
            inner = part.path.rpartition(".")[2]
            own = getattr(getattr(case, name), inner)
            if own is not None:
                whole = getattr(getattr(filled, name), inner)
                lines += _section(part, own, whole, brought, rules)
    return "\n".join(lines) + "\n"


def _listed(brought: Brought) -> Iterator[str]:
    if brought.unknown:
        yield "# Not understood or not modelled, so left out of every estimate:"
        for words in brought.unknown:
            yield from _comment(words, "#   ")
    if brought.free:
        yield "# Recognised, and without influence on time or memory:"
        yield from _comment(", ".join(brought.free), "#   ")


def _comment(words: str, indent: str) -> list[str]:
    return wrap(
        " ".join(words.split()),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_on_hyphens=False,
    )


def _section(
    kind: type[Section], own: Any, filled: Any, brought: Brought, rules: dict[str, str]  # noqa: ANN401
) -> list[str]:
    lines = ["", f"[{kind.path}]"]
    for each in fields(kind):
        if each.name in kinds(kind) and each.name != "notes":
            path = f"{kind.path}.{each.name}"
            values = getattr(own, each.name), getattr(filled, each.name)
            lines += _field(path, *values, brought, rules)
    notes = getattr(own, "notes", ())
    if notes:
        lines += ["notes = [", *(f"  {_toml(note)}," for note in notes), "]"]
    return lines


def _field(
    path: str, own: Any, filled: Any, brought: Brought, rules: dict[str, str]  # noqa: ANN401
) -> list[str]:
    name = path.rpartition(".")[2]
    if own is not None:
        found = brought.fields.get(path)
        where = "" if found is None else found.where
        return [f"{name} = {_toml(own)}{_remark(where)}"]
    if filled is None:
        return []
    rule = rules.get(path)
    words = f"default: {rule}" if rule else "filled from the model's name"
    return [f"# {name} = {_toml(filled)}{_remark(words)}"]


def _remark(words: str) -> str:
    return f"  # {' '.join(words.split())}" if words else ""


def _toml(value: Any) -> str:  # noqa: ANN401 - any value of a field
    """A value as TOML writes it; strings are JSON's, which are TOML's but for one character."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return f"[{', '.join(_toml(each) for each in value)}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
