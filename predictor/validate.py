"""Run records to errors: how far estimates are from measured iterations."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from predictor.case import Case
from predictor.case.reading import RECORD_KEYS
from predictor.diagnosis import Diagnosis, diagnose, shares_of
from predictor.errors import CaseError, PredictorError
from predictor.iteration import estimate
from predictor.rooms import open_to_calls
from predictor.run_records import read_records

CLOSE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One record beside its estimate.

    Attributes:
        identity: The record's ``id``.
        source: Who measured it.
        measured_seconds: What was measured.
        predicted_seconds: The estimate; None if refused.
        low: Lower end of its interval.
        high: Upper end.
        measured_bytes: Measured peak of the allocator, where the record has it.
        predicted_bytes: The estimate of it.
        shares: Of the predicted time: compute, memory-bound, communication, bubble, host.
        refused: Why there is no estimate.
    """

    identity: str
    source: str
    measured_seconds: float
    predicted_seconds: float | None = None
    low: float | None = None
    high: float | None = None
    measured_bytes: float | None = None
    predicted_bytes: float | None = None
    shares: Mapping[str, float] = field(default_factory=dict)
    refused: str | None = None

    @property
    def relative_error(self) -> float | None:
        """Predicted over measured, less one."""
        if self.predicted_seconds is None:
            return None
        return self.predicted_seconds / self.measured_seconds - 1

    @property
    def memory_error(self) -> float | None:
        """The same for peak memory."""
        if self.predicted_bytes is None or not self.measured_bytes:
            return None
        return self.predicted_bytes / self.measured_bytes - 1

    def to_dict(self) -> dict[str, Any]:
        """As ``validate --json`` prints it."""
        if self.refused is not None:
            return {"id": self.identity, "refused": self.refused}
        return {
            "id": self.identity,
            "measured_seconds": self.measured_seconds,
            "predicted_seconds": self.predicted_seconds,
            "low": self.low,
            "high": self.high,
            "relative_error": self.relative_error,
            "memory_error": self.memory_error,
            "shares": dict(self.shares),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationReport:
    """All records of a file beside their estimates."""

    records: tuple[Checked, ...]

    def to_dict(self) -> dict[str, Any]:
        """As ``validate --json`` prints it."""
        sources = sorted({record.source for record in self.records})
        return {
            "records": [record.to_dict() for record in self.records],
            "summary": summarise(self.records),
            "diagnosis": diagnosis_of(self.records).to_dict(),
            "sources": {
                source: summarise([r for r in self.records if r.source == source])
                for source in sources
            },
            "diagnosis_of_sources": {
                source: diagnosis_of([r for r in self.records if r.source == source]).to_dict()
                for source in sources
            },
        }


def diagnosis_of(records: Sequence[Checked]) -> Diagnosis:
    """Name the part of the model that explains the errors of some records."""
    done = [r for r in records if r.predicted_seconds is not None]
    errors = [r.measured_seconds / (r.predicted_seconds or 1.0) - 1.0 for r in done]
    return diagnose(errors, [r.shares for r in done])


def summarise(records: Sequence[Checked]) -> dict[str, Any]:
    """Errors, coverage and rank correlation of some records."""
    done = [r for r in records if r.relative_error is not None]
    summary: dict[str, Any] = {
        "records": len(records),
        "predicted": len(done),
        "refused": len(records) - len(done),
    }
    if not done:
        return summary
    errors = np.abs([r.relative_error or 0.0 for r in done])
    inside = [(r.low or 0.0) <= r.measured_seconds <= (r.high or math.inf) for r in done]
    widths = [((r.high or 0.0) - (r.low or 0.0)) / (r.predicted_seconds or 1.0) for r in done]
    summary |= {
        "median_ape": float(np.median(errors)),
        "mean_ape": float(np.mean(errors)),
        "p90_ape": float(np.quantile(errors, 0.9)),
        "worst_ape": float(np.max(errors)),
        "within_10_percent": float(np.mean(errors <= CLOSE)),
        "interval_coverage": float(np.mean(inside)),
        "interval_width": float(np.median(widths)),
        "rank_correlation": _rank_correlation(done),
    }
    memory = [abs(r.memory_error) for r in done if r.memory_error is not None]
    if memory:
        summary["memory_median_ape"] = float(np.median(memory))
        summary["memory_worst_ape"] = float(np.max(memory))
    return summary


def _rank_correlation(records: Sequence[Checked]) -> float | None:
    """Spearman's rank correlation of predicted and measured seconds; None for one record."""
    if len(records) < 2:  # noqa: PLR2004 - a correlation needs two
        return None
    ranks = [
        _ranks(np.array(x))
        for x in (
            [r.predicted_seconds or 0.0 for r in records],
            [r.measured_seconds for r in records],
        )
    ]
    if any(np.ptp(r) == 0 for r in ranks):
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    return np.asarray(middle[inverse])


def validate(path: str | Path) -> ValidationReport:
    """Estimate every record of a JSON-lines file.

    Raises:
        CaseError: The file cannot be read or is empty, or a line is not a run record (the line is
            named).
    """
    records = tuple(check(record) for record in read_records(Path(path)))
    if not records:
        raise CaseError(f"{path}: holds no run record; docs/validating.md says what one is")
    return ValidationReport(records=records)


def check(record: Mapping[str, Any]) -> Checked:
    """Estimate one record; nothing but the error depends on what was measured."""
    measured = record["measured"]
    asked = {key: value for key, value in record.items() if key not in RECORD_KEYS}
    identity, source = str(record["id"]), str(record["source"])
    seconds = float(measured["iteration_seconds"])
    try:
        answer = estimate(Case.from_dict(asked, origin=identity))
    except PredictorError as error:
        return Checked(
            identity=identity, source=source, measured_seconds=seconds, refused=str(error)
        )
    return Checked(
        identity=identity,
        source=source,
        measured_seconds=seconds,
        predicted_seconds=answer.iteration_seconds,
        low=answer.interval_seconds[0],
        high=answer.interval_seconds[1],
        measured_bytes=measured.get("peak_memory_bytes"),
        predicted_bytes=answer.memory_bytes_per_gpu,
        shares=shares_of(answer.breakdown),
    )


open_to_calls(__name__, validate)
