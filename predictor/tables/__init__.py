"""What was measured: one CSV an operator and runs.toml in the folder of each SKU.

In come the files of ``bench_results/<sku>/`` (or the rows of a benchmark run), out go checked
:class:`Row` values. Reading is strict: a damaged file is refused with its line and the rule it
breaks. Writing replaces a file whole or not at all.
"""

from predictor.tables.reading import Folder, Table, read_folder, read_table
from predictor.tables.runs import RUNS_FILE, Run, read_runs, write_runs
from predictor.tables.schema import (
    MEASUREMENT_COLUMNS,
    STATUSES,
    TIMED_STATUSES,
    Cache,
    Regime,
    Row,
    Status,
    Value,
    columns,
)
from predictor.tables.validation import row_fault, validate_rows
from predictor.tables.writing import write_atomically, write_table

__all__ = [
    "MEASUREMENT_COLUMNS",
    "RUNS_FILE",
    "STATUSES",
    "TIMED_STATUSES",
    "Cache",
    "Folder",
    "Regime",
    "Row",
    "Run",
    "Status",
    "Table",
    "Value",
    "columns",
    "read_folder",
    "read_runs",
    "read_table",
    "row_fault",
    "validate_rows",
    "write_atomically",
    "write_runs",
    "write_table",
]
