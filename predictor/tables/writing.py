"""Tables to files, whole or not at all."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from predictor.errors import TableError
from predictor.files import replace_file
from predictor.operators import field_names
from predictor.tables.schema import MEASUREMENT_COLUMNS, Row, columns
from predictor.tables.validation import validate_rows


def write_table(path: Path, rows: Iterable[Row]) -> None:
    """Check rows and replace ``<operator>.csv`` by them, whole or not at all.

    Floats are written in their shortest form that reads back exactly.

    Raises:
        TableError: A row breaks a rule of the table or belongs to another operator.
    """
    operator = path.stem
    rows = list(rows)
    for row in rows:
        if row.operator.name != operator:
            raise TableError(
                f"{path}: a row of operator {row.operator.name!r} does not belong there"
            )
    validate_rows(((f"{path}:{line}", row) for line, row in enumerate(rows, start=2)), runs=None)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns(operator))
    writer.writerows(_cells(row) for row in rows)
    write_atomically(path, text.getvalue())


def write_atomically(path: Path, text: str) -> None:
    """Replace a file by ``text``, whole or not at all; its folder is made if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, text)


def _cells(row: Row) -> list[object]:
    measured = (getattr(row, name) for name in MEASUREMENT_COLUMNS)
    told = [getattr(row.operator, name) for name in field_names(row.operator.name)]
    return [*told, *("" if value is None else value for value in measured)]
