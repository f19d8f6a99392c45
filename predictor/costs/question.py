"""One line of ``predictor operators --jsonl`` as a question, or what is wrong with it."""

from collections.abc import Mapping
from dataclasses import MISSING, Field
from functools import cache
from typing import Any, get_args, get_type_hints

from predictor.errors import PredictorError, nearest
from predictor.files import parse_json
from predictor.operators import KERNELS, OPERATORS, Operator, column_fields
from predictor.units import LARGEST_SIZE
from predictor.values import frozen

MAX_LINE = 100_000
REGIMES = ("burst", "sustained")
CACHES = ("cold", "warm")
_MAY_BE_ZERO = {"value_head_dim", "window", "query_length", "ctas", "source", "destination"}

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
"""Words that a field takes where its type is a plain string."""


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


def asked(line: str) -> Question | str:
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


def _choice(raw: dict[str, Any], key: str, allowed: tuple[str, ...]) -> str:
    value = raw.pop(key, allowed[0])
    if value not in allowed:
        raise ValueError(f"{key} = {value!r}: must be {' or '.join(allowed)}")
    return str(value)


def _operator(raw: Mapping[str, Any]) -> Operator:
    name = raw.get("operator")
    if not isinstance(name, str) or name not in OPERATORS:
        known = list(OPERATORS)
        hint = nearest(str(name), known)
        raise ValueError(f"operator = {name!r}: does not exist{hint}; there are {', '.join(known)}")
    hints, known_fields = _fields(name)
    values: dict[str, Any] = {}
    for key in raw:
        if key != "operator" and key not in known_fields:
            hint = nearest(key, known_fields) or f"; there are {', '.join(known_fields)}"
            raise ValueError(f"{name}: unknown field {key!r}{hint}")
    for key, spec in known_fields.items():
        if key in raw:
            values[key] = _checked(name, key, raw[key], hints[key])
        elif spec.default is MISSING:
            raise ValueError(f"{name}: field {key!r} is missing")
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
        raise ValueError(
            f"memory_bound.kernel = {kernel!r}: no {impl} kernel{nearest(kernel, known)}"
        )


def _checked(name: str, key: str, value: Any, hint: Any) -> Any:  # noqa: ANN401
    """A field's value of its type, whole numbers as rates too.

    Raises:
        ValueError: It is of another type, or out of range.
    """
    rule = _rule(name, key, value, hint)
    if rule:
        raise ValueError(f"{name}.{key} = {value!r}: {rule}")
    return float(value) if hint is float else value


def _rule(name: str, key: str, value: object, hint: Any) -> str:  # noqa: ANN401
    """The rule that a value breaks; nothing where it breaks none."""
    if hint is bool:
        return "" if isinstance(value, bool) else "must be true or false"
    if hint is int:
        least = 0 if key in _MAY_BE_ZERO else 1
        rule = f"must be a whole number from {least} to {LARGEST_SIZE}"
        return "" if _lies(value, int, least) else rule
    if hint is float:
        return "" if _lies(value, int | float, 0) else f"must be a number from 0 to {LARGEST_SIZE}"
    allowed = get_args(hint) or _WORDS.get((name, key), ())
    if isinstance(value, str) and (value in allowed or not allowed):
        return ""
    rule = f"must be one of {', '.join(allowed)}" if allowed else "must be a word"
    return rule + nearest(str(value), allowed)


def _lies(value: Any, kind: Any, least: int) -> bool:  # noqa: ANN401
    number = isinstance(value, kind) and not isinstance(value, bool)
    return number and bool(least <= value <= LARGEST_SIZE)
