"""Run records: a case and what was measured of it, one JSON object a line.

docs/case_reference.md has the fields. Records are read for validation and by tests, and by nothing
that estimates.
"""

import gzip
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from predictor.case.named_files import located
from predictor.case.section import shown
from predictor.errors import CaseError
from predictor.files import MEBIBYTE, opened, parse_json

LEAST_MEASURED, MOST_MEASURED = 1e-9, 1e18
POSITIVE = f"must be a number from {LEAST_MEASURED:g} to {MOST_MEASURED:g}"
"""Seconds and bytes that somebody may have measured; an error is a ratio to them."""

MAX_FILE_BYTES = 256 * MEBIBYTE
MAX_LINE_BYTES = MEBIBYTE


def read_records(path: Path) -> Iterator[Mapping[str, Any]]:
    """The records of a file, one object a line; a file named ``.gz`` is unpacked.

    Lines are read one after another, so that memory holds one record.

    Raises:
        CaseError: See the file cannot be read, or a line is not a run record (the line is named).
    """
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            place = f"{path}:{number}"
            record = _required(place, parse_json(place, line, CaseError))
            try:
                yield located(record, path.parent)
            except CaseError as error:
                raise CaseError(f"{place}: {error}") from error


def _lines(path: Path) -> Iterator[str]:
    """Lines of text, each of at most a mebibyte, together of at most MAX_FILE_BYTES."""
    left = MAX_FILE_BYTES
    try:
        with opened(path) as file, gzip.open(file) if path.suffix == ".gz" else file as stream:
            while line := stream.readline(MAX_LINE_BYTES + 1):
                left -= len(line)
                if left < 0 or len(line) > MAX_LINE_BYTES:
                    most = MAX_FILE_BYTES if left < 0 else MAX_LINE_BYTES
                    what = "the file" if left < 0 else "a line"
                    raise CaseError(
                        f"{path}: {what} is larger than {most} bytes, the most that is read"
                    )
                yield line.decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise CaseError(
            f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from error


def _required(place: str, record: Any) -> Mapping[str, Any]:  # noqa: ANN401
    if not isinstance(record, dict):
        raise CaseError(f"{place}: a run record is an object")
    for key in ("id", "source", "measured"):
        if key not in record:
            raise CaseError(f"{place}: a run record needs {key!r} beside the fields of a case")
    measured = record["measured"]
    seconds = measured.get("iteration_seconds") if isinstance(measured, dict) else None
    if not _positive(seconds):
        raise CaseError(f"{place}: measured.iteration_seconds = {shown(seconds)}: {POSITIVE}")
    memory = measured.get("peak_memory_bytes")
    if memory is not None and not _positive(memory):
        raise CaseError(f"{place}: measured.peak_memory_bytes = {shown(memory)}: {POSITIVE}")
    return record


def _positive(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and LEAST_MEASURED <= value <= MOST_MEASURED  # type: ignore[operator]
