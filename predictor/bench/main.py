"""One run of ``bench-run``, from options to tables."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from predictor.bench import provenance
from predictor.bench.budget import Budget, BudgetEnded
from predictor.bench.cross_check import cross_check, held_seconds, summary
from predictor.bench.ending import EXIT_CODES, Ending, Terminated, stoppable, uninterrupted
from predictor.bench.journal import JOURNAL_FILE, CannotWrite, Journal
from predictor.bench.messages import Hello, Start
from predictor.bench.options import Options, arguments, folder_of, planned_points, ranks_of
from predictor.bench.output import report, rows_of, write_results
from predictor.bench.points import Point
from predictor.bench.process import Worker
from predictor.bench.progress import Progress
from predictor.bench.ranks import spawner, world_of
from predictor.bench.raw import RAW_FILE, RawSamples
from predictor.bench.recorder import Recorder
from predictor.bench.runner import Runner
from predictor.bench.screening import Limits
from predictor.bench.session import Session
from predictor.bench.sku import MOCK_SKU, sku_of
from predictor.bench.telemetry import Telemetry, nvml_source
from predictor.errors import BenchError, PredictorError
from predictor.tables import Row, read_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a run.

    Attributes:
        sku: Measured SKU.
        folder: Where the tables are.
        run: Key in runs.toml.
        rows: All rows of the journal.
        left: Points of the sweep that no time was left for.
        ending: Why the run ended.
        spent: Where its time went, as :func:`_spent` says.
        cross_check: What the profiler says of the timers.
    """

    sku: str
    folder: Path
    run: str
    rows: tuple[Row, ...]
    left: int
    ending: Ending = "done"
    spent: Mapping[str, float] = field(default_factory=dict)
    cross_check: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """Of the process: see ``EXIT_CODES``."""
        lost = any(row.status in {"crash", "timeout"} for row in self.rows if row.run == self.run)
        return EXIT_CODES["failures" if self.ending == "done" and lost else self.ending]

    def to_dict(self) -> dict[str, Any]:
        """JSON of ``bench-run --json``."""
        return {
            "sku": self.sku,
            "folder": str(self.folder),
            "run": self.run,
            "points": len(self.rows),
            "left": self.left,
            "ending": self.ending,
            "spent": dict(self.spent),
            "cross_check": dict(self.cross_check),
            "operators": report(self.rows),
        }


def run(options: Options, budget: Budget | None = None) -> Outcome:
    """Measure, within the budget, and write the tables.

    Raises:
        BenchError: The run cannot start: no device, a journal of something else, a folder that
            measurements of this device must not go to.
        TableError: The folder holds damaged tables.
    """
    budget = budget or Budget(options.time_budget_seconds)
    world = world_of(os.environ)
    ranks = ranks_of(options, world)
    points = planned_points(options, ranks)
    start = Start(
        device=options.device,
        index=options.index,
        seed=options.seed,
        native_module=options.native_module,
    )
    with spawner(start, budget, ranks=ranks, world=world) as spawn:
        try:
            worker = spawn()
        except BudgetEnded as error:
            raise BenchError(
                f"the time budget of {budget.seconds:.0f} s ended before the device was open"
            ) from error
        workers = chain([worker], iter(spawn, None))
        try:
            return _measure(options, budget, points, worker.hello, lambda: next(workers))
        finally:
            worker.kill()


