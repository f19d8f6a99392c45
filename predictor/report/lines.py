"""Lines of an operator: measured points that differ in one field, and which line to draw.

A line is an operator whose fields are all fixed but one (``RUNNING``), the size that grows in
training.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from predictor.costs.families import FAMILIES
from predictor.costs.ladder import measured_operators, size_names
from predictor.errors import PredictorError, nearest
from predictor.operators import Collective, Operator, field_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from predictor.costs import Costs

    Line = tuple[tuple[str, Any], ...]

RUNNING: Final = {name: size_names(name)[0] for name in FAMILIES} | {"attention": "seq_length"}
LEAST_POINTS: Final = 2
ALIKE: Final = ("kind", "kernel", "causal", "direction")
"""Fields in which a line must agree to stand for another; what computes, in its format too."""


def line_of(operator: Operator) -> Line:
    """Every field of an operator but the running one."""
    running = RUNNING[operator.name]
    names = field_names(operator.name)
    return tuple((name, getattr(operator, name)) for name in names if name != running)


def lines_of(costs: Costs, name: str) -> dict[Line, list[Operator]]:
    """What the tables of a SKU hold of an operator, by line; sizes rise."""
    running = RUNNING[name]
    found: dict[Line, dict[int, Operator]] = defaultdict(dict)
    for cache in () if costs.borrowed else ("cold", "warm"):
        for operator in measured_operators(name, costs.measured.get(f"{name}/{cache}", {})):
            found[line_of(operator)].setdefault(getattr(operator, running), operator)
    return {line: [by_size[size] for size in sorted(by_size)] for line, by_size in found.items()}


def nearest_line(costs: Costs, operator: Operator) -> list[Operator]:
    """Points of the measured line that is nearest to an operator's own; none where none is alike.

    Lines of one kind (forward, backward ...) are compared by the ratios of their sizes; a flag or
    word that differs counts as a factor of two.
    """
    own = dict(line_of(operator))
    alike = ALIKE if isinstance(operator, Collective) else (*ALIKE, "dtype")
    found = [
        (_distance(own, dict(line), alike), -len(points), points)
        for line, points in lines_of(costs, operator.name).items()
        if len(points) >= LEAST_POINTS
    ]
    near = [each for each in found if math.isfinite(each[0])]
    return min(near, key=lambda each: each[:2])[2] if near else []


def _distance(one: Mapping[str, Any], other: Mapping[str, Any], alike: Iterable[str]) -> float:
    total = 0.0
    for name, value in one.items():
        if name in alike and value != other[name]:
            return math.inf
        if isinstance(value, int) and not isinstance(value, bool):
            total += abs(math.log2((value + 1) / (other[name] + 1)))
        else:
            total += float(value != other[name])
    return total


def common_lines(
    tables: Mapping[str, dict[Line, list[Operator]]],
    count: int,
    where: Mapping[str, str] | None = None,
) -> list[Line]:
    """The lines with the most points over several GPUs, of different kinds where there are some.

    Args:
        tables: By SKU, what :func:`lines_of` found.
        count: How many lines at most.
        where: Values that fixed fields must have, as text.

    Raises:
        PredictorError: No line is like that.
    """
    points: dict[Line, int] = defaultdict(int)
    for lines in tables.values():
        for line, operators in lines.items():
            points[line] += len(operators)
    _check(points, where or {})
    wanted = [line for line in points if _fits(line, where or {})]
    if not wanted:
        told = ", ".join(f"{key}={value}" for key, value in (where or {}).items())
        gpus = ", ".join(tables)
        raise PredictorError(f"no measured line of {gpus} has {told}; leave some of it out")
    ranked = sorted(wanted, key=lambda line: -points[line])
    first_of_kind: dict[object, Line] = {}
    for line in ranked:
        first_of_kind.setdefault(_kind(line), line)
    firsts = list(first_of_kind.values())
    return [*firsts, *(line for line in ranked if line not in firsts)][:count]


def _kind(line: Line) -> object:
    fields = dict(line)
    return fields.get("kind", fields.get("kernel"))


def _fits(line: Line, where: Mapping[str, str]) -> bool:
    fields = dict(line)
    return all(str(fields[key]).lower() == value.lower() for key, value in where.items())


def _check(points: Mapping[Line, int], where: Mapping[str, str]) -> None:
    names = {name for line in points for name, _ in line}
    for key, value in where.items():
        if key not in names:
            known = ", ".join(sorted(names))
            raise PredictorError(
                f"--where {key}={value}: no field of a line{nearest(key, names)}; there are {known}"
            )
        values = {str(dict(line)[key]) for line in points}
        if value.lower() not in {each.lower() for each in values}:
            told = ", ".join(sorted(values, key=_by_number)[:12])
            raise PredictorError(f"--where {key}={value}: was not measured; there are {told}")


def _by_number(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return 0.0, text
