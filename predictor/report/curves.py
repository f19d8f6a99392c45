"""Measured points of an operator beside its fitted curve, along the size that grows in training.

A line is an operator whose fields are all fixed but one (``RUNNING``). Its points are what the
tables hold on that line; its curve is what the cost function answers between and beyond them, with
the 90 % interval. Both come as achieved rates, because times of a line span decades.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from predictor.costs.families import FAMILIES
from predictor.costs.ladder import measured_operators, measured_point, size_names
from predictor.errors import PredictorError, nearest
from predictor.operators import OPERATORS, Collective, Operator, field_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from predictor.costs import Costs, Prediction
    from predictor.costs.prediction import Floats

    Predict = Callable[[Sequence[Operator]], Prediction]
    Line = tuple[tuple[str, Any], ...]

RUNNING: Final = {name: size_names(name)[0] for name in FAMILIES} | {"attention": "seq_length"}
STEP: Final = {"m": 64, "tokens": 64, "seq_length": 128, "elements": 1024, "bytes": 1024}
"""Curves are drawn at multiples of these (others: ``LEAST_STEP``); ragged sizes are other lines."""

LEAST_STEP: Final = 8

DRAWN: Final = 60
BEYOND: Final = 4.0
"""A curve goes on this far beyond what was measured or asked."""

LEAST_POINTS: Final = 2
ALIKE: Final = ("kind", "kernel", "causal", "direction")
"""Fields in which a line must agree to stand for another; what computes, in its format too."""

TERA, GIGA = 1e12, 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Rates at some sizes: best guess, and the slow and the fast end of what was seen or is likely.

    Attributes:
        size: Values of the running field.
        rate: TFLOP/s or GB/s, as the curve's unit says.
        low: Slow end.
        high: Fast end.
    """

    size: Floats
    rate: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One line of an operator on one GPU.

    Attributes:
        label: What sets it apart from others of a chart; the SKU.
        title: Operator and fixed fields, in words.
        axis: The running field.
        unit: ``TFLOP/s`` or ``GB/s``.
        points: Measured; the ends are the slowest and the fastest round.
        fit: Fitted, with its 90 % interval.
    """

    label: str
    title: str
    axis: str
    unit: str
    points: Span
    fit: Span


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


def curve(
    costs: Costs, operator: Operator, points: Sequence[Operator], predict: Predict | None = None
) -> Curve:
    """The line through an operator.

    Args:
        costs: Cost functions of the GPU.
        operator: Any operator of the line.
        points: Those that were measured on it.
        predict: Answers for the curve, if not ``costs.predict``.
    """
    running = RUNNING[operator.name]
    sizes = [getattr(each, running) for each in (*points, operator)]
    drawn = _sizes(min(sizes) / BEYOND, max(sizes) * BEYOND, STEP.get(running, LEAST_STEP))
    fields = dict(line_of(operator))
    made: Callable[..., Operator] = OPERATORS[operator.name]
    asked = [made(**fields, **{running: size}) for size in drawn]
    answer = (predict or costs.predict)(asked)
    known = [_measured(costs, each) for each in points]
    fit = np.array([answer.seconds, answer.low, answer.high])
    seen = np.array(known, dtype=float).reshape(-1, 3).T
    return Curve(
        label=costs.gpu.sku,
        title=_title(operator),
        axis=running,
        unit="TFLOP/s" if operator.flops else "GB/s",
        points=_span(points, running, seen),
        fit=_span(asked, running, fit),
    )


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


def _sizes(least: float, most: float, step: int) -> list[int]:
    grid = np.geomspace(max(least, step), max(most, 2 * step), DRAWN)
    return sorted({step * max(1, round(float(size) / step)) for size in grid})


def _measured(costs: Costs, operator: Operator) -> tuple[float, float, float]:
    tables = (costs.measured.get(f"{operator.name}/{cache}", {}) for cache in ("cold", "warm"))
    points = (measured_point(table, operator) for table in tables)
    return next(point for point in points if point is not None)


def _span(operators: Sequence[Operator], running: str, seconds: Floats) -> Span:
    work = np.array([_work(each) for each in operators])
    size = np.array([getattr(each, running) for each in operators], dtype=float)
    middle, low, high = (work / each for each in seconds)
    return Span(size=size, rate=middle, low=high, high=low)


def _work(operator: Operator) -> float:
    """Of one call, in the unit of a curve's rates."""
    if isinstance(operator, Collective):
        return operator.bus_bytes / GIGA
    return operator.flops / TERA if operator.flops else operator.bytes / GIGA


def _title(operator: Operator) -> str:
    """The operator and what sets the line apart from others: fields that are not at their default.

    Collectives are told by their ranks alone.
    """
    running = RUNNING[operator.name]
    told = []
    for name, spec in operator.__dataclass_fields__.items():
        value = getattr(operator, name)
        if name == running or (value == spec.default and name not in {"dtype", "kind"}):
            continue
        told.append(str(value) if isinstance(value, str) else f"{name}={value}")
    return f"{operator.name} {', '.join(told)}"


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
    chosen: list[Line] = []
    for line in ranked:  # one of each kind first
        kind = dict(line).get("kind", dict(line).get("kernel"))
        if all(dict(other).get("kind", dict(other).get("kernel")) != kind for other in chosen):
            chosen.append(line)
    chosen += [line for line in ranked if line not in chosen]
    return chosen[:count]


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
