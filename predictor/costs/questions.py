"""Questions about single operators, one JSON object a line (``predictor operators --jsonl``)."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from math import exp
from typing import Any

import numpy as np

from predictor.costs.loading import load_costs
from predictor.costs.model import Costs
from predictor.costs.power import TENSOR_FAMILIES
from predictor.costs.prediction import Origin, PredictionRow
from predictor.costs.question import Question, asked
from predictor.errors import FitError, PredictorError, nearest
from predictor.operators import Collective, Host, Interference, Memcpy, Operator

HOST_HALF_WIDTH = 0.54
"""Of the logarithm of host seconds: nine of ten of 87 host costs differ by no more between two
machines of one SKU (two machines each with H100 and H200, ``host.csv``)."""


def answer(
    lines: Iterable[str], *, sku: str, strict: bool = False, at_once: int = 1
) -> Iterator[dict[str, Any]]:
    """Answer each non-empty line in order.

    Args:
        lines: Questions.
        sku: Of which GPU.
        strict: Refuse to extrapolate.
        at_once: Lines that are read before the first of them is answered, to price them together.

    Yields:
        ``{seconds, low, high, origin}``, or ``{error}`` where the question is not legal or, with
        ``strict``, where the answer would be extrapolated.

    Raises:
        UnknownName: No such SKU.
    """
    costs = load_costs(sku)
    for some in _batches(lines, at_once):
        yield from _replies(costs, some, strict=strict)


def _replies(costs: Costs, lines: Sequence[str], *, strict: bool) -> list[dict[str, Any]]:
    """Answers to lines in order; questions of one family are priced together."""
    replies: list[dict[str, Any]] = [{}] * len(lines)
    alike: dict[tuple[str, str], list[tuple[int, Question]]] = {}
    for place, question in enumerate(map(asked, lines)):
        if isinstance(question, str):
            replies[place] = {"error": question}
        else:
            family = question.operator.name, question.cache
            alike.setdefault(family, []).append((place, question))
    for (_, state), chosen in alike.items():
        rows = _rows(costs, [question.operator for _, question in chosen], state)
        for (place, question), row in zip(chosen, rows, strict=True):
            replies[place] = _reply(costs, question, row, strict=strict)
    return replies


def _batches(lines: Iterable[str], size: int) -> Iterator[list[str]]:
    full = (line for line in lines if line.strip())
    while some := list(islice(full, size)):
        yield some


def _rows(costs: Costs, operators: Sequence[Operator], cache: str) -> Sequence[PredictionRow | str]:
    """Seconds, low, high and origin of operators of one family, or what is wrong with each."""
    try:
        if isinstance(operators[0], Host):
            return [_host(costs, each) for each in operators if isinstance(each, Host)]
        return costs.predict(operators, cache=cache).rows()
    except (PredictorError, ValueError) as error:
        if len(operators) == 1:
            return [str(error)]
        return [row for each in operators for row in _rows(costs, [each], cache)]


def _host(costs: Costs, activity: Host) -> PredictionRow:
    """Host seconds where they were measured; machines of one SKU differ."""
    if activity not in costs.host:
        known = sorted({f"{each.stack}/{each.phase}/{each.quantity}" for each in costs.host})
        asked = f"{activity.stack}/{activity.phase}/{activity.quantity}"
        raise FitError(f"host: {asked} was not measured{nearest(asked, known)}")
    seconds = costs.host[activity]
    origin = Origin.DATASHEET if costs.borrowed else Origin.MEASURED
    return seconds, seconds * exp(-HOST_HALF_WIDTH), seconds * exp(HOST_HALF_WIDTH), origin


def _reply(
    costs: Costs, question: Question, row: PredictionRow | str, *, strict: bool
) -> dict[str, Any]:
    if isinstance(row, str):
        return {"error": row}
    seconds, low, high, place = row
    origin, factor = Origin(int(place)), 1.0
    if question.regime == "sustained" and not isinstance(question.operator, Host):
        factor = _sustained(costs, question.operator, seconds)
        origin = max(origin, Origin.FITTED)
    if strict and origin >= Origin.EXTRAPOLATED:
        return {"error": f"the answer would be {origin.label}; --strict refuses that"}
    return {
        "seconds": seconds * factor,
        "low": low * factor,
        "high": high * factor,
        "origin": origin.label,
    }


def _sustained(costs: Costs, operator: Operator, seconds: float) -> float:
    """Seconds under steady load over those of a burst."""
    clock = costs.heat.settled_clock_hz({operator.name: 1.0})
    if isinstance(operator, Collective | Memcpy | Interference):
        return 1.0
    if operator.name in TENSOR_FAMILIES:
        return costs.heat.tensor_factor(clock)
    share = operator.bytes / costs.gpu.memory_bytes_per_second / seconds
    return float(costs.heat.stream_factor(np.array(share), clock))
