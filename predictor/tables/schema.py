"""The columns of a measured table and the value of one row.

A table of operator ``X`` has the fields of the dataclass ``X`` as its leading columns, then
:data:`MEASUREMENT_COLUMNS`. A field with a default may lack its column: tables outlive the day when
a field is added. Times are seconds per launch: ``seconds`` is the median over rounds,
``seconds_low`` and ``seconds_high`` the lowest and the highest round.
"""

from collections.abc import Callable
from dataclasses import MISSING
from functools import cache
from typing import Final, Literal, get_args, get_type_hints

from predictor.operators import OPERATORS, Operator, column_fields, field_names
from predictor.values import frozen

Value = int | float | str | bool
Status = Literal["ok", "oom", "timeout", "crash", "unsupported", "throttled"]
Regime = Literal["burst", "sustained"]
Cache = Literal["cold", "warm"]

STATUSES: Final[tuple[str, ...]] = get_args(Status)
TIMED_STATUSES: Final = frozenset({"ok", "throttled"})
REGIMES: Final[tuple[str, ...]] = get_args(Regime)
CACHES: Final[tuple[str, ...]] = get_args(Cache)

MEASUREMENT_COLUMNS: Final = (
    "seconds",
    "seconds_low",
    "seconds_high",
    "rounds",
    "samples",
    "regime",
    "cache",
    "sm_clock_hz",
    "watts",
    "energy_joules",
    "status",
    "run",
)


@frozen(kw_only=True)
class Row:
    """One measured point in one run.

    Attributes:
        operator: What was measured; its fields lead the row.
        seconds: Median over rounds of seconds per launch; None unless the status is a timed one.
        seconds_low: Lowest round.
        seconds_high: Highest round.
        rounds: Rounds that were summarised.
        samples: Samples in all rounds together.
        regime: ``burst`` (short rounds with idle between) or ``sustained`` (power-steady).
        cache: ``cold`` (rotating buffer sets) or ``warm`` (the same buffers).
        sm_clock_hz: Mean SM clock while the rounds ran; None without telemetry.
        watts: Mean power while the rounds ran.
        energy_joules: Energy of one launch.
        status: ``ok``, ``throttled`` (timed, but the hardware slowed itself down) or what went
            wrong.
        run: Key of the run's provenance in runs.toml.
    """

    operator: Operator
    seconds: float | None = None
    seconds_low: float | None = None
    seconds_high: float | None = None
    rounds: int = 0
    samples: int = 0
    regime: Regime = "burst"
    cache: Cache = "cold"
    sm_clock_hz: float | None = None
    watts: float | None = None
    energy_joules: float | None = None
    status: Status = "ok"
    run: str

    @property
    def key(self) -> tuple[Operator, str, str, str]:
        """What may occur only once among the ``ok`` rows of a table."""
        return self.operator, self.regime, self.cache, self.run


def columns(operator: str) -> tuple[str, ...]:
    """All columns of an operator's table, in file order."""
    return field_names(operator) + MEASUREMENT_COLUMNS


def defaulted_fields(operator: str) -> frozenset[str]:
    """Fields that have a default: a table from before such a field was added lacks its column."""
    return frozenset(f.name for f in column_fields(OPERATORS[operator]) if f.default is not MISSING)


def _boolean(text: str) -> bool:
    if text not in {"True", "False"}:
        raise ValueError("must be True or False")
    return text == "True"


def _chosen(choices: tuple[str, ...]) -> Callable[[str], str]:
    def choose(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text

    return choose


def whole_number(text: str) -> int:
    """Read a whole number; a ValueError says the rule."""
    try:
        return int(text)
    except ValueError as error:
        raise ValueError("must be a whole number") from error


def _word(text: str) -> str:
    if not text:
        raise ValueError("must not be empty")
    return text


@cache
def field_parsers(operator: str) -> dict[str, Callable[[str], Value]]:
    """For each field of an operator, the function that reads it from a cell of the table.

    The functions raise ValueError with the rule that the cell breaks.
    """
    plain: dict[object, Callable[[str], Value]] = {int: whole_number, bool: _boolean, float: float}
    hints = get_type_hints(OPERATORS[operator])
    return {
        name: _chosen(get_args(hints[name]))
        if get_args(hints[name])
        else plain.get(hints[name], _word)
        for name in field_names(operator)
    }