def _measure(
    options: Options,
    budget: Budget,
    points: Sequence[Point],
    hello: Hello,
    spawn: Callable[[], Worker],
) -> Outcome:
    """Open the journal, run, and write what came of it."""
    mock = options.device == "mock"
    sku = MOCK_SKU if mock else sku_of(hello.properties, options.sku)
    folder = folder_of(options, sku)
    held = read_folder(folder)  # damaged tables are refused now, not when there is something to add
    if options.new:
        there = chain.from_iterable(table.rows for table in held.tables.values())
        known = {row.key[:3] for row in there if row.status == "ok"}
        points = [point for point in points if point.identity not in known]
    identity = provenance.identity(hello, sku)
    at = provenance.now()
    limits = limits_of(sku, hello)
    progress = Progress(budget)
    source = None if mock else nvml_source(str(hello.properties.get("pci_bus_id", "")))
    described = provenance.describe_run(hello, sku=sku, at=at, arguments=arguments(options))
    with (
        _opened(folder, identity, resume=options.resume) as journal,
        stoppable(),
        Telemetry(source) as telemetry,
        progress,
    ):
        begun = (record["run"] for record in journal.records if record["record"] == "run")
        key = provenance.run_key(sku, at, {*held.runs, *begun})
        journal.append({"record": "run", "run": key, "provenance": described})
        recorder = Recorder(journal, identity=identity, run=key)
        raw = RawSamples(folder / RAW_FILE, run=key, resume=options.resume, say=progress.say)
        session = Session(
            spawn,
            recorder=recorder,
            telemetry=None if mock else telemetry,
            say=progress.say,
            raw=raw.add if options.raw else None,
        )
        runner = Runner(
            session=session,
            recorder=recorder,
            budget=budget,
            limits=limits,
            progress=progress,
            virtual_clock=mock,
            seed=options.seed,
        )
        began = time.monotonic()
        ending: Ending = "done"
        spent: dict[str, float] = {}
        try:
            budget.hold(held_seconds(budget.seconds))
            runner.run(points)
            ending = runner.ending
            spent = _spent(time.monotonic() - began, session, recorder)
            budget.hold(0.0)
            if ending == "done":
                session.close()
                cross_check(recorder, spawn, budget, seed=options.seed, say=progress.say)
        except KeyboardInterrupt as error:
            ending = "terminated" if isinstance(error, Terminated) else "interrupted"
            progress.say("stopped; what was measured is kept")
        except CannotWrite as error:
            ending = "cannot write"
            progress.say(str(error))
        finally:
            with uninterrupted():
                rows, written = _finish(folder, journal, limits, key, runner.left, spent)
            session.close()
        if written:
            progress.say(written)
            ending = "cannot write"
    return Outcome(
        sku=sku,
        folder=folder,
        run=key,
        rows=tuple(rows),
        left=runner.left,
        ending=ending,
        spent=spent,
        cross_check=summary([r for r in journal.records if r.get("run") == key]),
    )


def _finish(
    folder: Path,
    journal: Journal,
    limits: Limits,
    run: str,
    left: int,
    spent: Mapping[str, float],
) -> tuple[list[Row], str]:
    """Write the tables; their rows, and what kept them from being written."""
    try:
        if spent:
            journal.append({"record": "spent", "run": run, **spent})
        rows = write_results(folder, journal.records, limits)
        journal.append({"record": "end", "run": run, "left": left})
    except (OSError, CannotWrite) as error:
        words = f"the tables were not written ({error}); the journal is kept, go on with --resume"
        return rows_of(journal.records), words
    return rows, ""


def _spent(wall_seconds: float, session: Session, recorder: Recorder) -> dict[str, float]:
    """Wall seconds of the measuring, those inside timed rounds, and the rest for each point."""
    points = max(len(recorder.rows), 1)
    return {
        "wall_seconds": wall_seconds,
        "timed_seconds": session.loaded_seconds,
        "overhead_seconds_per_point": (wall_seconds - session.loaded_seconds) / points,
    }


def _opened(folder: Path, identity: dict[str, Any], *, resume: bool) -> Journal:
    path = folder / JOURNAL_FILE
    return Journal.resume(path, identity) if resume else Journal.create(path, identity)


def limits_of(sku: str, hello: Hello) -> Limits:
    """The physics that a SKU's numbers are screened by, as far as its gpu.toml knows them."""
    l2_bytes = float(hello.properties.get("l2_bytes") or 0)
    if sku == MOCK_SKU:
        return Limits(flops_per_second={"bf16": 100e12}, bytes_per_second=1e12, l2_bytes=l2_bytes)
    from predictor.case import load_gpu  # noqa: PLC0415 - only where a GPU is measured

    try:
        gpu = load_gpu(sku)
    except PredictorError:
        return Limits(l2_bytes=l2_bytes)
    return Limits(
        flops_per_second=gpu.peak_flops_per_second,
        bytes_per_second=gpu.memory_bytes_per_second,
        l2_bytes=l2_bytes,
    )
