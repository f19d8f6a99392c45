"""Studies: every combination once, whatever is killed."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from predictor import Case, estimate
from predictor.cli import run as command
from predictor.errors import CaseError, NotPredictable, StudyError
from predictor.search.study import Study, read_study, study_from_dict
from predictor.search.study_rows import columns, part_rows
from predictor.search.study_run import check_address, on_processes, on_scheduler, run_study
from predictor.search.study_store import Store, opened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {
    "study": {"prices": ["datasheet", "nebius"]},
    "case": {
        "model": {"preset": ["llama3.2-1b", "llama3-8b"]},
        "training": {"seq_length": 4096, "global_batch_size": [64, 128]},
        "plan": {"tensor_parallel": [1, 3, 8]},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": [8, 24]},
    },
}


def stub(case: Case) -> Any:
    raise NotPredictable(f"{case.cluster.num_gpus} GPUs: no estimate in this test")


def stubbed(store: Store, parts: Iterable[int]) -> Iterator[tuple[int, Any]]:
    size = store.part_cases
    for part in parts:
        yield part, part_rows(store.study, part * size, size, estimator=stub)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def many(*counts: int) -> Study:
    """A study of as many cases as the product of some counts."""
    paths = [("cluster", "num_gpus"), ("training", "global_batch_size"), ("training", "seq_length")]
    case: dict[str, Any] = {"model": {"preset": "llama3-8b"}, "training": {"seq_length": 4096}}
    case["cluster"] = {"gpu": "h100-sxm5-80gb"}
    for (section, name), count in zip(paths, counts, strict=False):
        case[section][name] = list(range(1, count + 1))
    return study_from_dict({"case": case})


def test_every_combination_is_there_once_and_the_last_list_varies_fastest() -> None:
    study = study_from_dict(SMALL)
    assert (study.cases, study.rows) == (24, 48)
    seen = [study.values(number) for number in range(study.cases)]
    assert len(set(seen)) == 24
    assert seen[0] == ("llama3.2-1b", 64, 1, 8)
    assert seen[1] == ("llama3.2-1b", 64, 1, 24)
    assert seen[-1] == ("llama3-8b", 128, 8, 24)
    assert study.case(1)["cluster"] == {"gpu": "h100-sxm5-80gb", "num_gpus": 24}


def test_what_cannot_run_is_a_row_with_its_reason(tmp_path: Path) -> None:
    result = run_study(study_from_dict(SMALL), tmp_path / "o.csv")
    rows = read(tmp_path / "o.csv")
    assert [int(row["row"]) for row in rows] == list(range(48))
    assert len({row["key"] for row in rows}) == 48
    assert result.statuses == dict(Counter(row["status"] for row in rows))
    by_status = {row["status"]: row for row in rows}
    assert set(by_status) == {"ok", "infeasible", "refused"}
    assert "must be a multiple of" in by_status["refused"]["reason"]
    assert "GiB of 80.0" in by_status["infeasible"]["reason"]
    assert by_status["refused"]["iteration_seconds"] == ""
    good = by_status["ok"]
    assert float(good["iteration_seconds_low"]) < float(good["iteration_seconds"])


def test_a_row_is_the_estimate_of_its_case() -> None:
    study = study_from_dict(SMALL | {"study": {"prices": ["nebius"], "tokens": "100B"}})
    number = next(n for n in range(24) if study.values(n) == ("llama3-8b", 128, 8, 8))
    (row,) = part_rows(study, number, 1)
    answer = estimate(Case.from_dict(study.case(number)))
    assert row["iteration_seconds"] == answer.iteration_seconds
    iterations = -(-100_000_000_000 // (4096 * 128)) + 1  # sequences round up first
    assert row["iterations"] in {iterations, iterations - 1}
    seconds = row["iterations"] * answer.iteration_seconds
    assert row["days"] == pytest.approx(seconds / 86400)
    assert row["usd"] == pytest.approx(seconds / 3600 * 8 * 2.95)
    assert set(row) == set(columns(study))


def test_a_bug_in_one_case_does_not_cost_the_others() -> None:
    def broken(case: Case) -> Any:
        raise ZeroDivisionError(str(case.cluster.num_gpus))

    rows = part_rows(study_from_dict(SMALL), 0, 1, estimator=broken)
    assert [row["status"] for row in rows] == ["failed", "failed"]
    assert rows[0]["reason"] == "ZeroDivisionError: 8"


def test_parquet_and_csv_hold_the_same(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    study = study_from_dict(SMALL)
    run_study(study, tmp_path / "o.csv")
    run_study(study, tmp_path / "o.parquet")
    table = parquet.read_table(tmp_path / "o.parquet").to_pylist()
    told = [
        {name: "" if value is None else str(value) for name, value in row.items()} for row in table
    ]
    assert told == read(tmp_path / "o.csv")
    assert not list(tmp_path.glob("*.parts"))


def test_a_killed_study_goes_on_and_every_row_is_there_once(tmp_path: Path) -> None:
    output = tmp_path / "o.csv"
    script = textwrap.dedent(f"""
        import sys, time
        sys.path[:0] = {[str(ROOT), str(ROOT / "tests/search")]!r}
        from pathlib import Path
        from test_study import many, stubbed, run_study
        def runner(store, parts):
            for done, each in enumerate(stubbed(store, parts)):
                yield each
                if done == 20:
                    print("twenty", flush=True)
                    time.sleep(600)
        run_study(many(40, 40), Path({str(output)!r}), runner=runner)
    """)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"twenty\n"
        with pytest.raises(StudyError, match="another process is writing"):
            run_study(many(40, 40), output, runner=stubbed)
        process.send_signal(signal.SIGKILL)
    assert not output.exists()
    (output.with_name("o.csv.parts") / "00000063.csv.1.tmp").write_text("half a par")
    result = run_study(many(40, 40), output, runner=stubbed)
    assert 20 * 25 <= result.resumed_cases < 1600
    assert [int(row["row"]) for row in read(output)] == list(range(1600))


def test_a_study_of_a_million_cases_is_small_and_takes_up_any_part(tmp_path: Path) -> None:
    study = many(100, 100, 100)
    assert study.cases == 1_000_000
    with opened(tmp_path / "o.csv", study) as store:
        assert store.part_cases == 500
        for part in (0, 1999):
            store.write(part, part_rows(study, part * 500, 500, estimator=stub))
        tracemalloc.start()
        assert len(store.missing()) == 1998
        rows = part_rows(study, 999_500, 500, estimator=stub)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert rows[-1]["row"] == 999_999
    assert rows[-1]["training.seq_length"] == 100
    assert peak < 20 * 1024**2


def test_a_damaged_part_is_named_and_not_joined(tmp_path: Path) -> None:
    study, output = many(8, 16), tmp_path / "o.csv"
    with opened(output, study) as store:
        for part, rows in stubbed(store, range(store.parts)):
            store.write(part, rows)
        text = store.path(3).read_text(encoding="utf-8").splitlines()
        store.path(3).write_text("\n".join(text[:-1]) + "\n", encoding="utf-8")
    with pytest.raises(StudyError, match=r"00000003\.csv: not the rows of its cases; delete it"):
        run_study(study, output, runner=stubbed)
    assert not output.exists()
    (output.with_name("o.csv.parts") / "00000003.csv").unlink()
    assert run_study(study, output, runner=stubbed).resumed_cases == 126


def test_parts_of_another_study_are_left_alone(tmp_path: Path) -> None:
    output = tmp_path / "o.csv"
    with opened(output, many(4, 4)):
        pass
    with pytest.raises(StudyError, match="holds parts of another study"):
        run_study(many(4, 5), output, runner=stubbed)
    run_study(many(4, 4), output, runner=stubbed)
    with pytest.raises(StudyError, match="is there already"):
        run_study(many(4, 4), output, runner=stubbed)


def assert_same(one: Path, two: Path) -> None:
    """The same rows; numbers may differ by rounding, which depends on what is priced together."""
    rows = [[*csv.reader(path.read_text().splitlines())] for path in (one, two)]
    for first, second in zip(*rows, strict=True):
        for cell, other in zip(first, second, strict=True):
            assert cell == other or float(cell) == pytest.approx(float(other), rel=1e-12)


@pytest.mark.slow
def test_processes_of_this_machine_give_what_one_process_gives(tmp_path: Path) -> None:
    study = study_from_dict(SMALL)
    run_study(study, tmp_path / "one.csv")
    run_study(study, tmp_path / "two.csv", runner=on_processes(2))
    assert_same(tmp_path / "one.csv", tmp_path / "two.csv")


@pytest.mark.slow
def test_workers_of_a_killed_study_end_too(tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        import multiprocessing, sys, time
        sys.path[:0] = {[str(ROOT), str(ROOT / "tests/search")]!r}
        from pathlib import Path
        from test_study import SMALL, on_processes, run_study, study_from_dict
        def progress(done, cases):
            print(*(child.pid for child in multiprocessing.active_children()), flush=True)
            time.sleep(600)
        run_study(study_from_dict(SMALL), Path({str(tmp_path / "o.csv")!r}),
                  runner=on_processes(2), progress=progress)
    """)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        workers = [int(each) for each in process.stdout.readline().split()]
        process.kill()
    assert len(workers) == 2
    for _ in range(600):
        if not any(runs(each) for each in workers):
            return
        time.sleep(0.1)
    pytest.fail("a worker lives on")


