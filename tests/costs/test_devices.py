"""What devices of one SKU differ by: read from tables, and how much it widens an answer."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy import TOY

from predictor.costs.device_fitting import (
    device_differences,
    effects,
    means,
    on_typical_device,
    product_effects,
)
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


TENSOR_SECONDS = 2.0 * 4096**2 / 1e12
"""Of a token of a product of 4096 x 4096 on the toy's tensor cores."""


def loaded(run: str, factor: float, sizes: range) -> list[Row]:
    """Products that take 1.25 times what tensor cores need (u = 0.8), and ``factor`` of that."""
    found = rows(run, {m: 1.25 * factor * m * TENSOR_SECONDS for m in sizes})
    return [replace(row, operator=replace(row.operator, n=4096, k=4096)) for row in found]


def test_a_product_is_fitted_to_the_device_in_the_middle() -> None:
    one, other, third = range(8, 1600, 8), range(800, 2400, 8), range(1600, 2400, 8)
    measured = [
        *loaded("r", 1.0, one),
        *loaded("s", 1.02, other),
        *loaded("t", 1.04, third),
    ]
    toy = folder({"gemm": measured}, {"r": "a", "s": "b", "t": "c"})
    found = product_effects(toy, TOY)
    # ln 1.02 over u = 0.8 is 0.0248; what slows a device by 2 % lowers its own u by that
    assert found["b"] == 0.0
    assert found["c"] - found["b"] == pytest.approx(0.0248, rel=0.03)
    assert found["a"] - found["b"] == pytest.approx(-0.0248, rel=0.03)
    typical = on_typical_device(toy, found, TOY)
    assert len(typical) == len({row.operator for row in measured})
    for row in typical:
        tokens = row.operator.m  # type: ignore[attr-defined]
        assert row.seconds == pytest.approx(1.25 * 1.02 * tokens * TENSOR_SECONDS, rel=1e-3)
        assert row.seconds_low == pytest.approx(row.seconds)


def test_a_point_far_off_on_one_device_of_many_hardly_moves_its_mean() -> None:
    point = np.array([0, 0, 0, 0, 1, 1])
    found = np.exp(means(np.log([1.0, 1.001, 0.999, 1.5, 2.0, 2.02]), point))
    # Huber's weights: three near ones pull with what they are off, the far one with 0.01
    assert found[0] == pytest.approx(1.0, abs=0.004)
    assert found[1] == pytest.approx(np.sqrt(2.0 * 2.02), rel=1e-6)


def test_a_device_that_shares_no_point_or_has_no_name_stays_as_it_is() -> None:
    measured = [*loaded("r", 1.0, range(8, 80, 8)), *loaded("s", 1.5, range(800, 880, 8))]
    apart = folder({"gemm": measured}, {"r": "a", "s": "b"})
    assert product_effects(apart, TOY) == {"a": 0.0, "b": 0.0}
    unnamed = folder({"gemm": measured}, {"r": "", "s": ""})
    assert product_effects(unnamed, TOY) == {}
    assert on_typical_device(unnamed, {}, TOY) == measured


def test_two_runs_on_one_device_are_one_row_with_their_median() -> None:
    measured = [*loaded("r", 1.0, range(8, 16, 8)), *loaded("s", 1.2, range(8, 16, 8))]
    same = folder({"gemm": measured}, {"r": "a", "s": "a"})
    (found,) = on_typical_device(same, {"a": 0.0}, TOY)
    assert found.seconds == pytest.approx(1.1 * measured[0].seconds)


def test_one_point_in_ten_that_is_far_off_moves_no_device() -> None:
    point, device = np.repeat(np.arange(40), 2), np.tile([0, 1], 40)
    log_seconds = 0.01 * device + np.where((point % 10 == 0) & (device == 1), 0.5, 0.0)
    found = effects(log_seconds, np.ones(80), point, device)
    assert found[1] - found[0] == pytest.approx(0.01, abs=0.0025)  # the mean would say 0.06
