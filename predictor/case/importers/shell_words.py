"""A shell script's statements as words, without running anything.

Comments, quotes, continued lines, arrays and here-documents are understood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from predictor.errors import CaseError

if TYPE_CHECKING:
    from collections.abc import Iterator


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


def statements(origin: str, text: str) -> Iterator[list[Word]]:
    """Return every statement of a script that has words.

    Raises:
        CaseError: A quote or a bracket is not closed.
    """
    return _Reader(origin, text).statements()


_BRACKET = re.compile(r"[()]")
_TOKEN = re.compile(
    r"""(?P<continued>\\\n) | \\(?P<escaped>.)
    | '(?P<single>[^']*)' | "(?P<double>(?:\\.|[^"\\])*)"
    | (?P<comment>(?<![^\s;(])\#[^\n]*)
    | (?P<here><<-?[ \t]*(?P<quote>['"]?)(?P<delimiter>\w+)(?P=quote))
    | (?P<array>(?<==)\() | (?P<close>\)) | (?P<call>\$\()
    | (?P<end>[;\n]) | (?P<space>[^\S\n]+)
    | (?P<text>[^\\'"\s;()$<\#=]+=?|.)
    """,
    re.VERBOSE | re.DOTALL,
)


class _Reader:
    """Words of each statement, quotes removed; an array stays in one statement over many lines."""

    def __init__(self, origin: str, text: str) -> None:
        """Begin before the first character."""
        self._origin, self._text = origin, text
        self._at, self._line = 0, 1
        self._words: list[Word] = []
        self._pieces: list[str] = []  # of the word under way
        self._begun = 1  # its line
        self._in_array = False
        self._delimiter = ""

    def statements(self) -> Iterator[list[Word]]:
        """Every statement that has words."""
        while self._at < len(self._text):
            found = _TOKEN.match(self._text, self._at)
            assert found is not None  # noqa: S101 - its last branch takes any character
            ends = self._take(found)
            self._line += self._text.count("\n", self._at, found.end())
            self._at = max(self._at, found.end())
            if ends:
                if words := self._taken():
                    yield words
                self._skip_document(found)
        if self._in_array:
            raise CaseError(f"{self._origin}: the bracket of an array is not closed")
        if words := self._taken():
            yield words

    def _take(self, found: re.Match[str]) -> bool:
        """Take one token; return whether it ends the statement."""
        kind = str(found.lastgroup)
        if kind in {"escaped", "single", "double", "text"}:
            self._add(found[kind])
        elif kind in {"continued", "space"} or (kind == "end" and self._in_array):
            self._end()
        elif kind == "end":
            return True
        elif kind == "here":
            self._delimiter = found["delimiter"]
        elif kind == "array":
            self._add("(")
            self._end()
            self._in_array = True
        elif kind == "call":
            self._call()
        elif kind == "close":
            self._close()
        return False

    def _add(self, piece: str) -> None:
        if piece in {"'", '"'} and self._text[self._at] == piece and self._is_bare():
            raise CaseError(f"{self._origin}:{self._line}: a quote is not closed")
        if not self._pieces:
            self._begun = self._line
        self._pieces.append(piece)

    def _is_bare(self) -> bool:
        """Whether the quote here was matched as a character, so that nothing closes it."""
        found = _TOKEN.match(self._text, self._at)
        return found is not None and found.lastgroup == "text"

    def _end(self) -> None:
        if self._pieces:
            self._words.append(Word("".join(self._pieces), self._begun))
        self._pieces = []

    def _taken(self) -> list[Word]:
        self._end()
        words, self._words = self._words, []
        return words

    def _close(self) -> None:
        if self._in_array:
            self._end()
            self._in_array = False
        else:
            self._add(")")

    def _call(self) -> None:
        """A command or sum whose value only a run could tell, as it is written."""
        depth = 0
        for bracket in _BRACKET.finditer(self._text, self._at):
            depth += 1 if bracket[0] == "(" else -1
            if depth == 0:
                self._add(self._text[self._at : bracket.end()])
                self._line += self._text.count("\n", self._at, bracket.end())
                self._at = bracket.end()
                return
        raise CaseError(f"{self._origin}:{self._line}: a bracket is not closed")

    def _skip_document(self, found: re.Match[str]) -> None:
        """Leave a here-document behind the line that opened it."""
        if not self._delimiter or found[0] != "\n":
            return
        closing = re.compile(rf"^\s*{self._delimiter}$", re.MULTILINE)
        ended = closing.search(self._text, self._at)
        end = ended.end() if ended else len(self._text)
        self._line += self._text.count("\n", self._at, end)
        self._at, self._delimiter = end, ""
