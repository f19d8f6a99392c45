"""Why estimates of some records are off: which part of the model explains the errors.

One cause at a time is tried against the errors of all records:

    measured / predicted - 1 = δ · share

where the share is that of the part in the predicted time (one for a cause that slows everything
alike). δ follows by least squares, and a cause explains so much of the squared errors. Records tell
a cause only where their shares differ: two causes that explain nearly as much are not told apart,
and that is said.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from predictor.values import frozen

COMPUTE, MEMORY, COMMUNICATION, BUBBLE, HOST = (
    "compute",
    "memory-bound",
    "communication",
    "bubble",
    "host",
)
ALL_ALIKE: Final = "everything alike"
_CLASSES: Final = {
    "gemm": COMPUTE,
    "grouped_gemm": COMPUTE,
    "attention": COMPUTE,
    "communication": COMMUNICATION,
    "bubble": BUBBLE,
    "host": HOST,
}
LEAST_RECORDS: Final = 3
SMALL_ERROR: Final = 0.03
"""Typical error below which there is nothing to explain: published repeats differ by 1 to 5 %."""

LEAST_EXPLAINED: Final = 0.5
"""Share of the squared errors that a cause must explain to be named."""

CLEARLY: Final = 2.0
"""What the next best cause leaves unexplained, over what the best leaves, to be called clear."""

MOST_FACTOR: Final = 4.0
"""A part is not likely to take more than this, nor less than its inverse, of what is predicted."""

ROUNDING: Final = 1e-9
LEAST_SHARE: Final = 0.01
"""A part that is nowhere more than this of the time cannot be a cause."""


def shares_of(breakdown: Mapping[str, float]) -> dict[str, float]:
    """Shares of the predicted time by class: compute, memory-bound, communication, bubble, host."""
    whole = sum(breakdown.values())
    shares = dict.fromkeys((COMPUTE, MEMORY, COMMUNICATION, BUBBLE, HOST), 0.0)
    for name, seconds in breakdown.items():
        shares[_CLASSES.get(name, MEMORY)] += seconds / whole
    return shares


@frozen(kw_only=True)
class Diagnosis:
    """What the errors of some records say of the model.

    Attributes:
        records: How many were looked at.
        cause: The part that explains the errors; None where the records do not tell.
        words: The finding in a sentence.
        factors: For each cause, measured over predicted seconds if that part alone were wrong.
        explained: For each cause, share of the squared errors that it explains.
    """

    records: int
    cause: str | None
    words: str
    factors: Mapping[str, float]
    explained: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """As ``validate --json`` prints it."""
        return {
            "records": self.records,
            "cause": self.cause,
            "words": self.words,
            "factors": dict(self.factors),
            "explained": dict(self.explained),
        }


def diagnose(errors: Sequence[float], shares: Sequence[Mapping[str, float]]) -> Diagnosis:
    """Name the likely cause of errors.

    Args:
        errors: Measured over predicted, less one.
        shares: Of each record, as :func:`shares_of` gives them.
    """
    wrong = np.array(errors, dtype=float)
    count = len(wrong)
    if count == 0:
        return _untold(0, "no record has an estimate")
    typical = float(np.median(np.abs(wrong)))
    if typical < SMALL_ERROR:
        words = f"nothing to explain: the typical error is {100 * typical:.1f} %"
        return _untold(count, words)
    factors, explained = _fits(wrong, shares)
    if count < LEAST_RECORDS:
        words = f"{count} records are too few to tell parts of the model apart"
        return Diagnosis(
            records=count, cause=None, words=words, factors=factors, explained=explained
        )
    cause, words = _judged(factors, explained)
    return Diagnosis(records=count, cause=cause, words=words, factors=factors, explained=explained)


def _untold(count: int, words: str) -> Diagnosis:
    return Diagnosis(records=count, cause=None, words=words, factors={}, explained={})


def _fits(
    wrong: np.ndarray[Any, np.dtype[np.float64]], shares: Sequence[Mapping[str, float]]
) -> tuple[dict[str, float], dict[str, float]]:
    whole = float(wrong @ wrong)
    factors: dict[str, float] = {}
    explained: dict[str, float] = {}
    names = dict.fromkeys(name for each in shares for name in each)
    columns = {name: np.array([each.get(name, 0.0) for each in shares]) for name in names}
    columns[ALL_ALIKE] = np.ones(len(wrong))
    for name, column in columns.items():
        if float(column.max()) < LEAST_SHARE:
            continue
        delta = float(wrong @ column / (column @ column))
        left = wrong - delta * column
        factors[name] = 1.0 + delta
        explained[name] = 1.0 - float(left @ left) / whole
    return factors, explained


def _judged(factors: Mapping[str, float], explained: Mapping[str, float]) -> tuple[str | None, str]:
    """The cause and the sentence."""
    possible = {
        name: share
        for name, share in explained.items()
        if 1.0 / MOST_FACTOR <= factors[name] <= MOST_FACTOR
    }
    ranked = sorted(possible, key=lambda name: -possible[name])
    if not ranked or possible[ranked[0]] < LEAST_EXPLAINED:
        return None, "no single part explains the errors: several are off, or the runs differ"
    best = ranked[0]
    told = (
        f"{_named(best)} takes {factors[best]:.2f} times what is predicted, which explains "
        f"{100 * possible[best]:.0f} % of the squared errors"
    )
    left = CLEARLY * (1.0 - possible[best]) + ROUNDING
    alike = [name for name in ranked[1:] if 1.0 - possible[name] < left]
    if alike:
        others = ", ".join(f"{_named(name)} ({factors[name]:.2f} times)" for name in alike[:2])
        return (
            None,
            f"the records cannot tell: {told}, but {others} would do nearly as well",
        )
    return best, f"likely {best}: {told}"


def _named(cause: str) -> str:
    return "every part" if cause == ALL_ALIKE else cause
