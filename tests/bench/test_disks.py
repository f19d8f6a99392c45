"""What a run survives on disk: full, slow or read-only ones, torn journals, a second run."""

import errno
import os
import random
import resource
import runpy
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from apart import HERE, rounds_in, start

from predictor.bench import cli, journal
from predictor.bench.journal import Journal, read_records
from predictor.bench.main import Outcome
from predictor.bench.options import Options
from predictor.bench.points import Point
from predictor.bench.recorder import Recorder
from predictor.errors import BenchError

Measure = Callable[..., Outcome]
MakePoint = Callable[..., Point]
Intact = Callable[..., dict[str, list[int]]]

promise = runpy.run_path(str(HERE / "faults.py"))["FAULTS"].__getitem__


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
        "predictor.bench.options.Options",
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
    ends = [place for place, byte in enumerate(whole) if byte == ord("\n")]
    for cut in sorted({*(moments.randrange(len(whole)) for _ in range(100)), *ends[::4]}):
        for tail in (b"", b"\0" * 50):
            path.write_bytes(whole[:cut] + tail)
            with Journal.resume(path, identity) as resumed:
                kept = whole[:cut].count(b"\n") + (cut in ends)
                assert resumed.records[1:] == records[1:kept]
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
