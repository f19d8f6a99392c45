"""What devices of one SKU differ by: read from tables, and how much it widens an answer."""

from pathlib import Path

import pytest

from predictor.costs.device_fitting import device_differences
from predictor.costs.devices import (
    NINETY_PERCENT,
    PUBLISHED_DEVIATION,
    REPEAT,
    UNMEASURED,
    Difference,
    device_half_seconds,
)
from predictor.operators import Gemm, Memcpy, Operator
from predictor.tables import Folder, Row, Table


def rows(run: str, seconds: dict[int, float], family: type[Operator] = Gemm) -> list[Row]:
    """Points by ``m`` or bytes."""

    def operator(size: int) -> Operator:
        return Gemm(m=size, n=8, k=8) if family is Gemm else Memcpy(direction="h2d", bytes=size)

    return [
        Row(
            operator=operator(size),
            seconds=value,
            seconds_low=value,
            seconds_high=value,
            rounds=3,
            samples=60,
            run=run,
        )
        for size, value in seconds.items()
    ]


def folder(tables: dict[str, list[Row]], devices: dict[str, str]) -> Folder:
    """A SKU's folder with the GPU of each run."""
    return Folder(
        path=Path("toy"),
        tables={name: Table(operator=name, rows=tuple(found)) for name, found in tables.items()},
        runs={run: {"gpu_uuid_hash": device} if device else {} for run, device in devices.items()},
    )


SLOWER = 1.03
SIZES = range(1, 21)


def test_the_median_ratio_of_two_devices_is_drawn_to_what_is_published() -> None:
    one = rows("r", dict.fromkeys(SIZES, 1.0))
    other = rows("s", {m: SLOWER if m > 1 else 2.0 for m in SIZES})
    found = device_differences(folder({"gemm": one + other}, {"r": "a", "s": "b"}))["gemm"]
    assert (found.devices, found.points) == (2, 20)
    # (2·0.0148² + 0.02956²/2) / 3, and nine of ten ratios are 1.03
    assert found.deviation == pytest.approx(0.01708, abs=1e-5)
    assert found.repeat == pytest.approx(0.02956, abs=1e-5)


def test_three_devices_weigh_as_much_as_what_is_published() -> None:
    measured = [row for run in "rst" for row in rows(run, dict.fromkeys(SIZES, 1.0))]
    found = device_differences(folder({"gemm": measured}, {"r": "a", "s": "b", "t": "c"}))
    assert found["gemm"].points == 60
    assert found["gemm"].deviation == pytest.approx(PUBLISHED_DEVIATION / 2**0.5, abs=1e-5)


@pytest.mark.parametrize(
    "devices", [{"r": "a", "s": "a"}, {"r": "a", "s": ""}], ids=["one device", "nobody knows"]
)
def test_runs_on_one_device_or_on_an_unnamed_one_tell_nothing(devices: dict[str, str]) -> None:
    tables = {"gemm": rows("r", dict.fromkeys(SIZES, 1.0)) + rows("s", dict.fromkeys(SIZES, 2.0))}
    assert device_differences(folder(tables, devices)) == {}


def test_few_points_in_common_tell_nothing() -> None:
    tables = {
        "gemm": rows("r", dict.fromkeys(SIZES, 1.0)) + rows("s", dict.fromkeys(range(12, 99), 1.0)),
        "memcpy": rows("r", {8: 1.0}, Memcpy) + rows("s", {8: 1.0}, Memcpy),
    }
    assert device_differences(folder(tables, {"r": "a", "s": "b"})) == {}


def test_a_device_that_is_slow_in_one_part_of_a_step_is_slow_in_all() -> None:
    told = {"gemm": Difference(devices=3, points=50, deviation=0.01, repeat=0.02)}
    half = device_half_seconds(told, {"gemm": 3.0, "host": 1.0})
    assert half == pytest.approx(NINETY_PERCENT * (0.03 + PUBLISHED_DEVIATION))
    assert UNMEASURED.repeat == REPEAT
