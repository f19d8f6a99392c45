"""Questions about single operators, one JSON object a line (``predictor operators --jsonl``)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field
from functools import cache
from itertools import islice
from typing import Any, get_args, get_type_hints

import numpy as np

from predictor.costs.loading import load_costs
from predictor.costs.model import Costs
from predictor.costs.power import TENSOR_FAMILIES
from predictor.costs.prediction import Origin, PredictionRow
from predictor.errors import FitError, PredictorError, nearest
from predictor.files import parse_json
from predictor.operators import (
    KERNELS,
    OPERATORS,
    Collective,
    Host,
    Interference,
    Memcpy,
    Operator,
    column_fields,
)
from predictor.units import LARGEST_SIZE
from predictor.values import frozen

MAX_LINE = 100_000
REGIMES = ("burst", "sustained")
CACHES = ("cold", "warm")
_MAY_BE_ZERO = {"value_head_dim", "window", "query_length", "ctas", "source", "destination"}


@frozen
class Question:
    """What a line asks.

    Attributes:
        operator: Whose seconds.
        cache: ``cold`` or ``warm``.
        regime: ``burst`` or ``sustained``.
    """

    operator: Operator
    cache: str
    regime: str


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
    for place, question in enumerate(map(_asked, lines)):
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


def _asked(line: str) -> Question | str:
    """The question of a line, or what is wrong with it."""
    if len(line) > MAX_LINE:
        return f"a question is at most {MAX_LINE} characters"
    try:
        raw = parse_json("question", line, PredictorError)
        if not isinstance(raw, dict):
            return 'a question is an object: {"operator": "gemm", "m": 4096, ...}'
        regime = _choice(raw, "regime", REGIMES)
        cache = _choice(raw, "cache", CACHES)
        return Question(_operator(raw), cache, regime)
    except (PredictorError, ValueError) as error:
        return str(error)


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
    """Host seconds where they were measured; the span of other rounds is not kept."""
    if activity not in costs.host:
        known = sorted({f"{each.stack}/{each.phase}/{each.quantity}" for each in costs.host})
        asked = f"{activity.stack}/{activity.phase}/{activity.quantity}"
        raise FitError(f"host: {asked} was not measured{nearest(asked, known)}")
    seconds = costs.host[activity]
    origin = Origin.DATASHEET if costs.borrowed else Origin.MEASURED
    return seconds, seconds, seconds, origin


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


def _choice(raw: dict[str, Any], key: str, allowed: tuple[str, ...]) -> str:
    value = raw.pop(key, allowed[0])
    if value not in allowed:
        msg = f"{key} = {value!r}: must be {' or '.join(allowed)}"
        raise ValueError(msg)
    return str(value)


def _operator(raw: Mapping[str, Any]) -> Operator:
    name = raw.get("operator")
    if not isinstance(name, str) or name not in OPERATORS:
        known = list(OPERATORS)
        hint = nearest(str(name), known)
        msg = f"operator = {name!r}: does not exist{hint}; there are {', '.join(known)}"
        raise ValueError(msg)
    hints, known_fields = _fields(name)
    values: dict[str, Any] = {}
    for key in raw:
        if key != "operator" and key not in known_fields:
            hint = nearest(key, known_fields) or f"; there are {', '.join(known_fields)}"
            msg = f"{name}: unknown field {key!r}{hint}"
            raise ValueError(msg)
    for key, spec in known_fields.items():
        if key in raw:
            values[key] = _checked(name, key, raw[key], hints[key])
        elif spec.default is MISSING:
            msg = f"{name}: field {key!r} is missing"
            raise ValueError(msg)
        else:
            values[key] = spec.default
    if name == "memory_bound":
        _check_kernel(values["impl"], values["kernel"])
    return OPERATORS[name](**values)


@cache
def _fields(name: str) -> tuple[dict[str, Any], dict[str, Field[object]]]:
    """Types and fields of an operator by name, the same for every line."""
    kind = OPERATORS[name]
    return get_type_hints(kind), {each.name: each for each in column_fields(kind)}


def _check_kernel(impl: str, kernel: str) -> None:
    known = KERNELS[impl]
    if kernel not in known:
        msg = f"memory_bound.kernel = {kernel!r}: no {impl} kernel{nearest(kernel, known)}"
        raise ValueError(msg)


def _checked(name: str, key: str, value: Any, hint: Any) -> Any:  # noqa: ANN401
    if hint is bool:
        if not isinstance(value, bool):
            msg = f"{name}.{key} = {value!r}: must be true or false"
            raise ValueError(msg)
        return value
    if hint is int:
        least = 0 if key in _MAY_BE_ZERO else 1
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or not least <= value <= LARGEST_SIZE:
            msg = f"{name}.{key} = {value!r}: must be a whole number from {least} to {LARGEST_SIZE}"
            raise ValueError(msg)
        return value
    if hint is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0.0 <= value <= LARGEST_SIZE:
            msg = f"{name}.{key} = {value!r}: must be a number from 0 to {LARGEST_SIZE}"
            raise ValueError(msg)
        return float(value)
    allowed = get_args(hint) or _WORDS.get((name, key), ())
    if not isinstance(value, str) or (allowed and value not in allowed):
        rule = f"must be one of {', '.join(allowed)}" if allowed else "must be a word"
        msg = f"{name}.{key} = {value!r}: {rule}{nearest(str(value), allowed)}"
        raise ValueError(msg)
    return value


_WORDS = {
    ("gemm", "dtype"): ("bf16", "fp16", "tf32", "fp8", "fp8_block"),
    ("grouped_gemm", "dtype"): ("bf16", "fp16", "tf32", "fp8", "fp8_block"),
    ("gemm", "api"): ("cublas", "cublaslt"),
    ("gemm", "algorithm"): ("heuristic", "best"),
    ("attention", "dtype"): ("bf16", "fp16"),
    ("attention", "impl"): ("cudnn", "flash"),
    ("memory_bound", "dtype"): ("bf16",),
    ("memory_bound", "impl"): ("native", "torch", "inductor"),
    ("optimizer", "dtype"): ("bf16", "fp32"),
    ("optimizer", "impl"): ("native", "torch"),
    ("optimizer", "kernel"): ("adamw", "adamw_master", "adamw_foreach"),
}
