"""What a run survives: a full disk, a second run, signals, a kill at any moment."""

import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from predictor.bench.journal import Journal, read_records
from predictor.bench.main import Outcome
from predictor.bench.points import Point
from predictor.errors import BenchError
from predictor.tables import read_folder

Measure = Callable[..., Outcome]
MakePoint = Callable[..., Point]

SCRIPT = """
import resource, signal, sys
sys.path.insert(0, {here!r})
from pathlib import Path
from predictor.bench.main import Options, run
from predictor.bench.points import Point
from predictor.operators import Gemm

if __name__ == "__main__":
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
    path.write_text(SCRIPT.format(here=str(Path(__file__).parent), out=str(tmp_path / "out")))
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


def rounds_in(journal: Path) -> int:
    """Rounds on disk."""
    records = read_records(journal) if journal.exists() else []
    return sum(record["record"] == "round" for record in records)


def wait_for_rounds(journal: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while rounds_in(journal) < count:
        assert time.monotonic() < deadline, "the run does not get on"
        time.sleep(0.01)


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
    assert (outcome.ending, outcome.exit_code) == ("device lost", 4)


@pytest.mark.slow
def test_a_full_disk_stops_the_run_and_room_lets_it_go_on(script: Path, tmp_path: Path) -> None:
    full = start(script, 30_000, 60)
    output, words = full.communicate(timeout=60)
    assert full.returncode == 5, words
    assert "make room, then go on with --resume" in words
    assert "Traceback" not in words
    journal = tmp_path / "out" / "journal.jsonl"
    measured = rounds_in(journal)
    assert 0 < measured < 180
    again = start(script, 0, 60)
    output, words = again.communicate(timeout=60)
    assert (again.returncode, output.split()) == (0, ["60", "0", "done"]), words
    assert rounds_in(journal) == 180, "no round is measured twice"
    assert len(read_folder(tmp_path / "out").tables["gemm"].rows) == 60


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "code", "ending"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_signal_ends_a_run_with_its_tables(
    script: Path, tmp_path: Path, how: signal.Signals, code: int, ending: str
) -> None:
    run = start(script, 0, 200, DOUBLE_ROUND_WALL_SECONDS="0.02")
    wait_for_rounds(tmp_path / "out" / "journal.jsonl", 110)
    run.send_signal(how)
    output, _ = run.communicate(timeout=30)
    rows, left, *words = output.split()
    assert (run.returncode, " ".join(words)) == (code, ending)
    assert int(rows) + int(left) == 200
    assert len(read_folder(tmp_path / "out").tables["gemm"].rows) == int(rows) > 0


@pytest.mark.slow
def test_kills_at_random_moments_lose_the_round_under_way_at_most(
    script: Path, tmp_path: Path
) -> None:
    journal = tmp_path / "out" / "journal.jsonl"
    moments = random.Random(0)  # noqa: S311 - moments, not secrets
    for _ in range(4):
        known = rounds_in(journal)
        run = start(script, 0, 48, DOUBLE_ROUND_WALL_SECONDS="0.01")
        wait_for_rounds(journal, known + moments.randrange(1, 30))
        run.send_signal(signal.SIGKILL)
        run.communicate(timeout=30)
    output, words = start(script, 0, 48).communicate(timeout=60)
    assert output.split() == ["48", "0", "done"], words
    records = read_records(journal)
    keys = [r["key"] for r in records if r["record"] == "point"]
    assert len(keys) == len(set(keys)) == 48
    assert rounds_in(journal) == 3 * 48, "each round is measured once, whoever was killed"


def test_a_second_run_on_a_folder_is_refused(
    measure: Measure, point: MakePoint, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    with (
        Journal.create(tmp_path / "out" / "journal.jsonl", {}),
        pytest.raises(BenchError, match="another bench-run writes in"),
    ):
        measure(point(64))
    assert measure(point(64), resume=True, out=tmp_path / "other").exit_code == 0


def test_a_folder_that_cannot_be_written_is_one_line(
    measure: Measure, point: MakePoint, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("a file, no folder")
    with pytest.raises(BenchError, match="cannot be written"):
        measure(point(64))


def test_a_record_torn_by_a_full_disk_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal.create(path, {}) as journal:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, before[1]))
        try:
            with pytest.raises(BenchError, match="make room"):
                journal.append({"record": "point", "key": "a"})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        journal.append({"record": "point", "key": "b"})
    assert [r.get("key") for r in read_records(path)] == [None, "b"]
