"""The settings of one file, and what has been read of them.

A reader turns a file into :class:`Settings`, its own names with their values and lines, reads what
it knows through the typed getters and puts fields of a case. What nobody read is sorted at the end:
settings without influence on time or memory, and those that are not understood. Nothing is lost on
the way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from predictor.case.importers.found import Derived, Draft, Found, Imported
from predictor.case.section import shown
from predictor.errors import CaseError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SAME_NAME = 0.85
"""How alike two names are (as difflib counts) if one is taken for the other mistyped."""

OFF: tuple[object, ...] = (None, False, "", 0, [], {})
"""Values that switch nothing on."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a file.

    Attributes:
        value: What the file's syntax made of it.
        shown: Name as the file writes it.
        line: Line, where the syntax tells.
    """

    value: Any
    shown: str
    line: int | None = None

    @property
    def is_option(self) -> bool:
        """It stands on a command line."""
        return self.shown.startswith("--")

    @property
    def has_no_value(self) -> bool:
        """An option with nothing behind it."""
        return self.value is True and self.is_option


class Settings:
    """The settings of one file, and which of them have been read."""

    def __init__(self, origin: str, form: str, settings: Mapping[str, Setting]) -> None:
        """Begin with nothing read and no field found."""
        self.origin, self.form = origin, form
        self._settings = dict(settings)
        self._read: set[str] = set()
        self._known: set[str] = set()
        self._fields: dict[str, Found] = {}
        self._derived: list[Derived] = []
        self._open: dict[str, str] = {}
        self._unknown: list[str] = []
        self._free: list[str] = []

    def has(self, name: str) -> bool:
        """Whether the file sets ``name`` to something; it counts as read."""
        self._known.add(name)
        if name in self._settings:
            self._read.add(name)
        return name in self._settings and self._settings[name].value is not None

    def raw(self, name: str) -> Any:  # noqa: ANN401 - whatever the file holds
        """The value as the file has it, or None; it counts as read."""
        return self._settings[name].value if self.has(name) else None

    def where(self, name: str) -> str:
        """File, line and words of a setting."""
        setting = self._settings[name]
        line = "" if setting.line is None else f":{setting.line}"
        return f"{self.origin}{line}: {setting.shown}"

    def fail(self, name: str, rule: str) -> CaseError:
        """The error that a setting breaks ``rule``."""
        setting = self._settings[name]
        said = "" if setting.has_no_value else f" = {shown(setting.value)}"
        return CaseError(f"{self.where(name)}{said}: {rule}")

    def count(self, name: str) -> int | None:
        """A whole number, or None where it is absent.

        Raises:
            CaseError: It is something else.
        """
        value = self.raw(name)
        if value is None:
            return None
        if isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,18}", value.strip()):
            return int(value)
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise self.fail(name, self._number(name, "a whole number"))

    def real(self, name: str) -> float | None:
        """A number, or None where it is absent.

        Raises:
            CaseError: It is something else.
        """
        value = self.raw(name)
        if value is None:
            return None
        try:
            if not isinstance(value, bool):
                return float(value)
        except (TypeError, ValueError):
            pass
        raise self.fail(name, self._number(name, "a number"))

    def _number(self, name: str, what: str) -> str:
        """The rule of a number that is none: an option without a value is told what it lacks."""
        bare = self._settings[name].has_no_value
        return f"needs {what} behind it" if bare else f"must be {what}"

    def flag(self, name: str) -> bool | None:
        """True or false, or None where it is absent.

        Raises:
            CaseError: It is something else.
        """
        value = self.raw(name)
        if value is None or isinstance(value, bool):
            return value
        word = str(value).lower()
        if word in {"true", "1", "yes", "on"}:
            return True
        if word in {"false", "0", "no", "off"}:
            return False
        raise self.fail(name, "must be true or false")

    def word(self, name: str, words: Mapping[str, Any]) -> Any:  # noqa: ANN401 - words to anything
        """What one of some words stands for, or None where it is absent.

        Raises:
            CaseError: It is another word.
        """
        value = self.raw(name)
        if value is None:
            return None
        known = {key.lower(): meaning for key, meaning in words.items()}
        word = str(value).lower()
        if word not in known:
            rule = f"is not read; known: {', '.join(words)}{nearest(word, words)}"
            raise self.fail(name, rule)
        return known[word]

    def put(self, path: str, value: Any, name: str) -> None:  # noqa: ANN401 - any field
        """Note a field that the setting ``name`` tells."""
        if value is not None:
            self._fields[path] = Found(value, self.where(name))

    def put_default(self, path: str, value: Any, words: str) -> None:  # noqa: ANN401 - any field
        """Note a field that the tool's own default decides, unless the file has told it."""
        if path not in self._fields and value is not None:
            self._fields[path] = Found(value, f"{self.origin}: {words}", stated=False)

    def put_counts(self, names: Mapping[str, str]) -> None:
        """Note whole numbers that stand for a field as they are: ``{name: path}``."""
        for name, path in names.items():
            if self.has(name):
                self.put(path, self.count(name), name)

    def put_flags(self, names: Mapping[str, str]) -> None:
        """Note flags that stand for a field as they are: ``{name: path}``."""
        for name, path in names.items():
            if self.has(name):
                self.put(path, self.flag(name), name)

    def derive(self, path: str, value: Callable[[Draft], Any], words: str) -> None:
        """Note a field that follows from others."""
        self._derived.append(Derived(path, value, f"{self.origin}: {words}"))

    def leave_open(self, path: str, words: str) -> None:
        """Note a field that somebody else must decide."""
        self._open[path] = f"{self.origin}: {words}"

    def value_of(self, path: str) -> Any:  # noqa: ANN401 - any field
        """A field that was put, or None."""
        found = self._fields.get(path)
        return None if found is None else found.value

    def not_modelled(self, words: str) -> None:
        """List something that the estimate leaves out."""
        self._unknown.append(words)

    def without_influence(self, words: str) -> None:
        """List something that changes neither time nor memory."""
        self._free.append(words)

    def unmodelled(self, name: str, *, unless: tuple[object, ...] = OFF) -> None:
        """Read a setting that is known and left out, unless it says nothing."""
        value = self.raw(name)
        if value not in unless:
            self.not_modelled(f"{self.where(name)} = {shown(value)} is not modelled")

    def _meant(self, name: str) -> str:
        """Say which setting was meant, where one that is read is called almost the same."""
        setting = self._settings[name]
        options = {f"--{each.replace('_', '-')}" for each in self._known}
        known = options if setting.is_option else self._known
        return nearest(setting.shown, known, likeness=SAME_NAME)

    def finished(self, is_free: Callable[[str, Any], bool]) -> Imported:
        """Sort what nobody read and return everything."""
        free = [*self._free]
        for name, setting in self._settings.items():
            if name in self._read:
                continue
            if is_free(name, setting.value):
                free.append(setting.shown)
            else:
                words = f"{self.where(name)} = {shown(setting.value)} is not understood"
                self._unknown.append(f"{words}{self._meant(name)}")
        return Imported(
            origin=self.origin,
            form=self.form,
            fields=dict(self._fields),
            derived=tuple(self._derived),
            open=dict(self._open),
            free=tuple(dict.fromkeys(free)),
            unknown=tuple(self._unknown),
        )
