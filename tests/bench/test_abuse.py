"""What a run survives: kills at any moment, signals, random errors, disks, clocks, a second run."""

import errno
import multiprocessing
import os
import random
import re
import resource
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from predictor.bench import cli, journal, session
from predictor.bench.journal import Journal, read_records
from predictor.bench.main import Options, Outcome
from predictor.bench.points import Point
from predictor.bench.recorder import Recorder
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

SCRIPT = """
import sys
sys.path.insert(0, {here!r})

if __name__ == "__main__":
    import resource, signal
    from pathlib import Path
    from predictor.bench.main import Options, run
    from predictor.bench.points import Point
    from predictor.operators import Gemm

    # A shell that starts the tests in the background has them ignore Ctrl-C, and so would this.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    limit, count, *bad = map(int, sys.argv[1:])
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    points = tuple(Point(operator=Gemm(m=m, n=256, k=256)) for m in (*range(64, 64 + count), *bad))
    outcome = run(Options(device="mock", native_module="native_double", out=Path({out!r}),
                          points=points, resume=True, time_budget_seconds=120.0))
    print(len(outcome.rows), outcome.left, outcome.ending)
    sys.exit(outcome.exit_code)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A run in a process of its own: the largest file's bytes (0: any), then how many points."""
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(here=str(HERE), out=str(tmp_path / "out")))
    return path


def start(script: Path, *arguments: int, **environment: str) -> "subprocess.Popen[str]":
    """Start the run."""
    search = [entry or str(Path.cwd()) for entry in sys.path]
    return subprocess.Popen(
        [sys.executable, str(script), *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(search)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def rounds_in(path: Path) -> int:
    """Rounds on disk."""
    records = read_records(path) if path.exists() else []
    return sum(record["record"] == "round" for record in records)


def wait_for_rounds(path: Path, count: int) -> None:
    wait_until(lambda: rounds_in(path) >= count, "the run does not get on")


def wait_until(true: Callable[[], bool], words: str) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, words
        time.sleep(0.01)


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


# --- disks ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_full_disk_stops_the_run_and_room_lets_it_go_on(
    script: Path, tmp_path: Path, intact: Intact
) -> None:
    full = start(script, 30_000, 60)
    output, words = full.communicate(timeout=60)
    assert full.returncode in promise("disk full").exit_codes, words
    assert "make room, then go on with --resume" in words
    assert "Traceback" not in words
    path = tmp_path / "out" / "journal.jsonl"
    measured = rounds_in(path)
    assert 0 < measured < 180
    again = start(script, 0, 60)
    output, words = again.communicate(timeout=60)
    assert (again.returncode, output.split()) == (0, ["60", "0", "done"]), words
    assert rounds_in(path) == 180, "no round is measured twice"
    assert len(intact(tmp_path / "out")["ok"]) == 60


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        failed = subprocess.run(mount, check=False, capture_output=True).returncode
    except OSError:
        failed = 1
    if failed:
        pytest.skip("a small tmpfs: this user may not mount one")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)  # noqa: S607


def test_a_full_tmpfs_ends_the_run_and_room_lets_it_go_on(
    measure: Measure, point: MakePoint, intact: Intact, small_disk: Path
) -> None:
    points = [point(m) for m in range(64, 124)]
    full = measure(*points, out=small_disk / "out")
    assert full.exit_code in promise("disk full").exit_codes
    intact(small_disk / "out", tables=False)
    larger = ["mount", "-o", "remount,size=8m", str(small_disk)]
    subprocess.run(larger, check=True)
    assert measure(*points, out=small_disk / "out", resume=True).exit_code == 0
    assert len(intact(small_disk / "out")["ok"]) == 60


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS], ids=errno.errorcode.get)
def test_a_write_that_fails_ends_the_run_and_loses_nothing(
    measure: Measure,
    point: MakePoint,
    intact: Intact,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
) -> None:
    writes = iter(range(1000))
    at = random.Random(code).randrange(5, 60)  # noqa: S311 - a moment, not a secret

    def failing(descriptor: int) -> None:
        if next(writes) == at:
            raise OSError(code, os.strerror(code))
        sync(descriptor)

    sync = os.fsync
    monkeypatch.setattr(journal.os, "fsync", failing)
    points = [point(m) for m in range(64, 84)]
    outcome = measure(*points)
    kind = promise("disk read-only") if code == errno.EROFS else promise("disk full")
    assert outcome.exit_code in kind.exit_codes
    monkeypatch.undo()
    monkeypatch.syspath_prepend(str(HERE))
    assert measure(*points, resume=True).exit_code == 0
    assert len(intact(outcome.folder)["ok"]) == 20


