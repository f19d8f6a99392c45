"""Frozen values, made fast.

``@frozen`` makes what ``@dataclass(frozen=True, slots=True)`` makes, with the same fields, so that
``dataclasses.fields``, ``replace`` and ``asdict`` work on it. The standard decorator compiles six
functions for every class; for the eighty classes that an estimate imports that took 170 ms, a third
of the whole command (Python 3.12). Here ``__init__`` alone is compiled, of classes that make many
values; equality, hash and representation are written once and read the fields of their class.
"""

from dataclasses import MISSING, FrozenInstanceError, dataclass, field, fields
from functools import cache
from operator import attrgetter
from typing import Any, Final, dataclass_transform

FEW: Final = 30
"""Values of a class before its ``__init__`` is compiled."""


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(
    cls: Any = None,  # noqa: ANN401
    /,
    *,
    kw_only: bool = False,
    eq: bool = True,
    slots: bool = True,
) -> Any:  # noqa: ANN401
    """Make a class with annotated fields a frozen value.

    Fields may have a default or ``field(init=False)``, but no default factory.

    Args:
        cls: The class.
        kw_only: Its fields are given by name alone.
        eq: It is equal to a value of its class with equal fields; else to itself alone.
        slots: Its values have slots; else a dictionary, which cached properties need.
    """

    def made(plain: type) -> Any:  # noqa: ANN401
        made: Any = dataclass(init=False, repr=False, eq=False, slots=slots, kw_only=kw_only)(plain)
        made.__init__ = _first_initialiser(made)
        names = [each.name for each in fields(made)]
        made._content = attrgetter(*names) if names else type  # noqa: SLF001 - of all its methods
        for name, method in (_METHODS | _EQUALITY if eq else _METHODS).items():
            if getattr(made, name, None) is getattr(object, name, None):  # none of its own
                setattr(made, name, method)
        return made

    return made if cls is None else made(cls)


def _first_initialiser(cls: Any) -> Any:  # noqa: ANN401
    """An ``__init__`` that fills in the first values of a class, then makes way for a compiled one.

    Most classes make few values, and compiling takes as long as filling in a hundred of them.
    """
    made = 0

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401, N807
        nonlocal made
        made += 1
        if made > FEW or not _filled(cls, self, args, kwargs):
            cls.__init__ = _initialiser(cls)
            cls.__init__(self, *args, **kwargs)

    return __init__


@cache
def _parameters(cls: Any) -> tuple[list[str], frozenset[str], dict[str, Any]]:  # noqa: ANN401
    """Arguments that may be given by place, all of them, and defaults."""
    given = [each for each in fields(cls) if each.init]
    by_place = [each.name for each in given if not each.kw_only]
    defaults = {each.name: each.default for each in given if each.default is not MISSING}
    return by_place, frozenset(each.name for each in given), defaults


def _filled(cls: Any, self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:  # noqa: ANN401
    """Set the fields of a value and return whether the arguments are those of its class."""
    by_place, names, defaults = _parameters(cls)
    placed = dict(zip(by_place, args, strict=False))
    if len(args) > len(by_place) or (args and placed.keys() & kwargs.keys()):
        return False
    content = {**defaults, **placed, **kwargs}
    if content.keys() != names:
        return False
    put = object.__setattr__
    for name, each in content.items():
        put(self, name, each)
    if hasattr(cls, "__post_init__"):
        self.__post_init__()
    return True


def _initialiser(cls: Any) -> Any:  # noqa: ANN401
    """Compile the ``__init__`` of a class from its fields."""
    by_place, every, defaults = _parameters(cls)
    by_name = [each.name for each in fields(cls) if each.name in every.difference(by_place)]
    arguments = ["self", *by_place, *(["*", *by_name] if by_name else [])]
    shown = [f"{each}=_defaults[{each!r}]" if each in defaults else each for each in arguments]
    body = [f"_set(self, {name!r}, {name})" for name in by_place + by_name]
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    text = f"def __init__({', '.join(shown)}):\n  " + "\n  ".join(body or ["pass"])
    names: dict[str, Any] = {"_set": object.__setattr__, "_defaults": defaults}
    exec(text, names)  # noqa: S102 - as the standard library does  # nosec B102
    initialiser = names["__init__"]
    initialiser.__qualname__ = f"{cls.__qualname__}.__init__"
    return initialiser


def _refuse(self: object, name: str, value: object = None) -> None:
    del value
    raise FrozenInstanceError(f"{type(self).__name__}.{name} cannot be changed: values are frozen")


def _equal(self: Any, other: Any) -> Any:  # noqa: ANN401
    if type(self) is not type(other):
        return NotImplemented
    return self._content(self) == self._content(other)


def _hash(self: Any) -> int:  # noqa: ANN401
    return hash(self._content(self))


def _representation(self: Any) -> str:  # noqa: ANN401
    told = ", ".join(f"{each.name}={getattr(self, each.name)!r}" for each in fields(self))
    return f"{type(self).__qualname__}({told})"


def _state(self: Any) -> dict[str, Any]:  # noqa: ANN401
    return {each.name: getattr(self, each.name) for each in fields(self)}


def _restore(self: object, state: dict[str, Any]) -> None:
    for name, content in state.items():
        object.__setattr__(self, name, content)


_METHODS: Final = {
    "__repr__": _representation,
    "__setattr__": _refuse,
    "__delattr__": _refuse,
    "__getstate__": _state,
    "__setstate__": _restore,
}
_EQUALITY: Final = {"__eq__": _equal, "__hash__": _hash}
