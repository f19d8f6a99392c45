"""Amounts as people write them: ``15T`` tokens, ``30d``, ``2.5M`` dollars."""

from __future__ import annotations

import re
from math import isfinite
from typing import Final

from predictor.errors import CaseError
from predictor.units import HOUR_SECONDS

DAY_SECONDS: Final = 24 * HOUR_SECONDS
_COUNTS: Final = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
_SPANS: Final = {
    "s": 1.0,
    "min": 60.0,
    "m": 60.0,
    "h": HOUR_SECONDS,
    "d": DAY_SECONDS,
    "w": 7 * DAY_SECONDS,
}
MAX_TOKENS: Final = 1e18
MAX_SECONDS: Final = 1e4 * 365 * DAY_SECONDS
MAX_USD: Final = 1e15


def read_tokens(text: str, key: str = "tokens") -> int:
    """Read a count: ``15T``, ``300B``, ``1e12``.

    Raises:
        CaseError: It is no count of 1 to 1e18; the message begins with ``key``.
    """
    value = _amount(text, _COUNTS, key, "a count such as 15T, 300B or 1e12")
    return int(_bounded(value, text, key, least=1.0, most=MAX_TOKENS, unit="tokens"))


def read_duration(text: str, key: str = "deadline") -> float:
    """Read a duration in seconds: ``90s``, ``10min``, ``12h``, ``30d``, ``6w``.

    Raises:
        CaseError: It is no duration; the message begins with ``key``.
    """
    value = _amount(text, _SPANS, key, "a duration such as 90s, 10min, 12h, 30d or 6w")
    return _bounded(value, text, key, least=1e-3, most=MAX_SECONDS, unit="seconds")


def read_usd(text: str, key: str = "budget") -> float:
    """Read an amount of money: ``2.5M``, ``40000``.

    Raises:
        CaseError: It is no amount; the message begins with ``key``.
    """
    value = _amount(text, _COUNTS, key, "US dollars such as 40000 or 2.5M")
    return _bounded(value, text, key, least=0.01, most=MAX_USD, unit="US dollars")


def _amount(text: str, units: dict[str, float], key: str, rule: str) -> float:
    match = re.fullmatch(
        r"([0-9][0-9_,]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z]*)", text.strip()
    )
    unit = match[2].lower() if match else ""
    if match is None or unit not in units:
        raise CaseError(f"{key} = {text!r}: must be {rule}")
    return float(match[1].replace("_", "").replace(",", "")) * units[unit]


def _bounded(value: float, text: str, key: str, *, least: float, most: float, unit: str) -> float:
    if not isfinite(value) or not least <= value <= most:
        raise CaseError(f"{key} = {text!r}: must be between {least:g} and {most:g} {unit}")
    return value
