"""Known coefficients must come back, and held-out errors must be what was put in."""

import math
from dataclasses import replace

import numpy as np
import pytest
from toy import TOY, gemms, sample_of, stream_sample, truth

from predictor.costs.attention import attention_design
from predictor.costs.bounds import STREAM_PRIOR, stream_design
from predictor.costs.families import PRODUCT_LIMITS
from predictor.costs.fitting import merge
from predictor.costs.limits import FACTOR
from predictor.costs.products import gemm_design
from predictor.costs.regression import figures, fit_surface
from predictor.costs.surface import Surface
from predictor.costs.trend import Sample, fit_trend
from predictor.errors import FitError
from predictor.operators import Attention, Gemm, MemoryBound
from predictor.tables import Row


def test_recovers_the_coefficients_of_a_noiseless_table():
    known = {
        "launch": 1.6,
        "tensor": 1.1,
        "feed": 1.3,
        "epilogue": 2.0,
        "memory": 1.1,
        "wgrad": 0.1,
    }
    sample = sample_of(gemms(), truth(**known))
    trend = fit_trend(sample, "toy")
    found = dict(zip(sample.design.names, trend.coefficients[0], strict=True))
    for name, value in known.items():
        assert found[name] == pytest.approx(value, rel=0.05, abs=0.01), name


def test_a_few_points_where_the_library_chose_badly_do_not_move_the_coefficients():
    sample = sample_of(gemms(), truth(tensor=1.1), noise=0.01)
    bad = np.arange(len(sample.seconds)) % 15 == 0
    spoilt = replace(sample, seconds=np.where(bad, 1.5 * sample.seconds, sample.seconds))
    trend = fit_trend(spoilt, "toy")
    assert trend.coefficients[0][sample.design.names.index("tensor")] == pytest.approx(
        1.1, rel=0.04
    )


def test_held_out_error_and_coverage_match_the_noise_put_in():
    _, report = fit_surface(sample_of(gemms(), truth(), noise=0.03), "toy")
    assert 0.01 < report["held_out"]["median"] < 0.04
    assert 0.85 <= report["held_out"]["coverage"] <= 0.95


def test_figures_by_hand():
    seconds = np.array([1.0, 1.0, 2.0])
    errors = -np.log(np.array([1.1, 0.9, 1.0]))
    found = figures(seconds, errors, np.full(3, 0.05))
    assert found["median"] == pytest.approx(0.1)
    assert found["time_weighted"] == pytest.approx(0.05)
    assert found["coverage"] == pytest.approx(1 / 3, abs=1e-4)


def test_a_measured_bump_pulls_its_neighbours_and_no_other_kernel():
    rows = (64, 256, 1024, 4096, 16384, 65536)
    both = [MemoryBound(kernel=name, rows=r, cols=2048) for name in ("copy", "gelu") for r in rows]
    seconds = 3e-6 + np.array([op.bytes for op in both]) / 0.8e10
    plain, _ = fit_surface(stream_sample(both, seconds), "toy")
    bump = np.array([1.4 if op.kernel == "copy" and op.rows == 1024 else 1.0 for op in both])
    bumped, _ = fit_surface(stream_sample(both, seconds * bump), "toy")
    near = stream_design([MemoryBound(kernel="copy", rows=1100, cols=2048)], TOY)
    other = stream_design([MemoryBound(kernel="gelu", rows=1100, cols=2048)], TOY)
    assert bumped.log_ratio(near)[0] - plain.log_ratio(near)[0] > 0.08
    assert abs(bumped.log_ratio(other)[0] - plain.log_ratio(other)[0]) < 0.03


def test_a_sweep_of_one_size_is_refused_with_the_regressor_it_cannot_see():
    operators = [Gemm(m=1024, n=1024, k=1024)] * 8
    with pytest.raises(FitError, match="too little"):
        fit_trend(sample_of(operators, truth()), "toy/gemm")


def test_too_few_points_are_refused():
    with pytest.raises(FitError, match="at least 6"):
        fit_trend(sample_of(gemms()[:3], truth()), "toy/gemm")


def test_surfaces_survive_the_round_trip_through_json_types():
    copies = [
        MemoryBound(kernel="copy", rows=r, cols=2048)
        for r in (64, 256, 1024, 8192, 65536, 9, 17, 33, 4096)
    ]
    streams = stream_sample(copies, 3e-6 + np.array([op.bytes for op in copies]) / 0.8e10)
    tiles = sample_of(gemms(), truth(), noise=0.01)
    for sample in (streams, tiles):
        surface, _ = fit_surface(sample, "toy")
        raw = surface.to_dict()
        again = Surface.from_dict(raw, dict.fromkeys(raw["regressors"], FACTOR))
        ratio, half = surface.log_ratio(sample.design)
        assert again.log_ratio(sample.design)[0] == pytest.approx(ratio, abs=1e-3)
        assert again.log_ratio(sample.design)[1] == pytest.approx(half, abs=1e-3)


