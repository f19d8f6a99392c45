"""Measured points in fit.json: what is written is read back, and a damaged table says so."""

import pytest

from predictor.costs.ladder import measured_operators, measured_point
from predictor.costs.points import point_rows, point_tables, read_tables
from predictor.errors import FitError
from predictor.operators import Gemm

PRODUCTS = [
    Gemm(m=64, n=8, k=16),
    Gemm(m=64, n=8, k=16, kind="dgrad", bias=True),
    Gemm(m=128, n=8, k=32),
]
SECONDS = {
    "seconds": [2e-6, 1.23456e-5, 3e-6],
    "seconds_low": [1e-6, 1.2e-5, 3e-6],
    "seconds_high": [4e-6, 1.3e-5, 3e-6],
}


def test_points_of_one_class_share_a_table_that_names_what_is_unusual():
    plain, biased = point_tables("gemm", PRODUCTS, {"error": [0.5, -0.25, 0.125]})
    assert plain == {
        "options": {},
        "points": {"m": "64 128", "n": "8 8", "k": "16 32", "error": "0.5 0.125"},
    }
    assert biased["options"] == {"kind": "dgrad", "bias": True}


def test_points_are_read_back_as_they_were():
    tables = point_tables("gemm", PRODUCTS, SECONDS)
    measured = read_tables("gemm", tables)
    assert set(measured_operators("gemm", measured)) == set(PRODUCTS)
    assert measured_point(measured, PRODUCTS[1]) == (1.23456e-5, 1.2e-5, 1.3e-5)
    assert measured_point(measured, Gemm(m=64, n=8, k=17)) is None
    assert measured_point(measured, Gemm(m=64, n=8, k=16, dtype="fp8")) is None
    assert point_rows("gemm", tables)[1] == {
        "m": 128,
        "n": 8,
        "k": 32,
        "seconds": 3e-6,
        "seconds_low": 3e-6,
        "seconds_high": 3e-6,
    }


@pytest.mark.parametrize(
    "damage",
    [
        {"seconds": "1e-06 2e-06"},
        {"seconds": "fast"},
        {"seconds": "0.0"},
        {"seconds_high": "nan"},
        {"seconds_low": "-1e-06"},
        {"k": "0"},
        {"m": "-8"},
    ],
)
def test_a_damaged_table_is_told_when_it_is_asked_for(damage):
    (table, *_) = point_tables("gemm", PRODUCTS[:1], {name: [1e-6] for name in SECONDS})
    measured = read_tables("gemm", [{**table, "points": table["points"] | damage}])
    with pytest.raises(FitError, match="run `predictor fit`"):
        measured_point(measured, PRODUCTS[0])
