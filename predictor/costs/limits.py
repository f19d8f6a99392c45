"""Where numbers of a file may lie, so that no formula that they stand in can leave the numbers.

Files of fitted numbers may be damaged by hand, by a disk or by another version. A number that is
far from anything a GPU could do is refused where it is read: what is evaluated needs no checks.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from predictor.costs.prediction import Floats, Ints

Limits = tuple[float, float]
"""Least and most."""

FACTOR: Final[Limits] = (-1000.0, 1000.0)
"""Coefficients of regressors and kriging weights: factors of some tens, either way, and more where
regressors of a kernel that is far from its bound cancel."""

POSITIVE_FACTOR: Final[Limits] = (0.0, 1e3)
SCALE: Final[Limits] = (1e-3, 1e3)
"""What a promised rate's time is multiplied by."""

LOGARITHM: Final[Limits] = (-0.9, 20.0)
"""What is added to a logarithm or to one: a few of them overflow no exponential, and what remains
of one is positive."""

SHARE: Final[Limits] = (0.0, 1.0)
COORDINATE: Final[Limits] = (-1e15, 1e15)
LENGTH: Final[Limits] = (1e-3, 1e15)
HALF_WIDTH: Final[Limits] = (0.0, 5.0)
"""Of an interval of logarithms: a hundredfold either way says nothing."""

DEVIATION: Final[Limits] = (0.0, 0.9)
"""Of a time from device to device, as a share of it."""

HOST_SECONDS: Final[Limits] = (0.0, 1e3)
WATTS: Final[Limits] = (0.0, 1e5)
CLOCK_HZ: Final[Limits] = (1e6, 1e12)
EXPONENT: Final[Limits] = (0.5, 10.0)
SLOWDOWN: Final[Limits] = (1.0, 100.0)


def within(name: str, values: Any, least: Any, most: Any) -> Floats:  # noqa: ANN401
    """Numbers of a file that lie where they may.

    Args:
        name: Of the numbers, for the message.
        values: A number, or lists of numbers of any depth.
        least: The least that each may be; one number, or one for each of the last axis.
        most: The most.

    Raises:
        ValueError: One of them lies outside, or is no number.
    """
    numbers = np.array(values, dtype=float)
    wrong = ~((numbers >= least) & (numbers <= most))
    if wrong.any():
        place = np.unravel_index(int(np.argmax(wrong)), numbers.shape)
        low, high = (np.broadcast_to(each, numbers.shape)[place] for each in (least, most))
        raise ValueError(f"{name}: {numbers[place]:g} lies outside of {low:g} to {high:g}")
    return numbers


def one_within(name: str, value: Any, limits: Limits) -> float:  # noqa: ANN401
    """One number that lies where it may.

    Raises:
        ValueError: It lies outside, or is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name}: {value!r:.40} is no number")  # noqa: TRY004 - as any other damage
    low, high = limits
    if not low <= value <= high:
        raise ValueError(f"{name}: {value!r:.40} lies outside of {low:g} to {high:g}")
    return value


def each_within(name: str, raw: Mapping[str, Any], limits: Mapping[str, Limits]) -> None:
    """Check named numbers; others are not looked at.

    Raises:
        ValueError: One of them is not there, lies outside or is no number.
    """
    for key, bounds in limits.items():
        if key not in raw:
            raise ValueError(f"{name}.{key} is missing")
        one_within(f"{name}.{key}", raw[key], bounds)


def rising(name: str, values: Any) -> Ints:  # noqa: ANN401
    """Whole numbers in order, none twice.

    Raises:
        ValueError: They are not.
    """
    numbers = np.array(values if len(values) else [], dtype=np.int64)
    if numbers.ndim != 1 or numbers.tolist() != list(values) or (np.diff(numbers) <= 0).any():
        raise ValueError(f"{name}: must be whole numbers in order, none twice")
    return numbers
