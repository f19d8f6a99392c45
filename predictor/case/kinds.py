"""Kinds of values that a field of a case can take: how to read one, and the rule in words.

A kind accepts what JSON and TOML give. A whole number is never a boolean, a fraction or a string.
"""

from __future__ import annotations

import re
from math import inf
from typing import Any, Protocol

from predictor.errors import nearest


class KindError(Exception):
    """A value is not of its kind; the message is the rule."""


class Kind(Protocol):
    """What a field accepts."""

    def read(self, value: object) -> Any:  # noqa: ANN401
        """Return ``value`` in its lasting form, or raise :class:`KindError` with the rule."""

    def words(self) -> str:
        """Return the kind for documentation."""


class Count:
    """A whole number between two bounds."""

    def __init__(self, most: int, least: int = 1) -> None:
        """Set the bounds, both of them allowed."""
        self.most, self.least = most, least

    def read(self, value: object) -> int:
        """Return the number."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise KindError("must be a whole number")
        if value < self.least:
            raise KindError(f"must be at least {self.least}")
        if value > self.most:
            raise KindError(f"must be at most {self.most}")
        return value

    def words(self) -> str:
        """Return for example ``1 to 10000``."""
        return f"{self.least} to {self.most}"


class Real:
    """A finite number above ``above`` (or equal to ``least``) and at most ``most``."""

    def __init__(self, most: float, *, above: float = 0.0, least: float | None = None) -> None:
        """Set the bounds; ``most`` and ``least`` are allowed, ``above`` is not."""
        self.most, self.above, self.least = most, above, least

    def read(self, value: object) -> float:
        """Return the number."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not -inf < value < inf:
            raise KindError("must be a finite number")
        if self.least is not None and value < self.least:
            raise KindError(f"must be at least {self.least:g}")
        if value <= self.above:
            raise KindError(f"must be greater than {self.above:g}")
        if value > self.most:
            raise KindError(f"must be at most {self.most:g}")
        return float(value)

    def words(self) -> str:
        """Return for example ``number above 0``."""
        if self.least is not None:
            return f"number from {self.least:g}"
        return f"number above {self.above:g}"


class Flag:
    """True or false."""

    def read(self, value: object) -> bool:
        """Return the flag."""
        if not isinstance(value, bool):
            raise KindError("must be true or false")
        return value

    def words(self) -> str:
        """Return ``true or false``."""
        return "true or false"


class Choice:
    """One of some words."""

    def __init__(self, options: tuple[str, ...]) -> None:
        """Set the words."""
        self.options = options

    def read(self, value: object) -> str:
        """Return the word."""
        if not isinstance(value, str) or value not in self.options:
            hint = nearest(value, self.options) if isinstance(value, str) else ""
            raise KindError(f"must be one of {', '.join(self.options)}{hint}")
        return value

    def words(self) -> str:
        """Return the words."""
        return ", ".join(self.options)


class Text:
    """A short string, perhaps of a certain form."""

    def __init__(self, pattern: str = "", longest: int = 1000) -> None:
        """Set the regular expression of the whole string, and its greatest length."""
        self.pattern, self.longest = pattern, longest

    def read(self, value: object) -> str:
        """Return the string."""
        if not isinstance(value, str):
            raise KindError("must be a string")
        if len(value) > self.longest:
            raise KindError(f"must have at most {self.longest} characters")
        if self.pattern and not re.fullmatch(self.pattern, value):
            raise KindError(f"must match {self.pattern}")
        return value

    def words(self) -> str:
        """Return ``string``."""
        return "string"


class Sequence:
    """A list whose entries are all of one kind, kept as a tuple."""

    def __init__(self, of: Kind) -> None:
        """Set the kind of the entries."""
        self.of = of

    def read(self, value: object) -> tuple[Any, ...]:
        """Return the entries."""
        if not isinstance(value, list | tuple):
            raise KindError("must be a list")
        return tuple(self.of.read(entry) for entry in value)

    def words(self) -> str:
        """Return for example ``list of 1 to 10000``."""
        return f"list of {self.of.words()}"


class Spread:
    """How unevenly something is spread: a named distribution, or the fullest over the mean."""

    def __init__(self, plain: tuple[str, ...], with_parameter: tuple[str, ...]) -> None:
        """Set the names that stand alone and those that carry a number (``zipf:1.2``)."""
        self.plain, self.with_parameter = plain, with_parameter
        self._ratio = Real(1e4, least=1.0)
        self._parameter = Real(1e4)

    def read(self, value: object) -> str | float:
        """Return the ratio, or the distribution as it was written."""
        if not isinstance(value, str):
            return self._ratio.read(value)
        name, colon, text = value.partition(":")
        if name in self.plain and not colon:
            return value
        if name not in self.with_parameter:
            raise KindError(f"must be {self.words()}{nearest(name, self._names())}")
        try:
            self._parameter.read(float(text))
        except ValueError:
            raise KindError(f"must be {name}: and a number, as in {name}:1.0") from None
        return value

    def _names(self) -> tuple[str, ...]:
        return (*self.plain, *self.with_parameter)

    def words(self) -> str:
        """Return the names; a file is read into counts before a value comes here."""
        named = (*self.plain, *(f"{name}:NUMBER" for name in self.with_parameter))
        return f"{', '.join(named)}, histogram:FILE, or a number from 1"
