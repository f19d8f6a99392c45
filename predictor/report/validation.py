"""A validation report for people: the worst row first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from predictor.report.quantities import percent_text, seconds_text, signed_percent_text
from predictor.report.table import WIDTH, columns, paragraph, shortened

if TYPE_CHECKING:
    from predictor.validate import ValidationReport

SHOWN_RECORDS = 20
SHOWN_REASONS = 10
ID_WIDTH = 34
REASON_WIDTH = 84


def validation_text(report: ValidationReport) -> str:
    """Return the summary, the worst records and the reasons of those refused."""
    content = report.to_dict()
    blocks = [
        _summary(content),
        _worst(content["records"]),
        _diagnosis(content),
        _reasons(content["records"]),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def predicted(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the records that have an estimate, the worst first."""
    done = [record for record in records if "refused" not in record]
    return sorted(done, key=lambda record: -abs(record["relative_error"]))


def reasons(records: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """Return why records were refused, the most frequent reason first.

    What stands before the first colon of a refusal is the record's id.
    """
    counts: dict[str, int] = {}
    for record in records:
        if "refused" in record:
            words = str(record["refused"]).removeprefix(f"{record['id']}: ")
            counts[words] = counts.get(words, 0) + 1
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def summary_cells(summary: dict[str, Any]) -> list[str]:
    """Return a summary as the cells of a row: counts, then errors, coverage and rank."""
    counts = [str(summary["predicted"]), str(summary["refused"])]
    if not summary["predicted"]:
        return [*counts, *["-"] * (len(SUMMARY_HEAD) - len(counts))]
    shares = ("median_ape", "p90_ape", "within_10_percent", "interval_coverage")
    rank = summary.get("rank_correlation")
    return [
        *counts,
        *(percent_text(summary[key]) for key in shares),
        "-" if rank is None else f"{rank:.3f}",
    ]


SUMMARY_HEAD = (
    "predicted",
    "refused",
    "median error",
    "90th percentile",
    "within 10 %",
    "inside interval",
    "rank correlation",
)


_NARROW_HEAD = ("predicted", "refused", "median", "p90", "within 10 %", "inside", "rank")


def _summary(content: dict[str, Any]) -> list[str]:
    rows = [["errors", *_NARROW_HEAD], ["all", *summary_cells(content["summary"])]]
    sources = content.get("sources", {})
    if len(sources) > 1:
        rows += [
            [shortened(name, ID_WIDTH), *summary_cells(part)] for name, part in sources.items()
        ]
    return columns(rows, right=range(1, len(rows[0])))


def _worst(records: list[dict[str, Any]]) -> list[str]:
    ranked = predicted(records)
    if not ranked:
        return []
    rows = [["worst first", "measured", "predicted", "interval", "error", "memory", "mostly"]]
    rows += [
        [
            shortened(record["id"], ID_WIDTH),
            seconds_text(record["measured_seconds"]),
            seconds_text(record["predicted_seconds"]),
            f"{seconds_text(record['low'])} to {seconds_text(record['high'])}",
            signed_percent_text(record["relative_error"]),
            _memory(record),
            _mostly(record["shares"]),
        ]
        for record in ranked[:SHOWN_RECORDS]
    ]
    lines = columns(rows, right=(1, 2, 3, 4, 5))
    more = len(ranked) - SHOWN_RECORDS
    return [*lines, f"... and {more} better ones"] if more > 0 else lines


def _memory(record: dict[str, Any]) -> str:
    """Error of the peak of memory, where it was measured."""
    error = record.get("memory_error")
    return "-" if error is None else signed_percent_text(error)


def _mostly(shares: dict[str, float]) -> str:
    """The largest part of a record's predicted time."""
    if not shares:
        return "-"
    name = max(shares, key=lambda each: shares[each])
    return f"{name} {percent_text(shares[name])}"


def _diagnosis(content: dict[str, Any]) -> list[str]:
    """What explains the errors, of all records and of each source that differs."""
    whole = content["diagnosis"]
    if not whole["records"]:
        return []
    lines = paragraph(f"cause: {whole['words']}", WIDTH)
    sources = content.get("diagnosis_of_sources", {})
    told = {name: each for name, each in sources.items() if each["cause"] is not None}
    if len(sources) > 1:
        for name, each in list(told.items())[:SHOWN_REASONS]:
            words = f"{shortened(name, ID_WIDTH)} ({each['records']} records): {each['words']}"
            lines += [f"  {line}" for line in paragraph(words, WIDTH - 2)]
    return lines


def _reasons(records: list[dict[str, Any]]) -> list[str]:
    counted = reasons(records)
    if not counted:
        return []
    rows = [[str(count), shortened(words, REASON_WIDTH)] for words, count in counted]
    lines = ["refused", *columns(rows[:SHOWN_REASONS], right=(0,))]
    more = len(counted) - SHOWN_REASONS
    return [*lines, f"... and {more} rarer reasons"] if more > 0 else lines
