"""The cause of errors: found where the records tell it, and not named where they do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.diagnosis import COMMUNICATION, COMPUTE, HOST, MEMORY, diagnose, shares_of

PARTS = (COMPUTE, MEMORY, COMMUNICATION, HOST)
SHARES = [
    {COMPUTE: 0.8, MEMORY: 0.15, COMMUNICATION: 0.0, HOST: 0.05},
    {COMPUTE: 0.5, MEMORY: 0.1, COMMUNICATION: 0.38, HOST: 0.02},
    {COMPUTE: 0.3, MEMORY: 0.1, COMMUNICATION: 0.58, HOST: 0.02},
    {COMPUTE: 0.4, MEMORY: 0.5, COMMUNICATION: 0.05, HOST: 0.05},
    {COMPUTE: 0.3, MEMORY: 0.2, COMMUNICATION: 0.1, HOST: 0.4},
    {COMPUTE: 0.2, MEMORY: 0.6, COMMUNICATION: 0.15, HOST: 0.05},
]


@pytest.mark.parametrize("cause", PARTS)
@pytest.mark.parametrize("factor", [0.3, 1.9])
def test_a_single_wrong_part_is_found_with_its_factor(cause: str, factor: float) -> None:
    found = diagnose([(factor - 1) * each[cause] for each in SHARES], SHARES)
    assert found.cause == cause
    assert found.factors[cause] == pytest.approx(factor)
    assert found.explained[cause] == pytest.approx(1)


def test_a_slower_device_is_every_part() -> None:
    found = diagnose([0.1] * len(SHARES), SHARES)
    assert found.cause == "everything alike"
    assert found.factors["everything alike"] == pytest.approx(1.1)


def test_records_that_are_all_alike_do_not_tell() -> None:
    found = diagnose([0.2] * 5, [SHARES[1]] * 5)
    assert found.cause is None
    assert "cannot tell" in found.words


def test_few_records_do_not_tell() -> None:
    found = diagnose([0.2, 0.3], SHARES[:2])
    assert found.cause is None
    assert "2 records are too few" in found.words
    assert "too few" not in diagnose([0.2, 0.3, 0.4], SHARES[:3]).words


def test_small_errors_need_no_cause() -> None:
    assert "nothing to explain" in diagnose([0.01, -0.02, 0.0, 0.01], SHARES[:4]).words


def test_errors_of_all_signs_have_no_single_cause() -> None:
    found = diagnose([0.2, -0.2, 0.2, -0.2, 0.2, -0.2], SHARES)
    assert found.cause is None
    assert "no single part" in found.words


def test_a_part_that_would_need_a_wild_factor_is_not_likely() -> None:
    errors = [6.0 * each[HOST] for each in SHARES]
    assert diagnose(errors, SHARES).cause != HOST


def test_no_records_have_no_cause() -> None:
    found = diagnose([], [])
    assert (found.records, found.cause, found.words) == (0, None, "no record has an estimate")


@given(st.lists(st.floats(-0.9, 3), min_size=1, max_size=6))
def test_it_always_says_something(errors: list[float]) -> None:
    found = diagnose(errors, SHARES[: len(errors)])
    assert found.words
    assert all(share <= 1 + 1e-9 for share in found.explained.values())


def test_shares_add_up() -> None:
    shares = shares_of({"gemm": 2.0, "attention": 1.0, "memory_bound": 0.5, "optimizer": 0.5})
    assert shares[COMPUTE] == pytest.approx(0.75)
    assert sum(shares.values()) == pytest.approx(1)
