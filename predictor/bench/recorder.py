"""What a run has measured so far, kept in the journal."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from predictor.bench.journal import Journal, Record, resume_key
from predictor.bench.points import Point
from predictor.bench.rounds import RoundResult
from predictor.bench.summarise import row_of, summarise, timed_status
from predictor.tables import Row, Status


@dataclass(slots=True)
class Measurement:
    """A point on its way through a chunk.

    Attributes:
        point: What is measured.
        key: Its number in the chunk, by which the worker knows it.
        rounds: Rounds so far.
        status: What went wrong; None while nothing did.
        note: Why, in words.
        relative_error: Of the result, where it was checked.
        prepared: The worker holds its workload.
        look: 0, or 1 once it is measured again.
    """

    point: Point
    key: int
    rounds: list[RoundResult] = field(default_factory=list)
    status: Status | None = None
    note: str = ""
    relative_error: float | None = None
    prepared: bool = False
    look: int = 0

    def fail(self, status: Status, note: str) -> None:
        """Take over why no (more) rounds can be measured."""
        self.status, self.note, self.prepared = status, note, False

    @property
    def open(self) -> bool:
        """Can still be sampled."""
        return self.prepared and self.status is None

    @property
    def final_status(self) -> Status:
        """What the record says: a failed round spoils those before it."""
        return self.status or timed_status(self.rounds)

    def row(self, run: str) -> Row:
        """The table's row if nothing more is measured; there must be a round."""
        return Row(
            operator=self.point.operator,
            regime=self.point.regime,
            cache=self.point.cache,
            status=self.final_status,
            run=run,
            **summarise(self.rounds),
        )


class Recorder:
    """Appends to the journal and remembers the rows of this run."""

    def __init__(self, journal: Journal, *, identity: dict[str, Any], run: str) -> None:
        """Take an open journal, and what makes its measurements comparable."""
        self.run = run
        self.rows: list[Row] = []
        self._journal = journal
        self._identity = identity
        self._done = journal.done_keys()
        self._begun = _begun(journal.records, self._done)

    def is_done(self, point: Point) -> bool:
        """Whether the journal holds the point, whatever its status."""
        return resume_key(point, self._identity) in self._done

    def begin(self, point: Point, key: int) -> Measurement:
        """A measurement with the rounds that a run before this one, cut short, measured of it."""
        look, rounds = self._begun.get(resume_key(point, self._identity), (0, []))
        return Measurement(point=point, key=key, rounds=list(rounds), look=look)

    def keep_round(self, each: Measurement, result: RoundResult) -> None:
        """Append a round of a measurement that is under way."""
        self._journal.append(
            {
                "record": "round",
                "key": resume_key(each.point, self._identity),
                "look": each.look,
                "round": result.to_dict(),
                "run": self.run,
            }
        )

    def keep(self, each: Measurement) -> bool:
        """Append a measurement; False if there is nothing to say about it yet."""
        if each.status is None and not each.rounds:
            return False
        point = each.point
        error = each.relative_error
        record = {
            "record": "point",
            "key": resume_key(point, self._identity),
            "operator": point.operator.name,
            "fields": point.fields,
            "regime": point.regime,
            "cache": point.cache,
            "tier": point.tier,
            "status": each.final_status,
            "note": each.note,
            "relative_error": error if error is not None and isfinite(error) else None,
            "rounds": [result.to_dict() for result in each.rounds],
            "run": self.run,
        }
        self._journal.append(record)
        self.rows.append(row_of(record))
        return True

    def keep_control(self, operator: str, result: RoundResult) -> None:
        """Append a round of a drift control."""
        record = {"record": "control", "operator": operator, "run": self.run}
        self._journal.append(record | result.to_dict())

    def keep_cross_check(self, row: Row | None, **seen: object) -> None:
        """Append what the profiler saw of a point; ``row`` is None for words about all of them."""
        record: Record = {"record": "cross_check", "run": self.run}
        if row is not None:
            record |= {"point": str(row.operator), "cache": row.cache, "seconds": row.seconds}
        self._journal.append(record | seen)


def _begun(records: Iterable[Record], done: set[str]) -> dict[str, tuple[int, list[RoundResult]]]:
    """Rounds of points that have no record of their own yet; a second look replaces the first."""
    begun: dict[str, tuple[int, list[RoundResult]]] = {}
    for record in records:
        if record["record"] != "round" or record["key"] in done:
            continue
        look, rounds = begun.get(record["key"], (0, []))
        if record["look"] > look:
            look, rounds = record["look"], []
        begun[record["key"]] = look, [*rounds, RoundResult(**record["round"])]
    return begun
