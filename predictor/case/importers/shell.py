"""Words of a shell script's commands, without running anything.

Comments, quotes, continued lines, arrays and here-documents are understood, and variables to which
the same file assigns a plain value: a word, a string of words, an array of such, or others of that
kind. A name that is assigned under a condition, in a loop, from a command, with a fallback or from
the environment has no known value, and neither has an argument that uses it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from predictor.errors import CaseError

MAX_WORDS = 100_000

_ASSIGNMENT = re.compile(r"(\w+)(\+?)=(.*)", re.DOTALL)
_DECLARING = frozenset({"export", "local", "declare", "readonly"})
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?:\[[@*]\])?\}|(\w+))")
_OPENING = frozenset({"if", "for", "while", "until", "case", "select", "function"})
_CLOSING = frozenset({"fi", "done", "esac", "}"})
_MIDDLE = frozenset({"then", "else", "elif", "do"})
_ENDING = frozenset({"|", "||", "&&", "&"})
_HERE = re.compile(r"<<-?\s*(['\"]?)(\w+)\1")


@dataclass(frozen=True, slots=True)
class Word:
    """One argument of a command.

    Attributes:
        text: After expansion; what could not be expanded stands as it was written.
        line: Where it is written.
        missing: The variable or construct without a known value; empty if all is known.
    """

    text: str
    line: int
    missing: str = ""


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
    for statement in _statements(origin, text):
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
            old = known.get(name) if more else ()
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


@dataclass(slots=True)
class _Words:
    """Words of a statement while they are read."""

    done: list[Word] = field(default_factory=list)
    text: str | None = None
    line: int = 0

    def add(self, piece: str, line: int) -> None:
        if self.text is None:
            self.text, self.line = "", line
        self.text += piece

    def end(self) -> None:
        if self.text is not None:
            self.done.append(Word(self.text, self.line))
        self.text = None

    def taken(self) -> list[Word]:
        self.end()
        words, self.done = self.done, []
        return words


def _statements(origin: str, text: str) -> Iterator[list[Word]]:
    """Words of each statement, quotes removed; arrays stay in one statement over many lines."""
    words, line, at, in_array = _Words(), 1, 0, False
    delimiter = ""
    while at < len(text):
        character = text[at]
        if character in "\"'":
            end = _closing_quote(text, at)
            if end < 0:
                raise CaseError(f"{origin}:{line}: a quote is not closed")
            words.add(re.sub(r"\\\n", " ", text[at + 1 : end]), line)
            line, at = line + text.count("\n", at, end), end + 1
        elif character == "\\":
            if text[at + 1 : at + 2] == "\n":
                words.end()
                line += 1
            else:
                words.add(text[at + 1 : at + 2], line)
            at += 2
        elif text.startswith("$(", at):
            end = _closing_bracket(text, at + 1)
            if end < 0:
                raise CaseError(f"{origin}:{line}: a bracket is not closed")
            words.add(text[at : end + 1], line)
            line, at = line + text.count("\n", at, end), end + 1
        elif character == "#" and words.text is None:
            at = text.find("\n", at) if "\n" in text[at:] else len(text)
        elif character == "<" and (found := _HERE.match(text, at)):
            delimiter, at = found[2], found.end()
        elif character == "(" and words.text is not None and words.text.endswith("="):
            words.add("(", line)
            words.end()
            in_array, at = True, at + 1
        elif character == ")" and in_array:
            words.end()
            in_array, at = False, at + 1
        elif character in ";\n" and not in_array:
            if statement := words.taken():
                yield statement
            line, at = line + (character == "\n"), at + 1
            if delimiter and character == "\n":
                skipped = _here_document(text, at, delimiter)
                line, at, delimiter = line + text.count("\n", at, skipped), skipped, ""
        elif character.isspace():
            words.end()
            line, at = line + (character == "\n"), at + 1
        else:
            words.add(character, line)
            at += 1
    if in_array:
        raise CaseError(f"{origin}: the bracket of an array is not closed")
    if statement := words.taken():
        yield statement


def _closing_quote(text: str, at: int) -> int:
    quote, at = text[at], at + 1
    while at < len(text) and text[at] != quote:
        at += 2 if text[at] == "\\" and quote == '"' else 1
    return at if at < len(text) else -1


def _closing_bracket(text: str, at: int) -> int:
    depth = 0
    for found in re.compile(r"[()]").finditer(text, at):
        depth += 1 if found[0] == "(" else -1
        if depth == 0:
            return found.start()
    return -1


def _here_document(text: str, at: int, delimiter: str) -> int:
    """Where the text goes on behind a here-document that begins at ``at``."""
    found = re.compile(rf"^\s*{delimiter}$", re.MULTILINE).search(text, at)
    return found.end() if found else len(text)


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
