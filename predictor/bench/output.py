"""From the journal to a SKU's tables: ``<operator>.csv`` and runs.toml."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from predictor.bench.cross_check import summary as cross_check_summary
from predictor.bench.journal import Record
from predictor.bench.ranks.choices import choices
from predictor.bench.screening import Limits, flags
from predictor.bench.summarise import row_of
from predictor.operators import OPERATORS
from predictor.tables import (
    RUNS_FILE,
    TIMED_STATUSES,
    Row,
    Run,
    read_runs,
    read_table,
    row_fault,
    write_runs,
    write_table,
)

_MAX_FAILURES: Final = 40


def write_results(folder: Path, records: Sequence[Record], limits: Limits) -> list[Row]:
    """Merge a journal's points into the tables of a folder.

    Rows of other runs that stand there already are kept; rows of the journal's runs are replaced.

    Returns:
        The journal's rows.
    """
    rows = rows_of(records)
    described = {r["run"]: r["provenance"] for r in records if r["record"] == "run"}
    runs = read_runs(folder / RUNS_FILE) if (folder / RUNS_FILE).exists() else {}
    for key, provenance in described.items():
        runs[key] = provenance | _outcome(key, records, rows, limits)
    write_runs(folder / RUNS_FILE, runs)
    by_operator: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_operator[row.operator.name].append(row)
    for operator, measured in by_operator.items():
        path = folder / f"{operator}.csv"
        kept = read_table(path).rows if path.exists() else ()
        write_table(path, [*(r for r in kept if r.run not in described), *_ordered(measured)])
    return rows


def rows_of(records: Sequence[Record]) -> list[Row]:
    """Rows of a journal's points."""
    return [row for r in records if r["record"] == "point" and not row_fault(row := row_of(r))]


def report(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One line an operator: rows by status, spread between rounds, best rates."""
    lines = []
    for operator in OPERATORS:
        mine = [row for row in rows if row.operator.name == operator]
        timed = [row for row in mine if row.status in TIMED_STATUSES]
        if not mine:
            continue
        lines.append(
            {
                "operator": operator,
                "points": len(mine),
                "ok": sum(row.status == "ok" for row in mine),
                "other": _counts(mine),
                "median_spread": _median_spread(timed),
                "best_flops_per_second": _best(timed, "flops"),
                "best_bytes_per_second": _best(timed, "bytes"),
            }
        )
    return lines


def _outcome(key: str, records: Sequence[Record], rows: Sequence[Row], limits: Limits) -> Run:
    """What came of one run: drift of the controls, flags, failures."""
    mine = [record for record in records if record.get("run") == key]
    points = [record for record in mine if record["record"] == "point"]
    notes = [
        f"{r['operator']} {r['fields']}: {r['status']}: {r['note']}"
        for r in points
        if r["status"] not in TIMED_STATUSES
    ]
    return {
        "points": len(points),
        "cross_check": cross_check_summary(mine),
        "spent": next((_numbers(r) for r in mine if r["record"] == "spent"), {}),
        "controls": {
            operator: _control(
                record["seconds"]
                for record in mine
                if record["record"] == "control" and record["operator"] == operator
            )
            for operator in sorted({r["operator"] for r in mine if r["record"] == "control"})
        },
        "nccl_choices": choices(points),
        "flags": flags([row for row in rows if row.run == key], limits),
        "failures": notes[:_MAX_FAILURES],
    }


def _control(seconds: Any) -> dict[str, float]:  # noqa: ANN401
    values = list(seconds)
    return {
        "rounds": len(values),
        "seconds": median(values),
        "seconds_low": min(values),
        "seconds_high": max(values),
        "drift": _drift(values),
    }


def _drift(values: Sequence[float]) -> float:
    """Relative change of a control from the run's first third to its last, by their medians."""
    third = max(1, len(values) // 3)
    return median(values[-third:]) / median(values[:third]) - 1


def _numbers(record: Record) -> dict[str, float]:
    return {name: value for name, value in record.items() if isinstance(value, float)}


def _ordered(rows: Sequence[Row]) -> list[Row]:
    """By cache, regime and fields, so that two runs of a SKU read alike."""
    return sorted(rows, key=lambda row: (row.regime, row.cache, repr(row.operator), row.run))


def _counts(rows: Sequence[Row]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in rows:
        if row.status != "ok":
            counts[row.status] = counts.get(row.status, 0) + 1
    return counts


def _median_spread(rows: Sequence[Row]) -> float | None:
    spreads = [
        (r.seconds_high or 0) / r.seconds_low - 1 for r in rows if r.seconds_low and r.rounds > 1
    ]
    return median(spreads) if spreads else None


def _best(rows: Sequence[Row], quantity: str) -> float | None:
    rates = [
        getattr(row.operator, quantity) / row.seconds
        for row in rows
        if row.seconds and row.cache == "cold"
    ]
    best = max(rates, default=0.0)
    return best or None
