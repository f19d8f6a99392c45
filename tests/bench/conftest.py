"""Runs on a double of the native extension, and on the mock where the extension is built."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from predictor.bench.journal import JOURNAL_FILE, read_records
from predictor.bench.main import Outcome, run
from predictor.bench.options import Options
from predictor.bench.points import Point
from predictor.operators import OPERATORS, Gemm
from predictor.tables import TIMED_STATUSES, read_folder

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # doubles and launchers are modules beside the tests


@pytest.fixture(scope="session")
def _empty_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that does nothing."""
    path = tmp_path_factory.mktemp("main") / "main.py"
    path.touch()
    return path


@pytest.fixture(autouse=True)
def _double_on_path(monkeypatch: pytest.MonkeyPatch, _empty_file: Path) -> None:
    """Let this process and the workers it spawns import the double, and them nothing of pytest."""
    monkeypatch.syspath_prepend(str(HERE))
    main = sys.modules["__main__"]  # which a spawned process imports too
    monkeypatch.setattr(main, "__spec__", None)
    monkeypatch.setattr(main, "__file__", str(_empty_file), raising=False)


@pytest.fixture
def ranks_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What ranks on the double inherit, whatever this process was started with."""
    from launchers import SECRET  # noqa: PLC0415 - beside the tests

    monkeypatch.setenv("DOUBLE_FOLDER", str(tmp_path))
    monkeypatch.setenv("PREDICTOR_BENCH_SECRET", SECRET)
    monkeypatch.setenv("NCCL_NVLS_ENABLE", "0")
    monkeypatch.setenv("NCCL_GRAPH_REGISTER", "0")


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A run in a process of its own: the largest file's bytes (0: any), then how many points."""
    from apart import SCRIPT  # noqa: PLC0415 - beside the tests

    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(here=str(HERE), out=str(tmp_path / "out")))
    return path


@pytest.fixture
def measure(tmp_path: Path) -> Callable[..., Outcome]:
    """Measure points on the double into a folder of the test."""

    def measure(*points: Point, **options: Any) -> Outcome:
        values = {"device": "mock", "native_module": "native_double", "out": tmp_path / "out"}
        return run(Options(points=points, **values | options))

    return measure


def gemm(m: int, **fields: Any) -> Point:
    """A small point."""
    return Point(operator=Gemm(m=m, n=256, k=256), **fields)


@pytest.fixture
def point() -> Callable[..., Point]:
    """Make a GEMM point by its ``m``."""
    return gemm


def assert_intact(folder: Path, *, tables: bool = True) -> dict[str, list[int]]:
    """Assert that nothing is lost, doubled or wrong; ``m`` of the journal's points by status."""
    records = read_records(folder / JOURNAL_FILE)
    points = [record for record in records if record["record"] == "point"]
    assert len({point["key"] for point in points}) == len(points), "a point is recorded twice"
    by_status: dict[str, list[int]] = {}
    for point in points:
        by_status.setdefault(point["status"], []).append(point["fields"]["m"])
        looks: dict[int, list[object]] = {}
        for record in records:
            if record["record"] == "round" and record["key"] == point["key"]:
                looks.setdefault(record["look"], []).append(record["round"])
        assert point["rounds"] in ([], *looks.values()), "its rounds are not those measured"
        if point["status"] in TIMED_STATUSES:
            work = OPERATORS[point["operator"]](**point["fields"])
            told = 5e-6 + max(work.flops / 100e12, work.bytes / 1e12)
            for measured in point["rounds"]:
                assert measured["seconds"] == pytest.approx(told, rel=0.03)
    if tables:
        rows = [row for table in read_folder(folder).tables.values() for row in table.rows]
        assert len(rows) == len({row.key for row in rows}) >= len(points)
    return by_status


@pytest.fixture
def intact() -> Callable[..., dict[str, list[int]]]:
    """The assertion that is made after each fault."""
    return assert_intact
