"""Words of a shell script's commands, without running anything.

:mod:`predictor.case.importers.shell_words` parts the text into statements. Variables are replaced
if the same file assigns a plain value to them: a word, a string of words, an array of words, or
other variables of that kind. A name that is assigned under a condition, in a loop, from a command,
with a fallback or from the environment has no known value, and neither has an argument that uses
it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from predictor.case.importers.shell_words import Word, statements
from predictor.errors import CaseError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_WORDS = 100_000

_ASSIGNMENT = re.compile(r"(\w+)(\+?)=(.*)", re.DOTALL)
_DECLARING = frozenset({"export", "local", "declare", "readonly"})
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?:\[[@*]\])?\}|(\w+))")
_OPENING = frozenset({"if", "for", "while", "until", "case", "select", "function"})
_CLOSING = frozenset({"fi", "done", "esac", "}"})
_MIDDLE = frozenset({"then", "else", "elif", "do"})
_ENDING = frozenset({"|", "||", "&&", "&"})


@dataclass(frozen=True, slots=True)
class Script:
    """What a script's own text tells of its commands.

    Attributes:
        commands: Commands outside of conditions, their words expanded.
        conditional: Options that stand under a condition, in a loop or in a function.
    """

    commands: tuple[tuple[Word, ...], ...]
    conditional: tuple[Word, ...]


def read_script(origin: str, text: str) -> Script:
    """Read a script, or a file of bare arguments.

    Raises:
        CaseError: A quote or a bracket is not closed, or expansion does not end.
    """
    known: dict[str, tuple[Word, ...] | None] = {}
    commands: list[tuple[Word, ...]] = []
    conditional: list[Word] = []
    depth = 0
    for statement in statements(origin, text):
        first = statement[0].text
        if first in _CLOSING:
            depth = max(0, depth - 1)
        elif first in _OPENING or first.endswith("()"):
            depth += 1
        elif depth:
            words = statement[1:] if first in _MIDDLE else statement
            conditional += [word for word in words if word.text.startswith("--")]
            _forget(known, words)
        elif (assigned := _assignment(statement)) is not None:
            name, more, values = assigned
            old = known.get(name, ()) if more else ()
            fresh = None if values is None else tuple(_expanded(origin, values, known))
            known[name] = None if fresh is None or old is None else (*old, *fresh)
        else:
            commands.append(tuple(_expanded(origin, statement, known)))
    return Script(tuple(commands), tuple(conditional))


def _assignment(statement: list[Word]) -> tuple[str, bool, list[Word] | None] | None:
    """Name, whether values are added, and the values (None: only a run could tell)."""
    words = statement[1:] if statement[0].text in _DECLARING else statement
    while words and words[0].text.startswith("-"):
        words = words[1:]
    found = _ASSIGNMENT.fullmatch(words[0].text) if words else None
    if found is None:
        return None
    name, more, value = found.groups()
    if value == "(":
        return name, bool(more), words[1:]
    if len(words) > 1:
        return None  # a command with an environment of its own
    if "$(" in value or "`" in value:
        return name, bool(more), None
    return name, bool(more), [Word(value, words[0].line)] if value else []


def _forget(known: dict[str, tuple[Word, ...] | None], words: list[Word]) -> None:
    """A name that is assigned under a condition may hold anything from here on."""
    assigned = _assignment(words) if words else None
    if assigned is not None and not assigned[1]:
        known[assigned[0]] = None


def _expanded(
    origin: str, words: Iterable[Word], known: dict[str, tuple[Word, ...] | None]
) -> Iterator[Word]:
    """Words with their variables replaced; one that holds several arguments becomes those.

    Raises:
        CaseError: Expansion gives more words than any command has.
    """
    count = 0
    for word in words:
        if word.text in _ENDING or word.text.startswith((">", "2>", "&>")):
            return
        for part in _pieces(word):
            whole = _VARIABLE.fullmatch(part.text)
            held = known.get(whole[1] or whole[2]) if whole else None
            found = [_replaced(part, known)] if held is None else held
            count += len(found)
            if count > MAX_WORDS:
                raise CaseError(f"{origin}:{word.line}: expands to more than {MAX_WORDS} words")
            yield from found


def _pieces(word: Word) -> Iterator[Word]:
    """A quoted string of several arguments, which the shell would part where it is used."""
    if not re.search(r"(^|\s)(--\w|\$)", word.text) or not re.search(r"\s", word.text.strip()):
        yield word
        return
    line = word.line
    for piece in re.finditer(r"\S+|\n", word.text):
        if piece[0] == "\n":
            line += 1
        elif piece[0] != "\\":
            yield Word(piece[0], line)


def _replaced(word: Word, known: dict[str, tuple[Word, ...] | None]) -> Word:
    """A word whose variables of one plain value are replaced; another stays and is named."""
    missing = ""

    def value(found: re.Match[str]) -> str:
        nonlocal missing
        held = known.get(found[1] or found[2])
        if held is not None and len(held) == 1 and not held[0].missing:
            return held[0].text
        missing = missing or found[0]
        return found[0]

    text = _VARIABLE.sub(value, word.text)
    if not missing and ("$" in text or "`" in text):
        missing = text
    return replace(word, text=text, missing=missing)