def runs(process: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except OSError:
        return False
    return "State:\tZ" not in status


@pytest.mark.slow
def test_a_killed_worker_of_two_loses_nothing(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    case = SMALL["case"]
    training = case["training"] | {"global_batch_size": list(range(64, 64 * 21, 64))}
    study = study_from_dict({"case": case | {"training": training}})
    run_study(study, tmp_path / "one.csv")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        with distributed.Client(cluster) as client:
            victim = min(client.run(os.getpid).values())
        killed = []

        def progress(done: int, cases: int) -> None:
            if not killed and done > cases // 4:
                os.kill(victim, signal.SIGKILL)
                killed.append(done)

        runner = on_scheduler(cluster.scheduler_address)
        result = run_study(study, tmp_path / "two.csv", runner=runner, progress=progress)
    assert killed
    assert sum(result.statuses.values()) == study.rows == 240
    assert_same(tmp_path / "one.csv", tmp_path / "two.csv")


@pytest.mark.parametrize("address", ["tls://10.0.0.1:8786", "tcp://127.0.0.1:8786", "[::1]:1"])
def test_tls_and_this_machine_are_trusted(address: str) -> None:
    check_address(address, insecure=False)


@pytest.mark.parametrize("address", ["tcp://10.0.0.1:8786", "example.org:8786", "ucx://h:1"])
def test_a_scheduler_in_the_clear_is_refused_unless_asked_for(address: str) -> None:
    with pytest.raises(StudyError, match="use tls://"):
        check_address(address, insecure=False)
    check_address(address, insecure=True)


def test_a_worker_with_other_tables_is_refused() -> None:
    study = study_from_dict(SMALL)
    other = Study(base=study.base, axes=study.axes, prices=study.prices, tokens=None, tables="x")
    with pytest.raises(StudyError, match="other tables"):
        part_rows(other, 0, 1)


CASE = {"model": {"preset": "llama3-8b"}, "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 8}}


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({}, r"\[case\] is needed"),
        ({"cases": {}}, "did you mean 'case'"),
        ({"case": CASE, "study": {"price": 1}}, "did you mean 'prices'"),
        ({"case": CASE, "study": {"prices": []}}, "must be one name or different ones"),
        ({"case": CASE, "study": {"prices": ["aw"]}}, "did you mean 'aws'"),
        ({"case": CASE, "study": {"tokens": "x"}}, "study.tokens = 'x'"),
        ({"case": CASE | {"plan": {"tensor_paralel": [1]}}}, "plan.tensor_parallel"),
        ({"case": CASE | {"plan": {"tensor_parallel": []}}}, "leaves no case"),
        ({"case": CASE | {"plan": {"tensor_parallel": [1, 2, 1]}}}, "stands in the list twice"),
    ],
)
def test_a_study_that_is_not_legal_is_refused(mapping: dict[str, Any], words: str) -> None:
    with pytest.raises(CaseError, match=words):
        study_from_dict(mapping)


def test_lists_by_nature_vary_as_lists_of_lists() -> None:
    plan = {"pipeline_parallel": 2, "tensor_parallel": 1}
    fixed = study_from_dict({"case": CASE | {"plan": plan | {"layers_per_stage": [16, 16]}}})
    assert fixed.cases == 1
    varied = [[16, 16], [15, 17]]
    study = study_from_dict({"case": CASE | {"plan": plan | {"layers_per_stage": varied}}})
    assert [row["plan.layers_per_stage"] for row in part_rows(study, 0, 2)] == [
        "[16, 16]",
        "[15, 17]",
    ]


def test_parquet_without_pyarrow_is_refused_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("predictor.search.study_store.find_spec", lambda _: None)
    with pytest.raises(StudyError, match=r"pip install .*\[study\].* or name a \.csv"):
        run_study(study_from_dict(SMALL), tmp_path / "o.parquet")
    assert not any(tmp_path.iterdir())


def test_the_command_runs_the_example_and_tells_counts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "s.json"
    path.write_text(json.dumps(SMALL), encoding="utf-8")
    output = tmp_path / "o.csv"
    assert command(["study", str(path), "-o", str(output), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 48
    assert command(["study", str(path), "-o", str(output)]) == 2
    assert command(["study", str(path), "-o", str(tmp_path / "o.xls")]) == 2
    assert command(["study", str(tmp_path / "no.toml"), "-o", str(tmp_path / "p.csv")]) == 2
    words = capsys.readouterr().err
    assert words.count("\n") == 3
    assert read_study(ROOT / "examples/studies/llama3_gpus.toml").rows == 96
