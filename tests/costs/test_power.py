"""Heat against arithmetic on a toy device: cap 500 W, idle 100 W."""

import pytest

from predictor.costs.power import Heat

TOY = Heat(
    cap_watts=500.0,
    idle_watts=100.0,
    family_watts={"gemm": 900.0, "memory_bound": 300.0},
    exponent=2.0,
)


def test_below_the_cap_nothing_slows():
    assert TOY.slowdown({"memory_bound": 1.0}) == 1.0


def test_twice_the_dynamic_power_slows_by_root_two():
    assert TOY.slowdown({"gemm": 1.0}) == pytest.approx(2**0.5)


def test_cool_kernels_pay_for_hot_ones():
    assert TOY.slowdown({"gemm": 1.0, "memory_bound": 2.0}) == 1.0


def test_idle_time_counts_as_cool():
    assert TOY.slowdown({"gemm": 1.0, "idle": 1.0}) == 1.0


def test_energy_never_exceeds_the_cap():
    assert TOY.joules({"gemm": 2.0}) == 1000.0
    assert TOY.joules({"memory_bound": 2.0}) == 600.0


def test_an_unmeasured_family_wants_half_the_cap():
    assert TOY.power("optimizer") == 250.0


def test_round_trip():
    assert Heat.from_dict(TOY.to_dict()) == TOY
