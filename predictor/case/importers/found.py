"""What another tool's file says: fields of a case with where each stands, and everything else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

Draft = Mapping[str, Any]
"""Fields of a case found so far, by dotted path."""


@dataclass(frozen=True, slots=True)
class Found:
    """A field of a case that a file tells.

    Attributes:
        value: As a case holds it.
        where: File, line and the file's own words.
        stated: Written there; False where the tool's own default stands in.
    """

    value: Any
    where: str
    stated: bool = True


@dataclass(frozen=True, slots=True)
class Derived:
    """A field that follows from others, maybe of other files.

    Attributes:
        path: Dotted path of the field.
        value: The field as a function of all that was found; None where it cannot be told.
        where: The rule in words.
    """

    path: str
    value: Callable[[Draft], Any]
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """All that one file says.

    Attributes:
        origin: Name of the file.
        form: Its format.
        fields: Fields of a case by dotted path.
        derived: Fields that follow once all files are read.
        open: Fields that the file leaves in a state which no case can hold, and why; a flag or
            another file must decide.
        free: Settings that were recognised and change neither time nor memory.
        unknown: Settings that are not understood or not modelled, each with its value.
    """

    origin: str
    form: str
    fields: Mapping[str, Found]
    derived: tuple[Derived, ...] = ()
    open: Mapping[str, str] = field(default_factory=dict)
    free: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def ranks_of(draft: Draft) -> int:
    """GPUs of a replica: the product of the degrees found so far."""
    degrees = ("plan.tensor_parallel", "plan.pipeline_parallel", "plan.context_parallel")
    return prod(draft.get(degree) or 1 for degree in degrees)
