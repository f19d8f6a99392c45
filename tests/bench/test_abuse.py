"""What a run survives: kills at any moment, signals, random errors, clocks."""

import multiprocessing
import os
import random
import re
import runpy
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from apart import rounds_in, start, wait_for_rounds, wait_until

from predictor.bench import session
from predictor.bench.main import Outcome
from predictor.bench.points import Point
from predictor.errors import BenchError
from predictor.tables import read_folder

Measure = Callable[..., Outcome]
MakePoint = Callable[..., Point]
Intact = Callable[..., dict[str, list[int]]]

HERE = Path(__file__).parent
SHARE_AT_START = 0.2
FAULTS = runpy.run_path(str(HERE / "faults.py"))["FAULTS"]
promise = FAULTS.__getitem__
DOUBLE = runpy.run_path(str(HERE / "native_double.py"))["FAULTS"]


def workers_of(pid: int) -> list[int]:
    """The spawned processes of a process."""
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            try:
                if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.append(int(child))
            except OSError:
                continue
    return found


def test_every_promise_is_tested() -> None:
    tests = "".join(path.read_text() for path in HERE.glob("test_*.py"))
    assert set(re.findall(r'promise\("([^"]+)"\)', tests)) == set(FAULTS)


# --- kills ----------------------------------------------------------------------------------------


class Killer(threading.Thread):
    """Kills workers of this process at random moments: after some writing, or as they start."""

    def __init__(self, kills: int, path: Path) -> None:
        super().__init__(daemon=True)
        self.left = kills
        self.killed = 0
        self.ended = threading.Event()
        self._path = path

    def run(self) -> None:
        moments = random.Random(0)  # noqa: S311 - moments, not secrets
        while self.left and not self.ended.is_set():
            if moments.random() < SHARE_AT_START:
                self.ended.wait(moments.uniform(0.0, 0.3))
            else:
                self._wait_for_bytes(moments.randrange(6_000))
            workers = workers_of(os.getpid())
            for worker in workers:
                os.kill(worker, signal.SIGKILL)
            self.killed += len(workers)
            self.left -= min(len(workers), self.left)

    def _wait_for_bytes(self, count: int) -> None:
        begin = self._written()
        while self._written() < begin + count and not self.ended.wait(0.001):
            pass

    def _written(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0


@pytest.mark.slow
def test_fifty_kills_of_workers_cost_a_point_each_at_most(
    measure: Measure,
    point: MakePoint,
    intact: Intact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("predictor.bench.runner.MAX_LOSSES", 1000)
    monkeypatch.setenv("DOUBLE_ROUND_WALL_SECONDS", "0.002")
    points = [point(m) for m in range(64, 64 + 400)]
    killer = Killer(50, tmp_path / "out" / "journal.jsonl")
    killer.start()
    try:
        while killer.is_alive():
            with suppress(BenchError):  # killed as it opened the device: the run did not start
                outcome = measure(*points, resume=True)
                assert outcome.exit_code in promise("worker killed").exit_codes
                lost = intact(tmp_path / "out").get("crash", [])
                assert len(lost) <= killer.killed
    finally:
        killer.ended.set()
    assert killer.killed >= 50
    assert len(intact(tmp_path / "out")["ok"]) > 50


@pytest.mark.slow
def test_kills_at_random_moments_lose_the_round_under_way_at_most(
    script: Path, tmp_path: Path, intact: Intact
) -> None:
    path = tmp_path / "out" / "journal.jsonl"
    moments = random.Random(0)  # noqa: S311 - moments, not secrets
    for _ in range(4):
        known = rounds_in(path)
        run = start(script, 0, 48, DOUBLE_ROUND_WALL_SECONDS="0.01")
        wait_for_rounds(path, known + moments.randrange(1, 30))
        run.send_signal(signal.SIGKILL)
        run.communicate(timeout=30)
        assert run.returncode in promise("bench-run killed").exit_codes
    output, words = start(script, 0, 48).communicate(timeout=60)
    assert output.split() == ["48", "0", "done"], words
    assert len(intact(tmp_path / "out")["ok"]) == 48
    assert rounds_in(path) == 3 * 48, "each round is measured once, whoever was killed"


def test_a_worker_that_waits_for_ever_ends_with_bench_run(script: Path, tmp_path: Path) -> None:
    run = start(script, 0, 1, DOUBLE["hangs_in_prepare"], DOUBLE_FOLDER=str(tmp_path))
    wait_until((tmp_path / "hangs").exists, "the point is not prepared")
    (worker,) = workers_of(run.pid)
    run.send_signal(signal.SIGKILL)
    run.communicate(timeout=30)
    wait_until(lambda: not Path(f"/proc/{worker}").exists(), "the worker outlives its run")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "ending"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")]
)
def test_a_signal_ends_a_run_with_its_tables(
    script: Path,
    tmp_path: Path,
    intact: Intact,
    how: signal.Signals,
    ending: str,
) -> None:
    run = start(script, 0, 200, DOUBLE_ROUND_WALL_SECONDS="0.02")
    wait_for_rounds(tmp_path / "out" / "journal.jsonl", 110)
    run.send_signal(how)
    output, _ = run.communicate(timeout=30)
    rows, left, *words = output.split()
    codes = promise("Ctrl-C") if how == signal.SIGINT else promise("SIGTERM")
    assert run.returncode in codes.exit_codes
    assert " ".join(words) == ending
    assert int(rows) + int(left) == 200
    assert len(intact(tmp_path / "out")["ok"]) == int(rows) > 0


# --- the device -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "code"), [((), 0), ((70006,), 3), ((70001,), 3), ((70005,), 0), ((10**9,), 0)]
)
def test_the_exit_code_tells_crashes_from_what_cannot_be_measured(
    measure: Measure, point: MakePoint, bad: tuple[int, ...], code: int
) -> None:
    outcome = measure(point(64), *(point(m) for m in bad))
    assert outcome.exit_code == code
    assert outcome.ending == "done"


