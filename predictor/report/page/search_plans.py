"""Plans of a search's result: their fields, which of them differ, and a plan in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

Plan = dict[str, Any]
"""A plan as ``predictor search --json`` prints it: its case and its estimate."""

SECTIONS: Final = ("training", "plan", "cluster")
"""Sections of a case whose fields tell plans apart."""


def fields_of(plan: Plan) -> dict[str, Any]:
    """Fields of a plan's case: ``tensor_parallel`` and the like."""
    case = plan["case"]
    fields = {key: value for section in SECTIONS for key, value in case.get(section, {}).items()}
    return {**fields, "implementation": case.get("implementation")}


def varied_fields(plans: Sequence[Plan]) -> tuple[str, ...]:
    """Fields in which plans differ, in the order of the case."""
    all_fields = [fields_of(plan) for plan in plans]
    names = dict.fromkeys(name for fields in all_fields for name in fields)
    return tuple(
        name for name in names if len({str(fields.get(name)) for fields in all_fields}) > 1
    )


def plan_text(plan: Plan, varied: Sequence[str]) -> str:
    """Return the fields in which plans differ, as this one has them."""
    fields = fields_of(plan)
    return ", ".join(
        f"{name.replace('_', ' ')} {value_text(fields[name])}"
        for name in varied
        if fields.get(name) not in (None, False)
    )


def value_text(value: object) -> str:
    """Return a field's value in words; nothing where it is absent."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)
