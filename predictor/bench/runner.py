"""The order of a run: chunks of points through a worker, results into the journal.

A chunk of points is prepared, then its rounds run in random order, so that a drift of the GPU falls
on all alike; what looks wrong is measured once more, results are checked, and each point becomes
one journal record. A fault or a hang costs its point and a restart of the worker. Nothing here may
end a run early but the budget, the user, or a device that does not come back.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from predictor.bench.budget import Budget, BudgetEnded
from predictor.bench.chunks import chunks
from predictor.bench.journal import CannotWrite
from predictor.bench.points import Point
from predictor.bench.process import RequestFailed
from predictor.bench.progress import Progress
from predictor.bench.recorder import Measurement, Recorder
from predictor.bench.screening import Limits, faults, neighbour_faults
from predictor.bench.session import DeviceLost, Session

if TYPE_CHECKING:
    from predictor.bench.ending import Ending

MAX_LOSSES: Final = 2
"""Workers that points of one kind may cost before the rest of that kind is given up."""
CHECK_TOLERANCE: Final = 2e-2
FINE_CHECK_TOLERANCE: Final = {"tf32": 5e-3}
"""Of formats that round less than bf16, so that a product in a coarser one is noticed."""


class Runner:
    """Measures the points of a plan until they, the budget or the device end."""

    def __init__(  # noqa: PLR0913 - the parts of a run
        self,
        *,
        session: Session,
        recorder: Recorder,
        budget: Budget,
        limits: Limits,
        progress: Progress,
        virtual_clock: bool = False,
        seed: int = 0,
    ) -> None:
        """Take the run's parts; on a virtual clock, rounds cost no time of the budget."""
        self.left = 0
        self.ending: Ending = "done"
        self._session = session
        self._recorder = recorder
        self._budget = budget
        self._limits = limits
        self._progress = progress
        self._virtual_clock = virtual_clock
        self._losses: Counter[tuple[object, ...]] = Counter()
        self._random = random.Random(seed)  # noqa: S311 - an order of rounds, not a secret

    def run(self, points: Sequence[Point]) -> None:
        """Measure what the journal does not hold yet; ``left`` and ``ending`` say the rest."""
        waiting = [point for point in points if not self._recorder.is_done(point)]
        self.left = len(waiting)
        self._progress.begin(total=len(points), done=len(points) - len(waiting))
        try:
            in_chunks = list(chunks(waiting, self._limits.l2_bytes))
            self._foresee(in_chunks[0] if in_chunks else [])
            self._session.prepare_controls()
            for chunk, following in zip(in_chunks, [*in_chunks[1:], []], strict=False):
                self._measure(chunk, following)
        except BudgetEnded:
            self._progress.say("the time budget has ended; what was measured is kept")
        except CannotWrite as error:
            self.ending = "cannot write"
            self._progress.say(str(error))
        except DeviceLost as error:
            self.ending = "device lost"
            self._progress.say(f"{error}; what was measured is kept")

    def _measure(self, points: Sequence[Point], following: Sequence[Point] = ()) -> None:
        """One chunk; points that ran out of memory beside others are tried again alone.

        The host begins with the chunk that follows while the GPU measures this one.
        """
        chunk = [self._recorder.begin(point, key) for key, point in enumerate(points)]
        crowded: list[Point] = []
        try:
            self._prepare(chunk, crowded)
            self._foresee(following, chunk)
            self._run_rounds(chunk, chunk)
            self._second_look(chunk)
            self._check_results(chunk)
        except CannotWrite:
            raise  # points that lack rounds are gone on with, as far as their rounds were written
        except BaseException:
            self._keep(chunk, crowded)
            raise
        self._keep(chunk, crowded)
        self._release(chunk)
        for point in crowded:
            self._measure([point])

    def _keep(self, chunk: Iterable[Measurement], crowded: Sequence[Point]) -> None:
        for each in chunk:
            if each.point not in crowded and self._recorder.keep(each):
                self.left -= 1
                self._progress.advance(each.final_status)

    def _foresee(self, points: Sequence[Point], chunk: Iterable[Measurement] = ()) -> None:
        if points:
            self._guarded(lambda: self._session.foresee(points), None, chunk)

    def _prepare(self, chunk: list[Measurement], crowded: list[Point]) -> None:
        """Build workloads while there is time left to sample them.

        Native ones first: PyTorch may still be imported meanwhile.
        """
        sampling = 0.0
        for each in sorted(chunk, key=lambda each: not each.point.is_native):
            if not self._virtual_clock:
                sampling += each.point.sampling_seconds
            if self._budget.remaining() < sampling + self._building_seconds(each.point):
                if not any(other.prepared for other in chunk):
                    raise BudgetEnded
                return
            self._prepare_one(each, chunk)
            if each.status == "oom" and any(other.prepared for other in chunk):
                crowded.append(each.point)

    def _building_seconds(self, point: Point) -> float:
        return 0.0 if self._virtual_clock else point.prepare_seconds

    def _round_wall_seconds(self, point: Point) -> float:
        return 0.0 if self._virtual_clock else point.sampling_seconds / point.rounds

    def _prepare_one(self, each: Measurement, chunk: Iterable[Measurement]) -> None:
        each.prepared = False
        if self._losses[each.point.kind] >= MAX_LOSSES:
            each.fail("crash", f"not tried: {MAX_LOSSES} points of this kind cost the worker")
            return
        try:
            self._session.prepare(each.key, each.point)
        except RequestFailed as failure:
            self._fail(each, failure, chunk)
        else:
            each.prepared = True

    def _run_rounds(self, due: list[Measurement], chunk: list[Measurement]) -> None:
        """Passes over the measurements, each in a new random order, until none lacks a round."""
        while True:
            passing = [m for m in due if m.open and len(m.rounds) < m.point.rounds]
            if not passing:
                return
            self._random.shuffle(passing)
            for each in passing:
                self._budget.check(self._round_wall_seconds(each.point))
                self._guarded(self._session.control, None, chunk)
                if each.open:
                    self._guarded(lambda each=each: self._sample(each), each, chunk)  # type: ignore[misc]

    def _sample(self, each: Measurement) -> None:
        result = self._session.sample(each.key, each.point)
        if result.is_sound:
            self._recorder.keep_round(each, result)
            each.rounds.append(result)
        else:
            each.fail("crash", f"a round of {result.seconds} s a launch is no measurement")

    def _guarded(
        self, work: Callable[[], None], each: Measurement | None, chunk: Iterable[Measurement]
    ) -> None:
        """Do a piece of work whose failure costs one measurement at most."""
        try:
            work()
        except RequestFailed as failure:
            if each is None:
                self._recover(failure, chunk)
            else:
                self._fail(each, failure, chunk)

    def _fail(
        self, each: Measurement, failure: RequestFailed, chunk: Iterable[Measurement]
    ) -> None:
        each.fail(failure.status, str(failure))
        self._losses[each.point.kind] += failure.lost
        self._recover(failure, chunk)

    def _second_look(self, chunk: list[Measurement]) -> None:
        """Measure again, once, what breaks a rule or was throttled; the second look counts."""
        suspects = self._suspects(chunk)
        first = {each.key: each.rounds for each in suspects}
        for each in suspects:
            each.rounds, each.look = [], 1
        try:
            self._run_rounds(suspects, chunk)
        finally:
            for each in suspects:
                if each.status is None and len(each.rounds) < each.point.rounds:
                    each.rounds = first[each.key]
                else:
                    each.note = each.note or "measured twice"

    def _suspects(self, chunk: list[Measurement]) -> list[Measurement]:
        rows = {m.key: m.row(self._recorder.run) for m in chunk if m.open and m.rounds}
        neighbours = neighbour_faults(rows.values(), [*self._recorder.rows, *rows.values()])
        dominated = {row.key for row, _ in neighbours}
        return [
            each
            for each in chunk
            if (row := rows.get(each.key))
            and not each.look
            and (row.status == "throttled" or row.key in dominated or faults(row, self._limits))
        ]

    def _check_results(self, chunk: list[Measurement]) -> None:
        """Compare each native workload's result with the reference."""
        for each in chunk:
            if not (each.open and each.point.is_native):
                continue
            try:
                each.relative_error = self._session.check(each.key)
            except RequestFailed as failure:
                each.note = f"not checked: {failure}"
                self._recover(failure, chunk)
                continue
            dtype = str(each.point.fields.get("dtype"))
            tolerance = FINE_CHECK_TOLERANCE.get(dtype, CHECK_TOLERANCE)
            if not each.relative_error <= tolerance:
                error = each.relative_error
                each.fail("crash", f"wrong result: relative error {error:.3g} > {tolerance}")

    def _release(self, chunk: Iterable[Measurement]) -> None:
        try:
            self._session.release([each.key for each in chunk])
        except RequestFailed as failure:
            self._recover(failure, ())

    def _recover(self, failure: RequestFailed, chunk: Iterable[Measurement]) -> None:
        """After the worker was lost: a new one, with the rest of the chunk prepared again."""
        if not failure.lost:
            return
        self._session.restart()
        lost = [each for each in chunk if each.open]
        for each in lost:
            each.prepared = False
        for each in lost:  # those before it once more, where one costs the new worker too
            self._prepare_one(each, lost)
