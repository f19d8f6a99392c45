"""Links of a cluster from a file: one line a pair, stated or measured.

A CSV file with a header. ``from`` and ``to`` number nodes or GPUs from 0; the rate is either in
``bytes_per_second``, or in ``bytes`` and ``seconds`` of a message between the two, of which the
fastest of a pair counts (a short message is mostly latency). A pair that stands in one direction
alone has the same rate in the other.
"""

from __future__ import annotations

import io
from math import inf, isfinite, nan
from typing import TYPE_CHECKING, Final

from predictor.case.limits import LEAST_RATE
from predictor.errors import CaseError, nearest
from predictor.files import MEBIBYTE, read_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_FILE_BYTES: Final = 8 * MEBIBYTE
_ENDS: Final = ("from", "to")
_COLUMNS: Final = (*_ENDS, "bytes_per_second", "bytes", "seconds")


def read_links(path: Path) -> list[list[float]]:
    """Read the rates of a file as overrides, ``[from, to, bytes_per_second]``.

    Raises:
        CaseError: The file is not there, too large, or a line is not legal; the line is named.
    """
    import csv  # noqa: PLC0415 - for these files alone

    if path.suffix != ".csv":
        raise CaseError(f"{path}: links are read from a .csv file")
    text = read_text(path, CaseError, MAX_FILE_BYTES)
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rates: dict[tuple[int, int], float] = {}
    try:
        _check_header(path, reader.fieldnames or ())
        for row in reader:
            ends, rate = _pair(f"{path}:{reader.line_num}", row)
            rates[ends] = max(rate, rates.get(ends, 0.0))
    except csv.Error as error:
        raise CaseError(f"{path}: is not CSV: {error}") from error
    if not rates:
        raise CaseError(f"{path}: holds no links")
    both = {(to, start): rate for (start, to), rate in rates.items()} | rates
    return [[start, to, rate] for (start, to), rate in sorted(both.items())]


def _check_header(path: Path, names: object) -> None:
    found = list(names) if isinstance(names, list | tuple) else []
    for name in found:
        if name not in _COLUMNS:
            raise CaseError(f"{path}: unknown column {name!r}{nearest(str(name), _COLUMNS)}")
    stated, measured = "bytes_per_second" in found, {"bytes", "seconds"} <= set(found)
    if not set(_ENDS) <= set(found) or stated == measured:
        raise CaseError(
            f"{path}: columns must be from, to and bytes_per_second, or from, to, bytes and seconds"
        )


def _pair(where: str, row: Mapping[str, str | None]) -> tuple[tuple[int, int], float]:
    start, to = (_number(where, row, name) for name in _ENDS)
    if start != int(start) or to != int(to) or start < 0 or to < 0 or start == to:
        raise CaseError(f"{where}: from and to must be two different whole numbers from 0")
    if "bytes_per_second" in row:
        rate = _number(where, row, "bytes_per_second")
    else:
        seconds = _number(where, row, "seconds")
        rate = _number(where, row, "bytes") / seconds if seconds > 0 else 0.0
    if not LEAST_RATE <= rate < inf:
        raise CaseError(f"{where}: the rate must be at least {LEAST_RATE:g} bytes per second")
    return (int(start), int(to)), rate


def _number(where: str, row: Mapping[str, str | None], name: str) -> float:
    text = row.get(name)
    try:
        value = float(text or "") if str(text).isascii() else nan
    except ValueError:
        value = nan
    if not isfinite(value):
        raise CaseError(f"{where}: {name} = {text!r}: must be a finite number")
    return value