def test_a_device_that_does_not_come_back_has_its_exit_code(
    measure: Measure, point: MakePoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("predictor.bench.session.MAX_RESTARTS", 0)
    outcome = measure(point(70001), point(64))
    assert outcome.ending == "device lost"
    assert outcome.exit_code in promise("device lost").exit_codes


def test_errors_at_random_calls_cost_their_points(
    measure: Measure,
    point: MakePoint,
    intact: Intact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("predictor.bench.runner.MAX_LOSSES", 1000)
    monkeypatch.setenv("DOUBLE_FOLDER", str(tmp_path))
    rates = {"NativeError": 0.01, "OutOfDeviceMemory": 0.01, "DeviceFault": 0.005}
    for name, rate in rates.items():
        monkeypatch.setenv(f"DOUBLE_{name}", str(rate))
    outcome = measure(*(point(m) for m in range(64, 264)))
    assert outcome.exit_code in promise("CUDA errors").exit_codes
    assert outcome.left == 0
    found = {status: len(points) for status, points in intact(tmp_path / "out").items()}
    assert sum(found.values()) == 200
    assert min(found.get(status, 0) for status in ("crash", "oom")) > 0
    assert found["ok"] > 150


def test_a_library_without_memory_is_no_crash(
    measure: Measure, point: MakePoint, intact: Intact, tmp_path: Path
) -> None:
    outcome = measure(point(64), point(DOUBLE["library_oom"]), point(65))
    assert outcome.exit_code in promise("no memory in a library").exit_codes
    assert intact(tmp_path / "out") == {"ok": [64, 65], "oom": [DOUBLE["library_oom"]]}


# --- clocks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [timedelta(), timedelta(days=1)])
def test_runs_stay_apart_though_the_calendar_goes_back(
    measure: Measure,
    point: MakePoint,
    intact: Intact,
    monkeypatch: pytest.MonkeyPatch,
    jump: timedelta,
) -> None:
    today = datetime(2026, 1, 2, tzinfo=UTC)
    monkeypatch.setattr("predictor.bench.provenance.now", lambda: today)
    path = measure(point(64)).folder / "journal.jsonl"
    # As if it had been killed before its tables were written.
    for table in ("gemm.csv", "runs.toml"):
        (path.parent / table).unlink()
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    monkeypatch.setattr("predictor.bench.provenance.now", lambda: today - jump)
    outcome = measure(point(64), point(65), resume=True)
    assert outcome.exit_code in promise("time goes back").exit_codes
    assert intact(outcome.folder) == {"ok": [64, 65]}
    assert len(read_folder(outcome.folder).runs) == 2


def test_a_clock_that_is_ahead_does_not_let_the_gpu_idle(
    point: MakePoint,
) -> None:
    asked: list[float] = []

    class Ahead:
        hello = None

        def ask(self, request: str, *arguments: Any, **_: Any) -> Any:
            asked.append(arguments[2])
            result = journal_round(begin_seconds=1e9, end_seconds=1e9 + 1)
            return (result, []) if request == "sample" else None

    telemetry = session.Telemetry(None)
    held = session.Session(Ahead, recorder=None, telemetry=telemetry, say=print)  # type: ignore[arg-type]
    for _ in range(2):
        held.sample(0, point(64))
    assert asked[1] <= time.monotonic() + session.IDLE_SECONDS


def journal_round(**values: float) -> Any:
    from predictor.bench.rounds import RoundResult  # noqa: PLC0415 - of one test

    return RoundResult(seconds=1.0, seconds_low=1.0, seconds_high=1.0, samples=1, **values)


def test_no_worker_is_left_over(measure: Measure, point: MakePoint) -> None:
    measure(point(64), point(DOUBLE["killed"]), point(DOUBLE["sticky"]))
    assert multiprocessing.active_children() == []
