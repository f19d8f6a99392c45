"""The rules that a row of a table must keep, each stated in the message of its breach."""

from collections.abc import Callable, Container, Iterable
from dataclasses import MISSING
from functools import cache
from math import isfinite
from typing import get_type_hints

from predictor.errors import TableError, nearest
from predictor.operators import OPERATORS, column_fields, field_names
from predictor.tables.schema import CACHES, REGIMES, STATUSES, TIMED_STATUSES, Row
from predictor.units import CALL_SECONDS, LARGEST_SIZE


def validate_rows(rows: Iterable[tuple[str, Row]], *, runs: Container[str] | None) -> None:
    """Check rows, each given with the place that a message should name.

    Args:
        rows: Pairs of a place (``gemm.csv:12``) and a row.
        runs: Keys of runs.toml; None skips the rule that a row's run is there.

    Raises:
        TableError: A row breaks a rule; the message names place, value and rule.
    """
    seen: dict[object, str] = {}
    for place, row in rows:
        fault = row_fault(row) or _run_fault(row, runs)
        if fault:
            raise TableError(f"{place}: {fault}")
        if row.status != "ok":
            continue
        first = seen.setdefault(row.key, place)
        if first != place:
            raise TableError(
                f"{place}: repeats {first}: no two 'ok' rows may share fields, regime, cache and "
                f"run ({row.operator}, {row.regime}, {row.cache}, {row.run}); remove one"
            )


def row_fault(row: Row) -> str:
    """Describe the first rule that a row breaks by itself; empty if it keeps all."""
    return next((fault for rule in _RULES if (fault := rule(row))), "")


def _vocabulary(row: Row) -> str:
    for name, value, known in (
        ("status", row.status, STATUSES),
        ("regime", row.regime, REGIMES),
        ("cache", row.cache, CACHES),
    ):
        if value not in known:
            return f"{name}={value!r} must be one of {', '.join(known)}{nearest(value, known)}"
    return ""


def _times(row: Row) -> str:
    times = (row.seconds_low, row.seconds, row.seconds_high)
    if row.status not in TIMED_STATUSES:
        if times != (None, None, None):
            return f"seconds={row.seconds} must be empty in a row of status {row.status!r}"
        return ""
    low, middle, high = times
    least, most = CALL_SECONDS
    if low is None or middle is None or high is None:
        return f"seconds, seconds_low and seconds_high are needed in a row of status {row.status!r}"
    for name, value in (("seconds", middle), ("seconds_low", low), ("seconds_high", high)):
        if not least <= value <= most:
            return f"{name}={value} must be {least:g} to {most:g} seconds"
    if not low <= middle <= high:
        return f"seconds_low={low} <= seconds={middle} <= seconds_high={high} must hold"
    return ""


def _counts(row: Row) -> str:
    least = 1 if row.status in TIMED_STATUSES else 0
    for name, value in (("rounds", row.rounds), ("samples", row.samples)):
        if value < least:
            return f"{name}={value} must be at least {least} in a row of status {row.status!r}"
    return ""


def _telemetry(row: Row) -> str:
    for name, value in (
        ("sm_clock_hz", row.sm_clock_hz),
        ("watts", row.watts),
        ("energy_joules", row.energy_joules),
    ):
        if value is not None and not (isfinite(value) and value > 0):
            return f"{name}={value} must be empty or a finite, positive number"
    return ""


@cache
def _least_sizes(operator: str) -> tuple[tuple[str, int], ...]:
    """Whole-number fields and the least of each: what has a default may be nothing."""
    hints = get_type_hints(OPERATORS[operator])
    return tuple(
        (field.name, 1 if field.default is MISSING else 0)
        for field in column_fields(OPERATORS[operator])
        if hints[field.name] is int
    )


def _sizes(row: Row) -> str:
    for name, least in _least_sizes(row.operator.name):
        value = getattr(row.operator, name)
        if not least <= value <= LARGEST_SIZE:
            return f"{name}={value} must be a whole number from {least} to {LARGEST_SIZE}"
    return ""


def _work(row: Row) -> str:
    try:
        work = row.operator.flops + row.operator.bytes
    except (KeyError, ValueError, OverflowError, ZeroDivisionError) as error:
        name = row.operator.name
        told = {field: getattr(row.operator, field) for field in field_names(name)}
        wrong = [f"{field}={value!r}" for field, value in told.items() if value in error.args]
        return f"{' or '.join(wrong) or row.operator} is not known to the operator {name!r}"
    if not isfinite(work) or work < 0:
        return f"{row.operator} does a negative or endless amount of work"
    return ""


def _run_fault(row: Row, runs: Container[str] | None) -> str:
    if not row.run:
        return "run must name a key of runs.toml, not be empty"
    if runs is not None and row.run not in runs:
        return f"run={row.run!r} is not a key of runs.toml; add its provenance there"
    return ""


_RULES: tuple[Callable[[Row], str], ...] = (
    _vocabulary,
    _times,
    _counts,
    _telemetry,
    _sizes,
    _work,
)
