"""Order among measured and fitted shapes, on points that one can check by eye."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.costs import load_costs
from predictor.costs.ladder import Ladder, alignment_codes, classes_of, measured_operators
from predictor.operators import Gemm, MemoryBound


def gemms(*sizes):
    return [Gemm(m=m, n=64, k=k) for m, k in sizes]


def ladder_of(operators, *seconds):
    return Ladder("gemm", classes_of(operators, np.array(seconds)))


def clipped(ladder, operators, seconds):
    return np.exp(ladder.clip_operators(operators, np.log(np.array(seconds))))


def test_a_measured_shape_is_answered_with_its_measurement():
    points = gemms((64, 64), (128, 64), (128, 128))
    ladder = ladder_of(points, 1.0, 2.0, 3.0)
    assert clipped(ladder, points, [9.0, 9.0, 0.1]) == pytest.approx([1.0, 2.0, 3.0])


def test_a_shape_between_measured_ones_stays_between_their_times():
    ladder = ladder_of(gemms((64, 64), (256, 256)), 1.0, 4.0)
    asked = gemms((128, 128), (128, 128), (128, 128), (64, 512), (512, 512))
    answers = clipped(ladder, asked, [0.5, 2.0, 9.0, 9.0, 9.0])
    assert answers == pytest.approx([1.0, 2.0, 4.0, 9.0, 9.0])


def test_measurements_that_contradict_the_order_meet_in_the_middle():
    points = gemms((64, 64), (128, 64), (192, 64))
    ladder = ladder_of(points, 4.0, 1.0, 16.0)
    assert clipped(ladder, points, [1.0, 1.0, 1.0]) == pytest.approx([2.0, 2.0, 16.0])


def test_other_options_and_other_alignments_are_left_alone():
    ladder = ladder_of(gemms((64, 64)), 5.0)
    others = [Gemm(m=64, n=64, k=64, kind="dgrad"), Gemm(m=72, n=64, k=64)]
    assert clipped(ladder, others, [1.0, 1.0]) == pytest.approx([1.0, 1.0])


def test_alignment_counts_factors_of_two_up_to_64():
    codes = alignment_codes("gemm", np.array([[64, 1, 1], [128, 1, 1], [32, 1, 1], [3, 1, 1]]))
    assert codes[0] == codes[1]
    assert len(set(codes.tolist())) == 3


def test_an_empty_ladder_changes_nothing():
    ladder = Ladder("memory_bound", {})
    copy = [MemoryBound(kernel="copy", rows=1, cols=1)]
    assert clipped(ladder, copy, [1.0]) == pytest.approx([1.0])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from("mnk"),
    st.integers(1, 8),
    st.sampled_from(["forward", "dgrad", "wgrad"]),
)
def test_measured_and_fitted_answers_of_the_tables_are_in_order(m, n, k, grown, factor, kind):
    sizes = {"m": 64 * m, "n": 64 * n, "k": 64 * k}
    more = sizes | {grown: factor * sizes[grown]}
    less, larger = (
        load_costs("h100-sxm5-80gb")
        .predict([Gemm(**sizes, kind=kind), Gemm(**more, kind=kind)])
        .seconds
    )
    assert less <= larger * (1 + 1e-9)


def test_every_measured_product_is_in_order_with_its_fitted_neighbours():
    costs = load_costs("h100-sxm5-80gb")
    measured = measured_operators("gemm", costs.measured["gemm/cold"])
    plain = [op for op in measured if op == Gemm(m=op.m, n=op.n, k=op.k, kind=op.kind)]
    chosen = [op for op in plain if op.m % 64 == op.n % 64 == op.k % 64 == 0][::5]
    at = costs.predict(chosen).seconds
    above = [Gemm(m=op.m + 64, n=op.n, k=op.k, kind=op.kind) for op in chosen]
    below = [Gemm(m=max(op.m - 64, 64), n=op.n, k=op.k, kind=op.kind) for op in chosen]
    assert np.all(costs.predict(above).seconds >= at * (1 - 1e-9))
    assert np.all(costs.predict(below).seconds <= at * (1 + 1e-9))
