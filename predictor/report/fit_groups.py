"""Coefficients of families whose kinds of calls are fitted apart: a line each, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from predictor.case import load_gpu
from predictor.costs.design import chip_of
from predictor.costs.families import FAMILIES
from predictor.costs.ladder import option_names
from predictor.operators import OPERATORS, Operator, field_names
from predictor.report.table import columns

if TYPE_CHECKING:
    from collections.abc import Callable

OTHERS: Final = "any other (medians)"
ABSENT: Final = "-"


def group_lines(
    key: str, sku: str, fit: dict[str, Any], share: Callable[[str, float, float], str]
) -> list[str]:
    """Return a table with a line for each kind of call, and one for any other.

    Args:
        key: Family and cache state (``memory_bound/cold``).
        sku: Of the fit.
        fit: One entry of fit.json with its measured rows.
        share: What a coefficient (name, value, error) is of the datasheet's rate, or nothing.
    """
    surface = fit["surface"]
    names = surface["regressors"]
    kinds = _kinds(key, sku, fit["measured"])
    groups = [*(kinds.get(group, str(group)) for group in surface["groups"]), OTHERS]
    body = []
    for kind, values, errors in zip(
        groups, surface["coefficients"], fit["standard_errors"], strict=True
    ):
        cells = [_cell(*pair) for pair in zip(values, errors, strict=True)]
        told = (share(*each) for each in zip(names, values, errors, strict=True))
        body.append([kind, *cells, next(filter(None, told), "")])
    head = ["coefficients of", *names, "share of the datasheet's rate"]
    lines = [head, *sorted(body[:-1]), body[-1]]
    used = [any(line[at] != ABSENT for line in lines[1:]) for at in range(len(lines[0]))]
    kept = [[cell for cell, use in zip(line, used, strict=True) if use] for line in lines]
    return columns(kept, right=tuple(range(1, len(kept[0]) - 1)))


def _cell(value: float, error: float) -> str:
    """A coefficient with its standard error; medians of several have none."""
    if value == 0.0:
        return ABSENT
    return f"{value:.2f} ± {error:.2f}" if error else f"{value:.2f}"


def _kinds(key: str, sku: str, measured: list[dict[str, Any]]) -> dict[int, str]:
    """Names of the groups of measured rows: the options that set each apart."""
    family, _, cache = key.partition("/")
    fields = field_names(family)
    rows = [{name: row[name] for name in fields if name in row} for row in measured]
    operators = [OPERATORS[family](**row) for row in rows]
    members: dict[int, list[Operator]] = {}
    design = FAMILIES[family].design(operators, chip_of(load_gpu(sku)), cache)
    for group, operator in zip(design.group.tolist(), operators, strict=True):
        members.setdefault(group, []).append(operator)
    varied = [
        name for name in option_names(family) if len({getattr(op, name) for op in operators}) > 1
    ]
    return {group: _alike(chosen, varied) for group, chosen in members.items()}


def _alike(operators: list[Operator], names: list[str]) -> str:
    """Options that all of them share."""
    shared: list[str] = []
    for name in names:
        values = {getattr(operator, name) for operator in operators}
        if len(values) == 1:
            (value,) = values
            shared.append(value if isinstance(value, str) else f"{name}={value}")
    return " ".join(shared) or "all"
