"""What exact estimates are taken to be at least, by ratios worked out by hand."""

import pytest

from predictor.search.candidates import Candidate
from predictor.search.trust import LEAST_SPREAD, Trust


def candidate(seconds, **plan):
    return Candidate(
        (seconds, float("inf"), 2.0, 3.0, 8.0), {"plan": plan, "cluster": {"gpu": "a"}}
    )


def exact(ratio):
    return lambda one: tuple(each * ratio for each in one.quantities)


def test_nothing_is_trusted_before_anything_is_known():
    assert Trust().least(candidate(1.0)) == (0.0,) * 5


def test_ratios_of_a_kind_bound_its_next():
    trust = Trust()
    for ratio in (1.00, 1.02):
        one = candidate(10.0, overlap_p2p=True)
        trust.learn(one, exact(ratio)(one))
    seconds, usd, *_ = trust.least(candidate(5.0, overlap_p2p=True))
    assert seconds == pytest.approx(5.0 * (1.00 - 0.02))
    assert usd == float("inf")


def test_few_ratios_leave_room():
    trust = Trust()
    one = candidate(10.0)
    trust.learn(one, exact(1.1)(one))
    assert trust.least(one)[0] == pytest.approx(10.0 * (1.1 - LEAST_SPREAD))


def test_a_kind_that_was_not_seen_is_held_to_all():
    trust = Trust()
    for ratio, asked in ((0.9, True), (1.0, False)):
        one = candidate(10.0, overlap_p2p=asked)
        trust.learn(one, exact(ratio)(one))
    assert trust.least(candidate(10.0, overlap_p2p=True))[0] == pytest.approx(8.95)
    assert trust.least(candidate(10.0, schedule="gpipe"))[0] == pytest.approx(8.0)
