"""A case file with a comment on every field: where it was found, or which default it takes."""

from __future__ import annotations

import json
from dataclasses import fields
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from predictor.case.cluster_schema import Links
from predictor.case.defaults import DEFAULTS, Default
from predictor.case.model_schema import Mla, Moe
from predictor.case.resolve import resolve
from predictor.case.schema import SECTIONS
from predictor.case.section import Section, kinds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from predictor.case.importers.merging import Brought
    from predictor.case.whole import Case

WIDTH = 100
_PARTS: dict[str, tuple[type[Section], ...]] = {"model": (Moe, Mla), "cluster": (Links,)}


def case_file(case: Case, brought: Brought) -> str:
    """Return the TOML of a case that was put together from files.

    A field that nothing tells stands as a comment with the default that an estimate takes, so that
    it can be decided by taking the sign away.
    """
    filled = resolve(case).case
    draft = filled.to_dict()
    rules = {each.key: each.rule for each in DEFAULTS if _bears(each, draft)}
    lines = [*_comment(f"From {brought.origin}.", "# "), *_listed(brought), ""]
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
    kind: type[Section],
    own: object,
    filled: object,
    brought: Brought,
    rules: dict[str, str],
) -> list[str]:
    lines = ["", f"[{kind.path}]"]
    for each in fields(kind):
        if each.name in kinds(kind) and each.name != "notes":
            path = f"{kind.path}.{each.name}"
            values = getattr(own, each.name), getattr(filled, each.name)
            lines += _field(path, *values, brought, rules)
    notes = getattr(own, "notes", ())
    if notes:
        lines += ["# Not understood or not modelled; every estimate repeats this."]
        lines += ["notes = [", *(f"  {_toml(note)}," for note in notes), "]"]
    return lines


def _field(
    path: str,
    own: object,
    filled: object,
    brought: Brought,
    rules: dict[str, str],
) -> list[str]:
    name = path.rpartition(".")[2]
    if own is not None:
        found = brought.fields.get(path)
        return _remarked(f"{name} = {_toml(own)}", "" if found is None else found.where)
    if filled is None:
        return []
    rule = rules.get(path)
    if rule is None and path in _RULED:
        return []
    words = f"default: {rule}" if rule else "filled from the model's name"
    return _remarked(f"# {name} = {_toml(filled)}", words)


_RULED = frozenset(default.key for default in DEFAULTS)


def _bears(default: Default, draft: dict[str, Any]) -> bool:
    """Whether a default bears on the estimate of a whole case."""
    return "moe" in draft["model"] or (".moe" not in default.key and default.matters(draft))


def _remarked(line: str, words: str) -> list[str]:
    """A line with a remark behind it, or above it where both are too long for a line."""
    words = " ".join(words.split())
    if not words:
        return [line]
    if len(line) + len(words) + 4 <= WIDTH:
        return [f"{line}  # {words}"]
    return [*_comment(words, "# "), line]


def _toml(value: object) -> str:
    """A value as TOML writes it; strings are JSON's, which are TOML's but for one character."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return f"[{', '.join(_toml(each) for each in value)}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
