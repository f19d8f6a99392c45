"""Two measurements of a SKU side by side."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from predictor.bench.compare import compare, compare_devices
from predictor.bench.main import Outcome
from predictor.bench.points import Point
from predictor.errors import BenchError
from predictor.operators import Gemm, Operator
from predictor.tables import Row, write_runs, write_table

Measure = Callable[..., Outcome]
MakePoint = Callable[..., Point]


def folder(path: Path, seconds: dict[int, float], *, sku: str = "toy", gpu: str = "a") -> str:
    """Tables of some GEMMs by ``m``."""
    rows = [row(Gemm(m=m, n=8, k=8), value) for m, value in seconds.items()]
    write_table(path / "gemm.csv", rows)
    write_runs(path / "runs.toml", {"r": {"sku": sku, "gpu_uuid_hash": gpu}})
    return str(path)


def row(operator: Operator, seconds: float) -> Row:
    return Row(
        operator=operator,
        seconds=seconds,
        seconds_low=seconds,
        seconds_high=seconds,
        rounds=3,
        samples=60,
        run="r",
    )


def test_ratios_are_of_what_both_measured(tmp_path: Path) -> None:
    one = folder(tmp_path / "a", dict.fromkeys(range(1, 12), 1.0) | {99: 7.0})
    other = folder(tmp_path / "b", {m: 1.0 + m / 100 for m in range(1, 12)}, gpu="b")
    found = compare(one, other)
    assert not found.same_device
    assert found.operators["gemm"] == pytest.approx(
        {
            "points": 11,
            "median_ratio": 1.06,
            "median_difference": 0.06,
            "p90_difference": 0.10,
        }
    )
    assert found.operators["all"] == found.operators["gemm"]
    assert compare(one, one + "#r").same_device


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    one = folder(tmp_path / "a", {1: 1.0})
    with pytest.raises(BenchError, match="nothing to compare"):
        compare(one, folder(tmp_path / "b", {1: 1.0}, sku="other"))
    with pytest.raises(BenchError, match="no measured point in common"):
        compare(one, folder(tmp_path / "c", {2: 1.0}))
    with pytest.raises(BenchError, match="holds no tables"):
        compare(one, str(tmp_path / "nowhere"))
    with pytest.raises(BenchError, match=r"has no run 'rr' \(did you mean 'r'\?\)"):
        compare(one, one + "#rr")


@pytest.mark.native
def test_two_runs_of_the_mock_differ_by_less_than_a_per_cent_in_the_median_point(
    measure: Measure, point: MakePoint, tmp_path: Path
) -> None:
    pytest.importorskip("predictor._native")
    points = [point(m) for m in range(512, 544)]
    folders = [
        measure(*points, native_module="predictor._native", out=tmp_path / name, seed=seed).folder
        for seed, name in enumerate("ab")
    ]
    found = compare(str(folders[0]), str(folders[1]))
    assert 0 < found.operators["gemm"]["median_difference"] < 0.01
    assert json.loads(json.dumps(found.to_dict()))["sku"] == "mock"


def test_every_two_devices_of_a_folder_are_compared(tmp_path: Path) -> None:
    path = tmp_path / "toy"
    rows = [
        replace(row(Gemm(m=m, n=8, k=8), 1.0 + (run == "s")), run=run)
        for m in (1, 2)
        for run in "rs"
    ]
    rows += [replace(row(Gemm(m=3, n=8, k=8), 1.0), run="t")]
    write_table(path / "gemm.csv", rows)
    runs = {
        run: {"sku": "toy", "gpu_uuid_hash": device}
        for run, device in zip("rst", "abc", strict=True)
    }
    write_runs(path / "runs.toml", runs)
    found = compare_devices(str(path))
    assert list(found) == [("a", "b")]
    assert found["a", "b"].operators["gemm"]["median_ratio"] == 2.0
    assert not found["a", "b"].same_device


def test_a_folder_of_one_device_says_how_to_measure_another(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="without --new"):
        compare_devices(folder(tmp_path / "a", {1: 1.0}))
