"""Imported rows into the folder of a SKU, whole or not at all."""

from collections.abc import Sequence
from pathlib import Path

from predictor.errors import TableError
from predictor.operators import OPERATORS
from predictor.tables.reading import read_table
from predictor.tables.runs import RUNS_FILE, Run, read_runs, write_runs
from predictor.tables.schema import Row
from predictor.tables.validation import row_fault
from predictor.tables.writing import write_table
from predictor.values import frozen

MAX_ROWS = 20_000


@frozen(kw_only=True)
class Import:
    """What an importer made of foreign files.

    Attributes:
        run: Key of the provenance; every row names it.
        provenance: Source, version, licence, files, and what the source does not say.
        rows: Of any operators.
    """

    run: str
    provenance: Run
    rows: tuple[Row, ...]


def write_import(imported: Import, folder: Path) -> list[Path]:
    """Write ``<operator>.csv`` of each imported operator and ``runs.toml``.

    Returns:
        The files written.

    Raises:
        TableError: An imported row breaks a rule of tables, there is none, there are too many, or
            the folder's own tables are damaged; nothing is written then.
    """
    _check(imported)
    runs_path = folder / RUNS_FILE
    runs = read_runs(runs_path) if runs_path.exists() else {}
    runs[imported.run] = imported.provenance
    tables: dict[Path, list[Row]] = {}
    for operator in OPERATORS:
        path = folder / f"{operator}.csv"
        kept = _kept(path, imported.run)
        fresh = [row for row in imported.rows if row.operator.name == operator]
        if fresh:
            tables[path] = [*kept, *fresh]
    try:
        write_runs(runs_path, runs)
        for path, rows in tables.items():
            write_table(path, rows)
    except OSError as error:
        raise TableError(f"{folder}: cannot be written: {error}") from error
    return [runs_path, *tables]


def _check(imported: Import) -> None:
    if not imported.rows:
        raise TableError(f"{imported.run}: nothing in it is of use for training")
    if len(imported.rows) > MAX_ROWS:
        raise TableError(f"{imported.run}: {len(imported.rows)} rows; at most {MAX_ROWS} are kept")
    for row in imported.rows:
        if fault := row_fault(row):
            raise TableError(f"{imported.run}: {row.operator}: {fault}")


def _kept(path: Path, run: str) -> Sequence[Row]:
    if not path.exists():
        return ()
    return [row for row in read_table(path).rows if row.run != run]
