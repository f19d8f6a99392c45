"""The sections of a case, and where each field lies.

A section is a frozen dataclass whose fields know their kind, their range and one sentence
(:mod:`predictor.case.section`). A field that has a default is ``None`` until
:func:`predictor.case.resolve` fills it; :mod:`predictor.case.defaults` says with what. Ranges admit
any machine that could exist and catch slips of the pen.

Plain dataclasses and a reader of two pages do here what a validation library would: importing one
takes longer than a whole estimate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from predictor.case.cluster_schema import Cluster
from predictor.case.model_schema import Mla, Model, Moe
from predictor.case.plan_schema import Plan
from predictor.case.section import Section, kinds
from predictor.case.training_schema import Training

if TYPE_CHECKING:
    from collections.abc import Sequence

SECTIONS: dict[str, type[Section]] = {
    "model": Model,
    "training": Training,
    "plan": Plan,
    "cluster": Cluster,
}
_ALL: tuple[type[Section], ...] = (*SECTIONS.values(), Moe, Mla)
_PATHS: dict[str, tuple[str, ...]] = {}


def field_paths() -> dict[str, tuple[str, ...]]:
    """Return where each field of a case lies, by its own name; no name is used twice."""
    if not _PATHS:
        for section in _ALL:
            path = tuple(section.path.split("."))
            _PATHS.update({name: (*path, name) for name in kinds(section) if name != "notes"})
        _PATHS["implementation"] = ("implementation",)
    return dict(_PATHS)


def section_at(path: Sequence[str]) -> type[Section] | None:
    """Return the section at a path, as ``("model", "moe")``."""
    sections = {each.path: each for each in _ALL}
    return sections.get(".".join(path))
