"""Frozen values, made fast.

``@frozen`` makes what ``@dataclass(frozen=True, slots=True)`` makes, with the same fields, so that
``dataclasses.fields``, ``replace`` and ``asdict`` work on it. The standard decorator compiles six
functions for every class; for the eighty classes that an estimate imports that took 170 ms, a third
of the whole command (Python 3.12). Here ``__init__`` alone is compiled; equality, hash and
representation are written once and read the fields of their class.
"""

from dataclasses import MISSING, FrozenInstanceError, dataclass, field, fields
from operator import attrgetter
from typing import Any, Final, dataclass_transform


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
    """An ``__init__`` that puts the compiled one in its place; many classes make no value."""

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401, N807
        cls.__init__ = _initialiser(cls)
        cls.__init__(self, *args, **kwargs)

    return __init__


def _initialiser(cls: Any) -> Any:  # noqa: ANN401
    """Compile the ``__init__`` of a class from its fields."""
    given = [each for each in fields(cls) if each.init]
    defaults = {each.name: each.default for each in given if each.default is not MISSING}
    arguments = ["self"]
    for each in sorted(given, key=lambda each: bool(each.kw_only)):
        if each.kw_only and "*" not in arguments:
            arguments.append("*")
        default = f"=_defaults[{each.name!r}]" if each.name in defaults else ""
        arguments.append(f"{each.name}{default}")
    body = [f"_set(self, {each.name!r}, {each.name})" for each in given]
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    text = f"def __init__({', '.join(arguments)}):\n  " + "\n  ".join(body or ["pass"])
    names: dict[str, Any] = {"_set": object.__setattr__, "_defaults": defaults}
    exec(text, names)  # noqa: S102 - as the standard library does  # nosec B102
    initialiser = names["__init__"]
    initialiser.__qualname__ = f"{cls.__qualname__}.__init__"
    return initialiser


def _refuse(self: object, name: str, value: object = None) -> None:
    del value
    msg = f"{type(self).__name__}.{name} cannot be changed: values are frozen"
    raise FrozenInstanceError(msg)


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