def test_a_read_only_disk_is_said_before_anything_is_measured(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refusing(*_: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(journal.os, "open", refusing)
    monkeypatch.setattr(
        "sys.argv", ["bench-run", "--device", "mock", "--out", str(tmp_path / "out")]
    )
    monkeypatch.setattr(
        "predictor.bench.main.Options",
        lambda **v: Options(**v | {"native_module": "native_double"}),
    )
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code in promise("disk read-only").exit_codes
    assert "Read-only file system" in capsys.readouterr().err


def test_a_slow_disk_costs_budget_and_nothing_else(
    measure: Measure,
    point: MakePoint,
    intact: Intact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sync = os.fsync

    def slow(descriptor: int) -> None:
        time.sleep(0.02)
        sync(descriptor)

    monkeypatch.setattr(journal.os, "fsync", slow)
    monkeypatch.setattr("predictor.bench.budget.process_started", time.monotonic)
    begin = time.monotonic()
    outcome = measure(*(point(m) for m in range(64, 264)), time_budget_seconds=4.0)
    assert time.monotonic() - begin < 4.0
    assert outcome.exit_code in promise("disk slow").exit_codes
    assert len(intact(tmp_path / "out")["ok"]) + outcome.left == 200


def test_a_folder_that_cannot_be_written_is_one_line(
    measure: Measure, point: MakePoint, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("a file, no folder")
    with pytest.raises(BenchError, match="cannot be written"):
        measure(point(64))


# --- the journal ----------------------------------------------------------------------------------


def test_a_record_torn_by_a_full_disk_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal.create(path, {}) as written:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, before[1]))
        try:
            with pytest.raises(BenchError, match="make room"):
                written.append({"record": "point", "key": "a"})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        written.append({"record": "point", "key": "b"})
    assert [r.get("key") for r in read_records(path)] == [None, "b"]


def test_a_journal_cut_anywhere_keeps_every_whole_record(
    measure: Measure, point: MakePoint
) -> None:
    path = measure(*(point(m) for m in range(64, 70))).folder / "journal.jsonl"
    whole, records = path.read_bytes(), read_records(path)
    identity = records[0]["identity"]
    moments = random.Random(1)  # noqa: S311 - places, not secrets
    for cut in sorted(moments.randrange(len(whole)) for _ in range(100)):
        for tail in (b"", b"\0" * 50):
            path.write_bytes(whole[:cut] + tail)
            with Journal.resume(path, identity) as resumed:
                kept = whole[:cut].count(b"\n") + (cut < len(whole) and whole[cut] == 10)
                assert resumed.records[1:] == records[1 : int(kept)]
                begun = Recorder(resumed, identity=identity, run="again")._begun
                assert all(len(rounds) <= 3 for _, rounds in begun.values())
                resumed.append({"record": "end"})
            assert read_records(path)[-1] == {"record": "end"}


def test_a_torn_journal_is_gone_on_with(
    measure: Measure, point: MakePoint, intact: Intact, tmp_path: Path
) -> None:
    points = [point(m) for m in range(64, 80)]
    path = measure(*points).folder / "journal.jsonl"
    whole = path.read_bytes()
    for cut in (len(whole) // 3, 2 * len(whole) // 3):
        path.write_bytes(whole[:cut])
        outcome = measure(*points, resume=True)
        assert outcome.exit_code in promise("log torn").exit_codes
        assert len(intact(tmp_path / "out", tables=False)["ok"]) == 16


def test_raw_samples_go_on_after_a_torn_line(
    measure: Measure, point: MakePoint, tmp_path: Path
) -> None:
    measure(point(64))
    path = tmp_path / "out" / "samples.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    measure(point(64), point(65), resume=True)
    whole = [line.endswith("}") for line in path.read_text().splitlines()]
    assert whole.count(False) == 1
    assert whole.index(False) < len(whole) - 3


def test_a_second_run_on_a_folder_is_refused(
    measure: Measure,
    point: MakePoint,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "out").mkdir()
    with Journal.create(tmp_path / "out" / "journal.jsonl", {}) as first:
        with pytest.raises(BenchError, match="another bench-run writes in"):
            measure(point(64))
        monkeypatch.setattr(cli, "app", lambda: measure(point(64)))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        first.append({"record": "end"})
    assert ended.value.code in promise("second bench-run").exit_codes
    assert "wait for it or choose another --out" in capsys.readouterr().err
    assert [r["record"] for r in read_records(tmp_path / "out" / "journal.jsonl")] == [
        "header",
        "end",
    ]
    assert measure(point(64), resume=True, out=tmp_path / "other").exit_code == 0


@pytest.mark.parametrize("variable", ["DOUBLE_DRIVER", "DOUBLE_CUBLAS"])
def test_another_driver_or_library_is_not_mixed_in(
    measure: Measure,
    point: MakePoint,
    intact: Intact,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    folder = measure(point(64)).folder
    monkeypatch.setenv(variable, "575.1")
    monkeypatch.setattr(cli, "app", lambda: measure(point(64), point(65), resume=True))
    driver = variable == "DOUBLE_DRIVER"
    kind = promise("driver changed") if driver else promise("library changed")
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code in kind.exit_codes
    assert str(ended.value.__context__).count("driver was" if driver else "libraries was") == 1
    assert intact(folder) == {"ok": [64]}


def test_no_worker_is_left_over(measure: Measure, point: MakePoint) -> None:
    measure(point(64), point(DOUBLE["killed"]), point(DOUBLE["sticky"]))
    assert multiprocessing.active_children() == []
