"""Tables from files: parsed with the csv module alone, so that an estimate starts fast."""

import csv
import io
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import Any

from predictor.errors import TableError, nearest
from predictor.files import MEBIBYTE, read_text
from predictor.operators import OPERATORS
from predictor.tables.runs import RUNS_FILE, Run, read_runs
from predictor.tables.schema import (
    MEASUREMENT_COLUMNS,
    Row,
    columns,
    defaulted_fields,
    field_parsers,
    whole_number,
)
from predictor.tables.validation import validate_rows
from predictor.values import frozen

MAX_TABLE_BYTES = 32 * MEBIBYTE
"""A hundred times the largest table there is."""

BYTE_ORDER_MARK = "\ufeff"
"""Spreadsheets put it before the first column's name."""


@frozen(kw_only=True)
class Table:
    """All rows of one operator.

    Attributes:
        operator: Its name, also the stem of the file.
        rows: In file order.
    """

    operator: str
    rows: tuple[Row, ...]

    def column(self, name: str) -> list[Any]:
        """Values of one column over all rows: an operator's field or a measured quantity.

        Raises:
            TableError: The table has no such column.
        """
        if name in MEASUREMENT_COLUMNS:
            return [getattr(row, name) for row in self.rows]
        if name in columns(self.operator):
            return [getattr(row.operator, name) for row in self.rows]
        raise TableError(
            f"{self.operator} has no column {name!r}{nearest(name, columns(self.operator))}"
        )


@frozen(kw_only=True)
class Folder:
    """What was measured on one SKU.

    Attributes:
        path: The folder.
        tables: By operator.
        runs: Provenance by run key.
    """

    path: Path
    tables: dict[str, Table]
    runs: dict[str, Run]


def read_folder(folder: Path) -> Folder:
    """Read every operator's table of a SKU's folder, and runs.toml.

    Raises:
        TableError: A file is damaged, contradicts itself, or a table exists without runs.toml.
    """
    runs = read_runs(folder / RUNS_FILE) if (folder / RUNS_FILE).exists() else {}
    paths = (folder / f"{operator}.csv" for operator in OPERATORS)
    tables = {path.stem: read_table(path, runs=runs) for path in paths if path.exists()}
    return Folder(path=folder, tables=tables, runs=runs)


def read_table(path: Path, *, runs: Container[str] | None = None) -> Table:
    """Read and check ``<operator>.csv``.

    Args:
        path: File whose stem names the operator.
        runs: Keys of runs.toml that rows may name; None skips that rule.

    Raises:
        TableError: The file cannot be read, or a row breaks a rule (place, value and rule named).
    """
    operator = path.stem
    if operator not in OPERATORS:
        raise TableError(
            f"{path}: no operator is called {operator!r}{nearest(operator, OPERATORS)}"
        )
    text = read_text(path, TableError, MAX_TABLE_BYTES).removeprefix(BYTE_ORDER_MARK)
    if not text:
        raise TableError(f"{path}: is empty; measure it again")
    if not text.endswith("\n"):
        raise TableError(
            f"{path}: the last line is truncated: a table ends with a newline; measure it again"
        )
    rows = list(_parse(path, operator, text))
    validate_rows(rows, runs=runs)
    return Table(operator=operator, rows=tuple(row for _, row in rows))


def _parse(path: Path, operator: str, text: str) -> Iterator[tuple[str, Row]]:
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(lines)
        _check_header(path, header, operator)
        parsers = {n: parse for n, parse in field_parsers(operator).items() if n in header}
        split = len(parsers)
        order = [header.index(name) for name in columns(operator) if name in header]
        in_order = order == sorted(order)
        for line in lines:
            place = f"{path}:{lines.line_num}"
            if len(line) != len(header):
                raise TableError(f"{place}: truncated line: {len(line)} of {len(header)} cells")
            cells = line if in_order else [line[i] for i in order]
            yield place, _row(place, operator, parsers, cells[:split], cells[split:])
    except (csv.Error, StopIteration) as error:
        raise TableError(
            f"{path}:{lines.line_num}: not a table: {str(error) or 'no header'}"
        ) from error


def _check_header(path: Path, header: list[str], operator: str) -> None:
    """A column may be absent only if its field has a default, which all rows then take."""
    expected = columns(operator)
    other = next((mark for mark in ";\t" if len(header) == 1 and mark in header[0]), None)
    if other:
        raise TableError(
            f"{path}:1: cells are separated by {other!r}; save the table with commas and points"
        )
    for name in expected:
        if header.count(name) != 1 and (name in header or name not in defaulted_fields(operator)):
            state = "missing" if name not in header else "there twice"
            raise TableError(
                f"{path}:1: column {name!r} is {state}; the columns are {', '.join(expected)}"
            )
    for name in header:
        if name not in expected:
            raise TableError(f"{path}:1: unknown column {name!r}{nearest(name, expected)}")


def _row(
    place: str,
    operator: str,
    parsers: dict[str, Callable[[str], Any]],
    fields: list[str],
    measured: list[str],
) -> Row:
    name, cell = "", ""
    try:
        values: dict[str, Any] = {}
        for (name, parse), cell in zip(parsers.items(), fields, strict=True):
            values[name] = parse(cell)
        results: dict[str, Any] = {}
        for (name, parse), cell in zip(_MEASURED_PARSERS.items(), measured, strict=True):
            results[name] = parse(cell)
    except ValueError as error:
        raise TableError(f"{place}: {name}={cell!r} {error}") from error
    try:
        shape = OPERATORS[operator](**values)
    except ValueError as error:
        raise TableError(f"{place}: {error}") from error
    return Row(operator=shape, **results)


def _number(text: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError as error:
        raise ValueError("must be a number") from error


def _count(text: str) -> int:
    return whole_number(text) if text else 0


_MEASURED_PARSERS: dict[str, Callable[[str], Any]] = {
    "seconds": _number,
    "seconds_low": _number,
    "seconds_high": _number,
    "rounds": _count,
    "samples": _count,
    "regime": str,
    "cache": str,
    "sm_clock_hz": _number,
    "watts": _number,
    "energy_joules": _number,
    "status": str,
    "run": str,
}
