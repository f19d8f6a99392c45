"""The journal of a run: append-only JSON lines that survive a kill at any moment.

The first record is the ``header`` with the identity of what is measured (harness, libraries, SKU,
driver). Each process that appends adds a ``run`` record with its provenance, then ``point`` and
``control`` records, and an ``end`` record after the tables were written. A record is one write
followed by fsync, so at most the last line can be torn, and it is skipped on reading.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from predictor.bench.points import Point
from predictor.errors import BenchError

JOURNAL_FILE: Final = "journal.jsonl"
Record = dict[str, Any]


class Journal:
    """Records on disk and in memory."""

    def __init__(self, path: Path, records: list[Record]) -> None:
        """Open a journal for appending; use :meth:`create` or :meth:`resume`."""
        self.path = path
        self.records = records
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    @classmethod
    def create(cls, path: Path, identity: Mapping[str, Any]) -> Self:
        """Start a journal.

        Raises:
            BenchError: There is one already whose measurements are not in tables yet.
        """
        if path.exists():
            records = read_records(path)
            if records and records[-1]["record"] != "end":
                msg = (
                    f"{path} holds measurements that never reached the tables; go on with "
                    "--resume, choose another --out, or delete it"
                )
                raise BenchError(msg)
            path.unlink()
        path.parent.mkdir(parents=True, exist_ok=True)
        journal = cls(path, [])
        journal.append({"record": "header", "identity": dict(identity)})
        return journal

    @classmethod
    def resume(cls, path: Path, identity: Mapping[str, Any]) -> Self:
        """Go on with a journal, or start one where there is none.

        Raises:
            BenchError: The journal was written for another identity; the message says which parts
                differ.
        """
        records = read_records(path) if path.exists() else []
        if not records:
            path.unlink(missing_ok=True)
            return cls.create(path, identity)
        written = records[0].get("identity", {})
        wanted = json.loads(json.dumps(dict(identity)))
        differences = [
            f"{name} was {written.get(name)!r}, is {wanted.get(name)!r}"
            for name in sorted({*written, *wanted})
            if written.get(name) != wanted.get(name)
        ]
        if differences:
            msg = (
                f"{path} cannot be resumed: {'; '.join(differences)}; measure anew in another --out"
            )
            raise BenchError(msg)
        journal = cls(path, records)
        if not path.read_bytes().endswith(b"\n"):
            os.write(journal._descriptor, b"\n")
        return journal

    def append(self, record: Record) -> None:
        """Write one record durably."""
        line = json.dumps(record, allow_nan=False, separators=(",", ":")) + "\n"
        os.write(self._descriptor, line.encode())
        os.fsync(self._descriptor)
        self.records.append(record)

    def done_keys(self) -> set[str]:
        """Resume keys of all recorded points, whatever their status."""
        return {record["key"] for record in self.records if record["record"] == "point"}

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_records(path: Path) -> list[Record]:
    """All whole records of a journal; torn lines, left by a kill, are skipped."""
    records = []
    for line in path.read_bytes().split(b"\n"):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and "record" in record:
            records.append(record)
    return records


def resume_key(point: Point, identity: Mapping[str, Any]) -> str:
    """Hash of all that makes two measurements the same: point, policy and identity."""
    content = {
        "operator": point.operator.name,
        "fields": point.fields,
        "cache": point.cache,
        "rounds": point.rounds,
        "policy": point.policy,
        "identity": dict(identity),
    }
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]