@pytest.mark.parametrize(
    ("field", "number"),
    [
        ("coefficients", 1e6),  # its exponential overflows
        ("coefficients", math.nan),
        ("near", -0.1),
        ("far", math.inf),
        ("scales", 0.0),
        ("box", -1e16),
    ],
)
def test_no_number_of_a_surface_lies_where_its_exponential_would_overflow(field, number):
    raw = fit_surface(sample_of(gemms(), truth(), noise=0.01), "toy")[0].to_dict()
    numbers = np.array(raw[field], dtype=float)
    numbers.flat[-1] = number
    with pytest.raises(ValueError, match=f"{field}: .* lies outside of"):
        Surface.from_dict(raw | {field: numbers.tolist()}, PRODUCT_LIMITS)


def test_an_unmeasured_kernel_has_the_middle_coefficients_and_is_not_known():
    names = ("copy", "gelu", "cast_up")
    rows = (64, 1024, 16384, 65536)
    operators = [MemoryBound(kernel=name, rows=r, cols=2048) for name in names for r in rows]
    seconds = 3e-6 + np.array([op.bytes for op in operators]) / 0.8e10
    surface, _ = fit_surface(stream_sample(operators, seconds), "toy")
    design = stream_design([MemoryBound(kernel="rotary", rows=4096, cols=128)], TOY)
    assert not surface.knows(design)[0]
    expected = 3e-6 + 4096 * 128 * 4 / 0.8e10
    ratio, _ = surface.log_ratio(design)
    assert design.bound[0] * math.exp(ratio[0]) == pytest.approx(expected, rel=0.1)


def test_stream_bound_is_launch_plus_bytes_over_bandwidth():
    copies = [MemoryBound(kernel="copy", rows=1000, cols=columns) for columns in (50, 160, 250)]
    # of 1 MB of L2: 0.2, 0.64 and all of it
    for cache, resident, kept in (
        ("cold", [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
        ("warm", [1.0, 0.72, 0.0], [1.0, 1.0, 0.0]),
    ):
        design = stream_design(copies, TOY, cache)
        assert design.bound == pytest.approx([2e-6 + moved / 1e10 for moved in (2e5, 6.4e5, 1e6)])
        for name, share in (("resident", resident), ("kept", kept)):
            assert design.columns[name] / design.columns["bytes"] == pytest.approx(share)


def test_a_launch_hides_half_of_the_bytes_that_take_as_long():
    copies = [MemoryBound(kernel="copy", rows=1000, cols=columns) for columns in (5, 5000)]
    design = stream_design(copies, TOY)  # 2 µs a launch; 2 µs and 2 ms of bytes at 10 GB/s
    hidden = design.columns["overlap"] * design.bound
    assert hidden == pytest.approx([1e-6, 2e-6], rel=2e-3)


def test_what_few_warm_points_do_not_say_is_what_their_kernel_does_cold():
    rows = (16, 64, 1024, 4096, 16384, 65536)
    operators = [MemoryBound(kernel="copy", rows=r, cols=64) for r in rows]
    moved = np.array([operator.bytes for operator in operators])
    cold, _ = fit_surface(stream_sample(operators, 8e-6 + 1.6 * moved / 1e10), "toy")
    thin = stream_sample(operators[2:], 8e-6 + 1.6 * moved[2:] / 1e10, "warm")

    def launch(sample: Sample) -> float:
        return float(fit_trend(sample, "toy").coefficients[0, 0])

    assert launch(thin) < 3.0 < launch(replace(thin, alike=cold))
    assert replace(thin, alike=cold).prior_of(int(thin.design.group[0]) + 1) == STREAM_PRIOR


def test_nothing_is_faster_than_the_memory_that_holds_it():
    copy = [MemoryBound(kernel="copy", rows=1000, cols=1000)]
    assert stream_design(copy, TOY, "cold").floor[0] == pytest.approx(4e6 / 1e10)
    assert stream_design(copy, TOY, "warm").floor[0] == pytest.approx(4e6 / (64 * 2.5e7 * 10))


def test_streams_recover_launch_and_bandwidth_of_a_noiseless_kernel():
    copies = [MemoryBound(kernel="copy", rows=r, cols=2048) for r in (64, 256, 1024, 8192, 65536)]
    copies += [MemoryBound(kernel="gelu", rows=r, cols=2048) for r in (64, 256, 1024, 8192, 65536)]
    seconds = 3e-6 + np.array([op.bytes for op in copies]) / 0.8e10
    sample = stream_sample(copies, seconds)
    trend = fit_trend(sample, "toy")
    assert trend.coefficients[0][sample.design.names.index("bytes")] == pytest.approx(
        1.25, rel=0.01
    )


def test_attention_bound_agrees_with_the_operators_own_flops():
    attention = Attention(batch=2, num_heads=8, num_query_groups=8, seq_length=4096, head_dim=128)
    bound = attention_design([attention], replace(TOY, bytes_per_second=1e15)).bound[0]
    assert bound == pytest.approx(2e-6 + attention.flops / 1e12)


def test_products_of_unusual_data_are_no_part_of_a_fit():
    rows = [
        Row(operator=Gemm(m=8, n=8, k=8, fill=fill), seconds=1e-6, run="r")
        for fill in ("normal", "zeros", "uniform")
    ]
    assert list(merge(rows, regime="burst", cache="cold")) == [Gemm(m=8, n=8, k=8)]


def test_a_format_that_the_datasheet_has_no_rate_for_is_named():
    with pytest.raises(FitError, match="fp16"):
        gemm_design([Gemm(m=8, n=8, k=8, dtype="fp16")], TOY)
