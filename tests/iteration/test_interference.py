"""Launches beside collectives: the formula by hand, who meets whom, and laws."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.iteration.interference import LOST_BESIDE_A_PRODUCT, interfered
from predictor.iteration.launches import Launch, Segment, Wait
from predictor.operators import AllGather, Gemm, SendRecv

FACTORS = {("gemm", "all_gather"): (1.25, 1.5)}
PRODUCT = Launch(Gemm(m=8, n=8, k=8))
GATHER = Launch(AllGather(bytes=8, ranks=2, ranks_per_node=2), stream="gather")


def segment(*steps, company=()):
    return Segment(label="any", phase="forward", steps=steps, company=company)


def slowed(segments, seconds, factors=FACTORS, *, clusters=True):
    counts = [len(one.launches) for one in segments]
    first = np.concatenate([[0], np.cumsum(counts)])
    return interfered(segments, first, np.array(seconds, dtype=float), factors, clusters=clusters)


def test_a_short_collective_slows_only_what_it_meets():
    # 2 s become 3; of those 3 s compute loses a fifth: 10 s take 10.6.
    found = slowed([segment(GATHER, PRODUCT, Wait("gather"))], [2.0, 10.0])
    assert found == pytest.approx([3.0, 10.6])


def test_a_long_collective_is_slowed_while_compute_lasts():
    # 4 s of compute take 5, in which a collective of 9 s gets a third less done.
    found = slowed([segment(GATHER, PRODUCT, Wait("gather"))], [9.0, 4.0])
    assert found == pytest.approx([9.0 + 5.0 / 3.0, 5.0])


def test_a_tensor_parallel_collective_costs_most_of_its_time_beside_a_product():
    steps = (replace(GATHER, stream="tensor"), PRODUCT, Wait("tensor"))
    found = slowed([segment(*steps)], [2.0, 10.0])
    assert found == pytest.approx([3.0, 10.0 + LOST_BESIDE_A_PRODUCT * 2.0])
    earlier = slowed([segment(*steps)], [2.0, 10.0], clusters=False)
    assert earlier == pytest.approx([3.0, 10.6])


def test_what_is_waited_for_at_once_meets_nothing():
    seconds = [2.0, 10.0]
    assert slowed([segment(GATHER, Wait("gather"), PRODUCT)], seconds).tolist() == seconds


def test_what_a_segment_leaves_under_way_meets_the_beginning_of_the_next_repetition():
    steps = (PRODUCT, Wait("gather"), PRODUCT, GATHER)
    found = slowed([segment(*steps)], [10.0, 10.0, 2.0])
    assert found == pytest.approx([10.6, 10.0, 3.0])


def test_a_bucket_slows_the_layers_in_its_company_by_their_share():
    bucket = segment(GATHER)
    layer = segment(PRODUCT, company=((bucket, 0.5),))
    found = slowed([bucket, layer], [2.0, 10.0])
    assert found[1] == pytest.approx(10.0 + 1.5 / 5.0)


def test_a_bucket_that_is_waited_for_has_no_company_but_the_next_one_has():
    bucket = segment(GATHER, Wait("gather"), GATHER)
    layer = segment(PRODUCT, company=((bucket, 0.5),))
    found = slowed([bucket, layer], [2.0, 2.0, 10.0])
    assert found == pytest.approx([2.0, 2.0 * 1.5**0.5, 10.0 + 1.5 / 5.0])


def test_pairs_that_were_not_measured_leave_each_other_alone():
    seconds = [2.0, 10.0]
    assert slowed([segment(GATHER, PRODUCT)], seconds, factors={}).tolist() == seconds


def test_rows_that_copy_engines_exchange_round_a_ring_slow_nothing():
    ring = SendRecv(bytes=8, ranks=4, ranks_per_node=4, pattern="ring")
    factors = {("gemm", "send_recv"): (1.25, 1.5)}
    for stream, expected in (("tensor", 10.0), ("context", 10.6)):
        steps = (Launch(ring, stream=stream), PRODUCT, Wait(stream))
        assert slowed([segment(*steps)], [2.0, 10.0], factors)[1] == pytest.approx(expected)


@given(st.floats(1e-6, 10.0), st.floats(1e-6, 10.0))
def test_company_never_hastens_and_never_costs_more_than_turns(compute, collective):
    found = slowed([segment(GATHER, PRODUCT, Wait("gather"))], [collective, compute])
    assert (found >= [collective, compute]).all()
    assert found.max() <= (1.25 * compute + 1.5 * collective) * (1 + 1e-9)
    longer = slowed([segment(GATHER, PRODUCT, Wait("gather"))], [collective, 2 * compute])
    assert longer[1] > found[1]


def test_only_identity_makes_a_segment_one():
    one = segment(PRODUCT)
    assert replace(one) != one
