"""The journal of a run: append-only JSON lines that survive a kill at any moment.

The first record is the ``header`` with the identity of what is measured (harness, libraries, SKU,
driver). Each process that appends adds a ``run`` record with its provenance, a ``round`` record
for each round as it is measured, a ``point`` record for each point that is through, ``control`` and
``cross_check`` records, and an ``end`` record after the tables were written. A record is one write
followed by fsync, so at most the last line can be torn, and it is skipped on reading. One process
at a time writes in a folder.
"""

import fcntl
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


class CannotWrite(BenchError):  # noqa: N818 - an ending of a run
    """The disk takes no more; what was written before is whole."""


class Journal:
    """Records on disk and in memory."""

    def __init__(self, path: Path) -> None:
        """Open and lock a journal; use :meth:`create` or :meth:`resume`.

        Raises:
            BenchError: Another run holds the folder, or it cannot be written.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise BenchError(f"{path} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            msg = f"another bench-run writes in {path.parent}; wait for it or choose another --out"
            raise BenchError(msg) from error
        self.records = read_records(path)
        self._torn = not (path.read_bytes() or b"\n").endswith(b"\n")

    @classmethod
    def create(cls, path: Path, identity: Mapping[str, Any]) -> Self:
        """Start a journal.

        Raises:
            BenchError: There is one already whose measurements are not in tables yet.
        """
        journal = cls(path)
        if journal.records and journal.records[-1]["record"] != "end":
            journal.close()
            msg = (
                f"{path} holds measurements that never reached the tables; go on with "
                "--resume, choose another --out, or delete it"
            )
            raise BenchError(msg)
        journal._begin(identity)
        return journal

    @classmethod
    def resume(cls, path: Path, identity: Mapping[str, Any]) -> Self:
        """Go on with a journal, or start one where there is none.

        Raises:
            BenchError: The journal was written for another identity; the message says which parts
                differ.
        """
        journal = cls(path)
        if not journal.records:
            journal._begin(identity)
            return journal
        written = journal.records[0].get("identity", {})
        wanted = json.loads(json.dumps(dict(identity)))
        differences = [
            f"{name} was {written.get(name)!r}, is {wanted.get(name)!r}"
            for name in sorted({*written, *wanted})
            if written.get(name) != wanted.get(name)
        ]
        if differences:
            journal.close()
            msg = (
                f"{path} cannot be resumed: {'; '.join(differences)}; measure anew in another --out"
            )
            raise BenchError(msg)
        return journal

    def append(self, record: Record) -> None:
        """Write one record durably.

        Raises:
            CannotWrite: The disk is full or fails; the record is not in the journal.
        """
        line = json.dumps(record, allow_nan=False, separators=(",", ":")) + "\n"
        data = ("\n" + line if self._torn else line).encode()
        try:
            while data:
                self._torn = True
                data = data[os.write(self._descriptor, data) :]
            os.fsync(self._descriptor)
        except OSError as error:
            msg = f"{self.path}: {error.strerror}; make room, then go on with --resume"
            raise CannotWrite(msg) from error
        self._torn = False
        self.records.append(record)

    def done_keys(self) -> set[str]:
        """Resume keys of all recorded points, whatever their status."""
        return {record["key"] for record in self.records if record["record"] == "point"}

    def close(self) -> None:
        """Close the file and let others write in the folder."""
        os.close(self._descriptor)

    def _begin(self, identity: Mapping[str, Any]) -> None:
        os.ftruncate(self._descriptor, 0)
        self.records = []
        self._torn = False
        self.append({"record": "header", "identity": dict(identity)})

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
    """All whole records of a journal; torn lines, left by a kill, are skipped.

    Zeros are what a disk may leave of a block that it did not write before the power went.
    """
    records = []
    for line in path.read_bytes().split(b"\n"):
        try:
            record = json.loads(line.rstrip(b"\0"))
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
