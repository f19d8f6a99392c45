"""What every part of a case is made of: fields that know their kind, and how one is shown."""

from __future__ import annotations

from dataclasses import field, fields
from typing import TYPE_CHECKING, Any, ClassVar

from predictor.case.kinds import Kind, KindError
from predictor.case.rule import RuleError
from predictor.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_SHOWN_CHARACTERS = 60


def needed(kind: Kind, description: str) -> Any:  # noqa: ANN401
    """Declare a field that a case cannot do without."""
    return field(metadata={"kind": kind, "description": description})


def optional(kind: Kind, description: str) -> Any:  # noqa: ANN401
    """Declare a field that :func:`predictor.case.resolve` can fill in, or that may stay away."""
    return field(default=None, metadata={"kind": kind, "description": description})


def shown(value: object) -> str:
    """Return a value as an error message shows it."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of more than some thousand digits
        text = "a number of thousands of digits"
    cut = len(text) > MAX_SHOWN_CHARACTERS
    return f"{text[:MAX_SHOWN_CHARACTERS]}…" if cut else text


@frozen(kw_only=True)
class Section:
    """A group of fields; each value is checked against the kind of its field."""

    path: ClassVar[str] = ""

    def __repr__(self) -> str:
        told = ", ".join(f"{name}={value!r}" for name, value in plain_items(self))
        return f"{type(self).__name__}({told})"

    def __post_init__(self) -> None:
        """Check each value and keep its lasting form.

        Raises:
            RuleError: A value is not of its kind.
        """
        for name, kind in kinds(type(self)).items():
            value = getattr(self, name)
            if value is None:
                continue
            try:
                object.__setattr__(self, name, kind.read(value))
            except KindError as error:
                raise RuleError(f"{self.path}.{name}", shown(value), str(error)) from None


_KINDS: dict[type[Section], dict[str, Kind]] = {}


def kinds(section: type[Section]) -> dict[str, Kind]:
    """Return the kind of each plain field of a section."""
    if section not in _KINDS:
        plain = (each for each in fields(section) if "kind" in each.metadata)
        _KINDS[section] = {each.name: each.metadata["kind"] for each in plain}
    return _KINDS[section]


_NAMES: dict[type, tuple[str, ...]] = {}


def _names(kind: type) -> tuple[str, ...]:
    if kind not in _NAMES:
        _NAMES[kind] = tuple(each.name for each in fields(kind))
    return _NAMES[kind]


def plain_items(value: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    """Fields of a case or of one of its sections that are set, as JSON types."""
    for name in _names(type(value)):
        inner = getattr(value, name)
        if isinstance(inner, Section):
            yield name, dict(plain_items(inner))
        elif isinstance(inner, tuple):
            if inner:
                yield name, list(inner)
        elif inner is not None:
            yield name, inner
