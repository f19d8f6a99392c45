"""A whole run on the double: tables, faults, resume, budget."""

import re
import runpy
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from predictor.bench import process as process_module
from predictor.bench import session
from predictor.bench.journal import read_records
from predictor.bench.main import Outcome, run
from predictor.bench.options import Options
from predictor.bench.points import Point
from predictor.errors import BenchError, NativeMissing, TableError
from predictor.operators import Gemm, Host, MemoryBound
from predictor.tables import read_folder

Measure = Callable[..., Outcome]
MakePoint = Callable[..., Point]
FAULTS = runpy.run_path(str(Path(__file__).with_name("native_double.py")))["FAULTS"]
promise = runpy.run_path(str(Path(__file__).with_name("faults.py")))["FAULTS"].__getitem__


def faulty(point: MakePoint, name: str) -> Point:
    """A point on which the double fails in one way."""
    return point(FAULTS[name])


def statuses(outcome: Outcome) -> dict[int, str]:
    """Status by ``m``."""
    return {row.operator.m: row.status for row in outcome.rows}


def test_a_run_writes_tables_that_are_accepted(measure: Measure, point: MakePoint) -> None:
    others = [
        Point(operator=MemoryBound(kernel="add", rows=512, cols=64, impl="torch"), cache="warm"),
        Point(operator=Host(stack="hf-eager", block="llama")),
        Point(operator=Gemm(m=512, n=256, k=256), sustained_seconds=3.0),
    ]
    outcome = measure(point(64, anchor=True), point(128), *others)
    folder = read_folder(outcome.folder)
    assert outcome.left == 0
    assert set(folder.tables) == {"gemm", "memory_bound", "host"}
    by_m = {row.operator.m: row for row in folder.tables["gemm"].rows}
    assert (by_m[64].rounds, by_m[128].rounds, by_m[512].rounds) == (5, 3, 1)
    assert by_m[512].regime == "sustained"
    work = Gemm(m=128, n=256, k=256)
    toy_seconds = 5e-6 + max(work.flops / 100e12, work.bytes / 1e12)
    assert by_m[128].seconds == pytest.approx(toy_seconds, rel=0.02)
    assert list(folder.runs) == [outcome.run]
    assert folder.runs[outcome.run]["points"] == 5
    assert folder.runs[outcome.run]["controls"]["gemm"]["rounds"] >= 1


def test_what_cannot_be_measured_becomes_a_row_with_its_status(
    measure: Measure, point: MakePoint
) -> None:
    big = Point(operator=Gemm(m=10**6, n=10**5, k=10**5))
    outcome = measure(
        point(64), big, faulty(point, "unsupported"), faulty(point, "raises"), point(128)
    )
    assert statuses(outcome) == {
        64: "ok",
        10**6: "oom",
        FAULTS["unsupported"]: "unsupported",
        FAULTS["raises"]: "crash",
        128: "ok",
    }
    assert outcome.left == 0
    assert outcome.exit_code == 3
    assert measure(point(64), big, out=outcome.folder / "other").exit_code in (
        promise("no memory").exit_codes
    )
    assert read_folder(outcome.folder).tables["gemm"]
    assert any("no such kernel" in f for f in failures(outcome))


def failures(outcome: Outcome) -> list[str]:
    """What the run's provenance says went wrong."""
    return list(read_folder(outcome.folder).runs[outcome.run]["failures"])


def test_a_wrong_result_is_no_measurement(measure: Measure, point: MakePoint) -> None:
    outcome = measure(faulty(point, "wrong"))
    assert [row.status for row in outcome.rows] == ["crash"]
    assert outcome.rows[0].seconds is None
    assert outcome.exit_code in promise("wrong result").exit_codes
    assert "relative error 1" in failures(outcome)[0]


def test_a_round_without_time_is_no_measurement(measure: Measure, point: MakePoint) -> None:
    outcome = measure(point(64), faulty(point, "timeless"))
    assert statuses(outcome) == {64: "ok", FAULTS["timeless"]: "crash"}
    assert "a round of 0.0 s a launch" in failures(outcome)[0]
    assert outcome.exit_code in promise("no time").exit_codes


def test_damaged_tables_are_refused_before_anything_is_measured(
    measure: Measure, point: MakePoint, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "gemm.csv").write_text("m,n,k\n")
    with pytest.raises(TableError, match=r"gemm.csv:1: column 'seconds' is missing"):
        measure(point(64))
    assert promise("tables damaged").exit_codes == (2,), "of every error of a user"
    assert not (tmp_path / "out" / "journal.jsonl").exists()


@pytest.mark.parametrize("fault", ["killed", "sticky"])
def test_a_lost_worker_costs_only_its_point(measure: Measure, point: MakePoint, fault: str) -> None:
    bad = faulty(point, fault)
    outcome = measure(*(point(m) for m in range(64, 70)), bad, *(point(m) for m in range(70, 76)))
    expected = dict.fromkeys(range(64, 76), "ok") | {bad.operator.m: "crash"}
    assert statuses(outcome) == expected
    assert all(row.rounds == 3 for row in outcome.rows if row.status == "ok")
    assert outcome.exit_code in promise("sticky error").exit_codes


