"""Known coefficients must come back, and held-out errors must be what was put in."""

import math

import numpy as np
import pytest

from predictor.costs.bounds import (
    Chip,
    attention_design,
    gemm_design,
    stream_design,
    wave_efficiency,
)
from predictor.costs.fitting import merge
from predictor.costs.regression import Sample, fit_surface, fit_trend
from predictor.costs.surface import Surface
from predictor.errors import FitError
from predictor.operators import Attention, Gemm, MemoryBound
from predictor.tables import Row

TOY = Chip(flops_per_second={"bf16": 1e12}, bytes_per_second=1e9, l2_bytes=1e6, sm_count=10)
SIZES = (256, 512, 1024, 2048, 4096)


def gemms():
    return [
        Gemm(m=m, n=n, k=k, kind=kind)
        for m in SIZES
        for n, k in ((512, 512), (768, 3072), (3072, 768), (2048, 2048), (300, 4096), (8192, 1024))
        for kind in ("forward", "dgrad", "wgrad")
    ]


def sample_of(operators, coefficients, noise=0.0, seed=0):
    design = gemm_design(operators, TOY)
    beta = np.array([coefficients.get(name, 0.0) for name in design.names])
    wobble = np.random.default_rng(seed).normal(0.0, noise, len(operators)) if noise else 0.0
    seconds = design.bound * np.exp(design.matrix @ beta + wobble)
    clusters = np.array([hash((op.n, op.k)) for op in operators])
    return Sample(design=design, seconds=seconds, clusters=clusters, grouped=False)


def test_recovers_the_coefficients_of_a_noiseless_table():
    truth = {"one": 0.2, "waves": 0.9, "memory": 0.5, "prologue": 0.3, "dgrad": 0.02}
    sample = sample_of(gemms(), truth)
    trend = fit_trend(sample, "toy")
    found = dict(zip(sample.design.names, trend.coefficients[0], strict=True))
    for name, value in truth.items():
        assert found[name] == pytest.approx(value, abs=1e-6)


def test_held_out_error_and_coverage_match_the_noise_put_in():
    _, report = fit_surface(sample_of(gemms(), {"one": 0.2, "waves": 0.9}, noise=0.03), "toy")
    assert 0.01 < report["held_out"]["median"] < 0.04
    assert 0.85 <= report["held_out"]["coverage"] <= 0.95


def test_a_measured_bump_pulls_its_neighbours_and_no_one_far_away():
    operators = gemms()
    sample = sample_of(operators, {"one": 0.2, "waves": 0.9})
    near = np.array([op.n == 2048 and op.kind == "forward" for op in operators])
    bumped = Sample(
        design=sample.design,
        seconds=sample.seconds * np.where(near, 1.2, 1.0),
        clusters=sample.clusters,
        grouped=False,
    )
    surface, _ = fit_surface(bumped, "toy")
    asked = [Gemm(m=1400, n=2048, k=2048), Gemm(m=1400, n=2048, k=2048, kind="dgrad")]
    design = gemm_design(asked, TOY)
    ratio, _ = surface.log_ratio(design)
    plain, _ = fit_surface(sample, "toy")[0].log_ratio(design)
    assert ratio[0] - plain[0] > 0.08
    assert abs(ratio[1] - plain[1]) < 0.03


def test_a_sweep_of_one_size_is_refused_with_the_regressor_it_cannot_see():
    operators = [Gemm(m=1024, n=1024, k=1024)] * 8
    with pytest.raises(FitError, match="too little"):
        fit_trend(sample_of(operators, {}), "toy/gemm")


def test_too_few_points_are_refused():
    with pytest.raises(FitError, match="at least 6"):
        fit_trend(sample_of(gemms()[:3], {}), "toy/gemm")


def test_surface_survives_the_round_trip_through_json_types():
    surface, _ = fit_surface(sample_of(gemms(), {"one": 0.2}, noise=0.01), "toy")
    again = Surface.from_dict(surface.to_dict())
    design = gemm_design([Gemm(m=777, n=888, k=999)], TOY)
    assert again.log_ratio(design)[0] == pytest.approx(surface.log_ratio(design)[0], abs=1e-3)


def test_interval_widens_away_from_measured_shapes():
    operators = gemms()
    sample = sample_of(operators, {"one": 0.2, "waves": 0.9}, noise=0.02)
    surface, _ = fit_surface(sample, "toy")
    _, half = surface.log_ratio(gemm_design([operators[0], Gemm(m=17, n=65536, k=17)], TOY))
    assert half[1] >= half[0]


def test_one_full_wave_of_large_tiles_is_fully_efficient():
    rows, cols = np.array([256.0]), np.array([128.0 * 10])
    assert wave_efficiency(rows, cols, TOY)[0] == pytest.approx(1.0)


def test_one_tile_more_than_a_wave_costs_a_second_wave():
    full = wave_efficiency(np.array([2560.0]), np.array([1280.0]), TOY)[0]
    spill = wave_efficiency(np.array([2561.0]), np.array([1281.0]), TOY)[0]
    assert spill < full


def test_bound_is_launch_plus_the_slower_of_compute_and_memory():
    design = gemm_design([Gemm(m=1000, n=1000, k=1000)], TOY)
    assert design.bound[0] == pytest.approx(2e-6 + max(2e9 / 1e12, 6e6 / 1e9))


def test_stream_bound_is_launch_plus_bytes_over_bandwidth():
    copies = [MemoryBound(kernel="copy", rows=1000, cols=columns) for columns in (50, 250)]
    for cache, resident in (("cold", [0.0, 0.0]), ("warm", [1.0, 0.0])):
        design = stream_design(copies, TOY, cache)
        assert design.bound == pytest.approx([2e-6 + 2e5 / 1e9, 2e-6 + 1e6 / 1e9])
        share = design.matrix[:, design.names.index("resident")]
        stream = design.matrix[:, design.names.index("bytes")]
        assert share / stream == pytest.approx(resident)


def test_streams_recover_launch_and_bandwidth_of_a_noiseless_kernel():
    copies = [MemoryBound(kernel="copy", rows=r, cols=2048) for r in (64, 256, 1024, 8192, 65536)]
    copies += [MemoryBound(kernel="gelu", rows=r, cols=2048) for r in (64, 256, 1024, 8192, 65536)]
    design = stream_design(copies, TOY)
    seconds = 3e-6 + np.array([op.bytes for op in copies]) / 0.8e9
    sample = Sample(design=design, seconds=seconds, clusters=np.arange(10), grouped=True)
    trend = fit_trend(sample, "toy")
    row = trend.coefficients[design.group[0]]
    assert row[design.names.index("bytes")] == pytest.approx(1 / 0.8, rel=0.01)


def test_attention_bound_agrees_with_the_operators_own_flops():
    attention = Attention(batch=2, num_heads=8, num_query_groups=8, seq_length=4096, head_dim=128)
    fast_memory = Chip(
        flops_per_second={"bf16": 1e12}, bytes_per_second=1e15, l2_bytes=1e6, sm_count=10
    )
    bound = attention_design([attention], fast_memory).bound[0]
    assert bound == pytest.approx(2e-6 + attention.flops / 1e12)
    assert math.isfinite(bound)


def test_products_of_unusual_data_are_no_part_of_a_fit():
    rows = [
        Row(operator=Gemm(m=8, n=8, k=8, fill=fill), seconds=1e-6, run="r")
        for fill in ("normal", "zeros", "uniform")
    ]
    assert list(merge(rows, regime="burst", cache="cold")) == [Gemm(m=8, n=8, k=8)]
