"""Measured points of a line beside its fitted curve, as achieved rates.

The curve is what the cost function answers between the points and beyond them, with the 90 %
interval. Rates are drawn, not times, because the times of a line span decades.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from predictor.costs.ladder import measured_point
from predictor.operators import OPERATORS, Collective, Operator
from predictor.report.lines import RUNNING, line_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from predictor.costs import Costs, Prediction
    from predictor.costs.prediction import Floats

    Predict = Callable[[Sequence[Operator]], Prediction]

STEP: Final = {"m": 64, "tokens": 64, "seq_length": 128, "elements": 1024, "bytes": 1024}
"""Curves are drawn at multiples of these (others: ``LEAST_STEP``); ragged sizes are other lines."""

LEAST_STEP: Final = 8

DRAWN: Final = 60
BEYOND: Final = 4.0
"""A curve goes on this far beyond what was measured or asked."""

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