@pytest.mark.parametrize("fault", ["hangs", "hangs_in_prepare"])
def test_a_hang_is_killed_at_its_timeout(
    measure: Measure, point: MakePoint, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_SAMPLE_MARGIN_SECONDS", -9.0)
    monkeypatch.setattr(session, "_NATIVE_TIMEOUT_SECONDS", 1.0)
    bad = faulty(point, fault)
    outcome = measure(point(64), bad, point(65))
    assert statuses(outcome) == {64: "ok", bad.operator.m: "timeout", 65: "ok"}
    assert "took more than 1 s" in failures(outcome)[0]
    assert outcome.exit_code in promise("endless kernel").exit_codes


def test_a_worker_that_is_lost_again_and_again_ends_the_run_with_what_there_is(
    measure: Measure, point: MakePoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "MAX_RESTARTS", 1)
    kinds = ("forward", "dgrad", "wgrad")
    bad = [Point(operator=Gemm(m=FAULTS["killed"], n=8, k=8, kind=kind)) for kind in kinds]
    outcome = measure(*bad, point(64))
    assert outcome.left >= 1
    assert {row.status for row in outcome.rows} == {"crash"}
    assert read_folder(outcome.folder).tables["gemm"].rows


def test_a_kind_of_point_that_costs_two_workers_is_given_up(
    measure: Measure, point: MakePoint
) -> None:
    bad = [Point(operator=Gemm(m=FAULTS["killed"], n=n, k=8, kind="wgrad")) for n in range(1, 40)]
    outcome = measure(*bad, point(64), point(65))
    assert outcome.left == 0
    assert [row.status for row in outcome.rows].count("crash") == 39
    assert [row.status for row in outcome.rows].count("ok") == 2
    assert sum("not tried" in failure for failure in failures(outcome)) == 37
    assert outcome.exit_code in promise("kind that kills").exit_codes


def test_memory_that_lacks_only_beside_others_is_tried_again_alone(
    measure: Measure, point: MakePoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "CONTROLS", {})
    crowded = faulty(point, "crowded")
    outcome = measure(point(64), crowded)
    notes = [r["note"] for r in read_records(outcome.folder / "journal.jsonl") if "note" in r]
    assert statuses(outcome) == {64: "ok", crowded.operator.m: "oom"}
    assert notes[-1] == "OutOfDeviceMemory: not beside others"
    assert outcome.exit_code in promise("no memory beside others").exit_codes


def test_resume_measures_only_what_is_left(measure: Measure, point: MakePoint) -> None:
    first = measure(point(64), point(65))
    again = measure(point(64), point(65), point(66), resume=True)
    rows = read_folder(again.folder).tables["gemm"].rows
    assert {row.operator.m: row.run for row in rows if row.operator.m < 66} == dict.fromkeys(
        (64, 65), first.run
    )
    assert len(rows) == 3
    assert again.left == 0


def test_only_what_the_tables_lack_is_measured(measure: Measure, point: MakePoint) -> None:
    first = measure(point(64), point(65))
    (first.folder / "journal.jsonl").unlink()
    again = measure(point(64), point(65), point(66), new=True)
    assert set(statuses(again)) == {66}
    held = read_folder(again.folder).tables["gemm"].rows
    assert {row.operator.m for row in held} == {64, 65, 66}


def test_a_new_run_keeps_the_rows_of_the_old_one(
    measure: Measure, point: MakePoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = measure(point(64))
    monkeypatch.setattr("predictor.bench.provenance.now", lambda: datetime(2026, 1, 2, tzinfo=UTC))
    runs = {first.run, measure(point(64)).run, measure(point(64)).run}
    folder = read_folder(first.folder)
    assert sorted(row.run for row in folder.tables["gemm"].rows) == sorted(folder.runs)
    assert set(folder.runs) == runs
    assert len(runs) == 3


@pytest.mark.parametrize("out", ["bench_results/h100", "bench_results/../bench_results/x"])
def test_the_mock_never_writes_among_real_measurements(
    measure: Measure, point: MakePoint, tmp_path: Path, out: str
) -> None:
    with pytest.raises(BenchError, match="must not go to bench_results"):
        measure(point(64), out=tmp_path / out)
    assert not (tmp_path / "bench_results").exists()


def test_a_missing_extension_is_one_line_with_a_way_out(measure: Measure, point: MakePoint) -> None:
    with pytest.raises(NativeMissing, match=r"build it with `pip install \.`") as caught:
        measure(point(64), native_module="predictor._not_there")
    assert "\n" not in str(caught.value)


def test_a_device_that_is_not_there_is_one_line(point: MakePoint, tmp_path: Path) -> None:
    options = Options(native_module="native_double", out=tmp_path / "out", points=(point(64),))
    with pytest.raises(BenchError, match="no cuda device can be opened: NativeError: no CUDA"):
        run(options)


def test_a_run_ends_inside_its_budget_and_keeps_what_it_has(
    measure: Measure, point: MakePoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOUBLE_ROUND_WALL_SECONDS", "0.05")  # 45 s in all
    monkeypatch.setattr("predictor.bench.budget.process_started", time.monotonic)
    begin = time.monotonic()
    outcome = measure(*(point(m) for m in range(64, 364)), time_budget_seconds=6.0)
    assert time.monotonic() - begin < 6.0
    assert outcome.left > 0
    assert len(outcome.rows) + outcome.left == 300
    assert len(read_folder(outcome.folder).tables["gemm"].rows) == len(outcome.rows) > 0


def test_progress_is_a_line_of_words_where_there_is_no_terminal(
    measure: Measure,
    point: MakePoint,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("predictor.bench.progress.LINE_SECONDS", 0.0)
    measure(point(64))
    words = capsys.readouterr().err
    assert re.search(r"1/1 points \(1 ok\), \d+ s of budget left", words)


def test_starting_takes_no_longer_than_its_limit(
    measure: Measure, point: MakePoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "START_TIMEOUT_SECONDS", 0.0)
    with pytest.raises(BenchError, match="no mock device can be opened: opening the device took"):
        measure(point(64))
