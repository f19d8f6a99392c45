"""The time of matrix products against arithmetic by hand, and laws that it must keep."""

from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import TOY, truth

from predictor.costs.products import gemm_design, product_design
from predictor.costs.tile_power import power_seconds
from predictor.costs.tile_search import smooth_maximum, tiling_work, work_seconds
from predictor.costs.tile_table import CANDIDATES, OLD
from predictor.costs.tiles import Tiling, named, tiling_seconds, vain
from predictor.operators import Gemm

TILES = ("feed", "epilogue", "drain", "wave", "queue", "pairs")
NOTHING = dict.fromkeys((*TILES, "memory", "latency", "power"), 1e-9)
IDEAL = truth(**NOTHING, launch=1.0, tensor=1.0, odd=0.0, odd_turned=0.0, ragged=0.0)
"""Tensor cores alone."""

WORK = st.integers(1, 1 << 12)


def compute_seconds(coefficients=IDEAL, **shape):
    products = gemm_design([Gemm(**shape)], TOY).products
    return float(work_seconds(products, np.zeros(1), named(coefficients), TOY)[0])


def chosen_tile(chip=TOY, **shape):
    return CANDIDATES[int(gemm_design([Gemm(**shape)], chip).fastest(IDEAL)[0])]


def test_one_full_wave_of_large_tiles_takes_the_time_of_its_flops():
    flops = 2 * 256 * 1280 * 4096
    assert compute_seconds(m=256, n=1280, k=4096) == pytest.approx(flops / 1e12)


def test_one_tile_more_than_a_wave_of_them_costs_a_second_wave():
    shape = {"m": 512, "k": 64, "kind": "wgrad"}  # both operands turned: sides of 64 or 96
    full = compute_seconds(n=640, **shape)  # ten tiles on ten SMs
    spilt = compute_seconds(n=704, **shape)
    assert spilt > 1.3 * full


def test_sides_along_an_operand_contiguous_along_k_are_cut_to_fill_one_wave():
    full, cut = compute_seconds(m=640, n=64, k=512), compute_seconds(m=704, n=64, k=512)
    assert cut == pytest.approx(72 / 64 * full)  # ten tiles of 72 rows
    assert chosen_tile(m=704, n=64, k=512)[:2] == (72, 64)


def test_an_output_that_64_does_not_divide_is_cut_by_tiles_that_fit_it():
    # 819 rows are four tiles of 208, times three of 192 columns: one tile an SM
    assert chosen_tile(replace(TOY, sm_count=12), m=819, n=576, k=8192)[:2] == (208, 192)
    assert chosen_tile(replace(TOY, sm_count=12), m=576, n=808, k=8192)[:2] == (192, 208)


def test_rows_off_sixteen_bytes_run_the_old_kernels_tiles():
    for n in (1001, 4095):
        assert chosen_tile(m=512, n=n, k=1024) in chain(*OLD)
        assert chosen_tile(m=512, n=1024, k=n) in chain(*OLD)


def test_sms_without_a_tile_give_back_their_share_to_the_others():
    products = gemm_design([Gemm(m=640, n=128, k=4096)], TOY).products
    half, full = (
        float(tiling_seconds(Tiling(high, 128, 1, 0.0), products, named(IDEAL), TOY)[0])
        for high in (128, 64)
    )
    # five tiles on ten SMs, or ten of half the size
    assert half == pytest.approx(2 * full * (1 - named(IDEAL)["idle"] * 0.5))


@pytest.mark.parametrize(
    ("shape", "slower"),
    [
        ({"n": 1280, "k": 4096}, 1.0),
        ({"n": 1280, "k": 4095}, 7.0),
        ({"n": 1279, "k": 4096}, 10.0),
        ({"n": 1279, "k": 4096, "kind": "dgrad"}, 7.0),
        ({"n": 1279, "k": 4096, "kind": "wgrad"}, 6.5),
        ({"n": 1280, "k": 4098}, 3.0),
        ({"n": 1282, "k": 4096}, 3.0),
        ({"n": 1284, "k": 4096, "kind": "dgrad"}, 3.2),
    ],
)
def test_rows_off_sixteen_bytes_slow_the_tensor_cores(shape, slower):
    design = gemm_design([Gemm(m=1024, **shape)], TOY)
    tiling = Tiling(128, 128, 1, 0.0)
    rates = dict.fromkeys(TILES, 1e-9)
    off = ("misaligned", "misaligned_turned", "odd_operand", "odd_turned_rows", "odd_output")
    plain = truth(**rates, **dict.fromkeys(off, 0.0))
    slow = dict(zip(off, (2.0, 0.2, 6.0, -0.5, 9.0), strict=True))
    bare = truth(**rates, **slow)
    one, other = (
        float(tiling_seconds(tiling, design.products, named(c), TOY)[0]) for c in (plain, bare)
    )
    assert other == pytest.approx(slower * one, rel=1e-6)


def test_small_outputs_of_long_reductions_are_split_over_the_idle_sms():
    # one tile of 64 x 64 on one of ten SMs, its reduction split by six
    whole = 2 * 64 * 64 * 65536 / (1e12 / 10)
    assert compute_seconds(m=64, n=64, k=65536) < 0.3 * whole


def test_a_tile_that_is_fed_slowly_takes_the_time_of_its_operands():
    slow = truth(**NOTHING | {"feed": 1.0}, tensor=1e-9, odd=0.0, partials=1e9)
    # 128 x 320 tiles: (128 + 320) rows of 4,096 two-byte elements through a 1.6 GB/s port
    expected = (128 + 320) * 4096 * 2 / 1.6e9
    assert compute_seconds(slow, m=1280, n=320, k=4096) == pytest.approx(expected)


def test_one_byte_numbers_take_half_the_steps():
    two = compute_seconds(m=1024, n=1280, k=4096)
    one = compute_seconds(m=1024, n=1280, k=4096, dtype="fp8")
    assert one == pytest.approx(two / 2)


def test_the_named_tiles_take_the_least_time():
    rng = np.random.default_rng(1)
    m, n, k = (rng.integers(1, 9000, 200) for _ in range(3))
    kind = rng.choice(["forward", "dgrad", "wgrad"], 200)
    design = product_design({"m": m, "n": n, "k": k, "kind": kind}, TOY)
    coefficients = truth(tile_64x64=0.1, odd=0.05)
    with_named = design.log_trend_of(design.fastest(coefficients), coefficients)
    assert with_named == pytest.approx(design.log_trend(coefficients))


def test_every_wave_fills_its_pipelines_and_the_last_ones_output_is_waited_for():
    rates = dict.fromkeys(("tensor", "feed"), 1e-9)
    c = named(truth(**rates, wave=0.5, epilogue=1.2, drain=0.4))
    # a tile of 64 x 64 begins in 1 us and writes 8,192 bytes at 1.6 GB/s, two waves of ten tiles
    products = gemm_design([Gemm(m=640, n=128, k=64)], TOY).products
    found = tiling_seconds(Tiling(64, 64, 1, 0.0), products, c, TOY)
    assert found == pytest.approx(2 * 1e-6 + (2 * 1.2 + 0.4) * 8192 / 1.6e9, rel=1e-6)


@pytest.mark.parametrize(("m", "queued"), [(1280, 0.0), (1281, 1.0)])
def test_more_than_two_waves_wait_for_their_queue_to_be_cleared(m, queued):
    products = gemm_design([Gemm(m=m, n=64, k=64)], TOY).products
    with_queue, without = (
        float(tiling_seconds(Tiling(64, 64, 1, 0.0), products, named(truth(queue=q)), TOY)[0])
        for q in (0.9, 1e-9)
    )
    assert with_queue - without == pytest.approx(queued * 0.9 * 2e-6)


@pytest.mark.parametrize(("tiles", "slower"), [(9, 1.0), (10, 1.2), (20, 1.2)])
def test_tiles_on_nearly_all_sms_share_operands_in_pairs_alone(tiles, slower):
    c = truth(**NOTHING | {"feed": 1.0, "pairs": 0.2}, tensor=1e-9, idle=0.0)
    products = gemm_design([Gemm(m=64 * tiles, n=64, k=1024)], TOY).products
    found = float(tiling_seconds(Tiling(64, 64, 1, 0.0), products, named(c), TOY)[0])
    # 128 rows of 1,024 two-byte elements through a port of 1.6 GB/s, in one or two waves
    waves = 2 if tiles > 10 else 1
    assert found == pytest.approx(waves * slower * 128 * 1024 * 2 / 1.6e9, rel=1e-6)


def test_pairs_fetch_more_sectors_of_rows_that_begin_inside_them():
    c = NOTHING | {"feed": 1.0, "pairs": 1e-9, "ragged_feed": 0.5, "ragged_pairs": 0.3}
    few, many = (
        float(tiling_seconds(Tiling(64, 64, 1, 0.0), products, named(truth(**c, idle=0.0)), TOY)[0])
        for m in (576, 640)
        for products in [gemm_design([Gemm(m=m, n=64, k=1032)], TOY).products]
    )
    assert many / few == pytest.approx(1.8 / 1.5)


def test_sides_of_a_tile_that_no_line_ends_on_cost_where_an_operand_is_turned():
    assert [vain(side) for side in (64, 96, 32, 192)] == pytest.approx([0, 1 / 3, 1, 0])
    seconds = {
        kind: float(tiling_seconds(Tiling(96, 32, 1, 0.0), design.products, named(c), TOY)[0])
        for c in [truth(**NOTHING, odd_turned=0.3)]
        for kind in ("forward", "dgrad", "wgrad")
        for design in [gemm_design([Gemm(m=96, n=96, k=96, kind=kind)], TOY)]
    }
    assert seconds["dgrad"] == pytest.approx(seconds["forward"] * np.exp(0.3))
    assert seconds["wgrad"] == pytest.approx(seconds["forward"] * np.exp(0.3 * (1 + 1 / 3)))


def test_partial_sums_are_added_after_the_memorys_time():
    products = gemm_design([Gemm(m=64, n=64, k=65536)], TOY).products
    c = named(truth(split=2.0, partials=3.0))
    one, memory = Tiling(64, 64, 4, 0.0), products.memory_seconds
    added = tiling_work(one, products, memory, c, TOY) - smooth_maximum(
        tiling_seconds(one, products, c, TOY), memory
    )
    # 4 us, and 12 passes over 64 x 64 numbers of 4 bytes at 10 GB/s
    assert added == pytest.approx(4e-6 + 12 * 64 * 64 * 4 / 1e10)


def test_memory_answers_late_and_reads_turned_operands_in_longer_stretches():
    rates = dict.fromkeys(("launch", "tensor", *NOTHING), 1e-9)
    slow = truth(**rates | {"latency": 0.5, "memory": 1.0}, turned=-0.1, partials=1e9)
    found = {
        kind: gemm_design([Gemm(m=64, n=640, k=640, kind=kind)], TOY).seconds(slow)[0]
        for kind in ("forward", "dgrad")
    }
    moved = (2 * 64 * 640 + 640 * 640) * 2 / 1e10
    assert found["forward"] == pytest.approx(1e-6 + moved)
    assert found["dgrad"] == pytest.approx(1e-6 + moved * np.exp(-0.1))


def test_an_output_that_is_added_to_moves_its_eight_bytes_again():
    memory = truth(**NOTHING | {"memory": 1.0}, launch=1e-9, tensor=1e-9, rewrite=0.5, turned=0.0)
    shape = {"m": 64, "n": 1024, "k": 2048, "kind": "wgrad", "accumulate": True}
    moved = 64 * (1024 + 2048) * 2 + 1.5 * 1024 * 2048 * 8
    design = gemm_design([Gemm(**shape)], TOY)
    assert design.seconds(memory) == pytest.approx(moved / 1e10, rel=1e-3)


def test_an_output_whose_rows_begin_inside_sectors_is_written_slowly():
    coefficients = truth(ragged_write=0.5, ragged_epilogue=1.0)
    even, off = (
        float(gemm_design([Gemm(m=8192, n=n, k=64)], TOY).seconds(coefficients)[0])
        for n in (1024, 1016)
    )
    assert off > 1.3 * even


@pytest.mark.parametrize(
    ("depth", "slower"),
    # 2 million flops a step of the reduction at 1e12 a second: 5, 10, 20, 30 and 60 ms of work
    [(2500, 1.05), (5000, 1.1), (10000, 1.25), (15000, 1.4), (30000, 1.4)],
)
def test_power_bounds_long_calls_more(depth, slower):
    rates = dict.fromkeys(("launch", "tensor", "feed", "epilogue", "memory"), 1e-3)
    energy = {"power": 1.0, "warm": 0.1, "hot": 0.3, "written": 1e-9, "rounds": 1e-9}
    coefficients = truth(**rates, **energy, ragged=0.0)
    seconds = gemm_design([Gemm(m=1000, n=1000, k=depth)], TOY).seconds(coefficients)[0]
    assert seconds == pytest.approx(slower * 2e-6 * depth, rel=1e-3)


def energy_of(c=None, **shape):
    """Seconds at the power cap over those of the tensor cores, on a cool device."""
    design = gemm_design([Gemm(**shape)], TOY)
    products = design.products
    usual = {"power": 1.0, "warm": 0.0, "hot": 0.0, "written": 1e-9, "rounds_deep": 0.0}
    coefficients = named(truth(**usual | (c or {})))
    turned = np.maximum(products.turned_rows, products.turned_cols)
    compute = products.compute_seconds
    seconds = power_seconds(compute, products.depth, design.rounds, turned, coefficients)
    return float(seconds[0] / compute[0])


def test_at_the_power_cap_rounds_of_tiles_that_fit_badly_take_a_share_of_their_loss():
    full = {"m": 1920, "n": 192 * 20, "k": 512}  # twenty rounds of ten tiles of 192 x 192
    assert energy_of(**full) == pytest.approx(1.0)
    # 21 rounds of 10 by 21 tiles of 192 x 192, or 20 of 15 by 13 of 128 x 320
    spilt = {"m": 1920, "n": 192 * 20 + 1, "k": 512}
    rounds = [np.ceil(10 * 21 / 10) * 192 * 192, np.ceil(15 * 13 / 10) * 128 * 320 * np.exp(0.01)]
    loss = min(rounds) * 10 / (1920 * 3841)
    assert energy_of({"rounds": 0.5}, **spilt) == pytest.approx(loss**0.5)
    # a product of one tile leaves nine SMs idle: their loss counts as a tenth
    assert energy_of({"rounds": 0.5}, m=64, n=64, k=512) == pytest.approx(1.1**0.5)


def test_at_the_power_cap_writing_a_product_takes_energy_as_well():
    shape = {"m": 1920, "n": 3840, "k": 512}
    assert energy_of({"written": 0.4}, **shape) == pytest.approx(1.2)


def test_tiles_of_operands_contiguous_along_k_may_take_less_energy():
    shape = {"m": 1920, "n": 3840, "k": 3840}
    c = {"rounds_deep": -0.02, "rounds": 1.0}
    assert energy_of(c, **shape) == pytest.approx(np.exp(-0.02))
    assert energy_of(c, **shape, kind="dgrad") == pytest.approx(1.0)


@given(m=st.integers(1, 1 << 14), n=st.integers(1, 1 << 14), more=st.integers(1, 4096))
def test_more_of_a_product_never_takes_less_energy(m, n, more):
    one, other = energy_of(m=m, n=n, k=64), energy_of(m=m + more, n=n, k=64)
    assert other * (m + more) >= one * m * (1 - 1e-12)


def test_a_call_that_leaves_tensor_cores_idle_is_not_bound_by_power():
    design = gemm_design([Gemm(m=m, n=1280, k=4096) for m in (2560, 16)], TOY)
    busy, idle = design.seconds(truth(power=1.0)) / design.seconds(truth(power=1e-9))
    assert busy > 1.05
    assert idle == pytest.approx(1.0, abs=1e-3)


def test_rows_off_their_sectors_are_ragged_where_an_operand_is_contiguous():
    ragged = {
        kind: gemm_design([Gemm(m=1024, n=1024, k=1032, kind=kind)], TOY).products.ragged[0]
        for kind in ("forward", "dgrad", "wgrad")
    }
    assert ragged == {"forward": 1.0, "dgrad": 0.5, "wgrad": 0.5}


def test_columns_give_what_operators_give():
    operators = [Gemm(m=m, n=1000, k=k, kind="dgrad") for m, k in ((64, 72), (4096, 1024))]
    rows = gemm_design(operators, TOY)
    columns = product_design(
        {"m": np.array([64, 4096]), "n": 1000, "k": np.array([72, 1024]), "kind": "dgrad"}, TOY
    )
    assert columns.seconds(truth()) == pytest.approx(rows.seconds(truth()))
    assert columns.group.tolist() == rows.group.tolist()


@settings(max_examples=60, deadline=None)
@given(WORK, WORK, WORK, st.sampled_from("mnk"), st.integers(1, 64), st.sampled_from([64, 24]))
def test_more_work_of_one_alignment_never_takes_less_time(m, n, k, grown, steps, unit):
    sizes = {"m": m * unit, "n": n * unit, "k": k * unit}
    more = sizes | {grown: sizes[grown] + steps * unit * 8}
    design = gemm_design([Gemm(**sizes), Gemm(**more)], TOY)
    low, high = design.seconds(truth())
    same = design.products.ragged[0] == design.products.ragged[1]
    assert low <= high * (1 + 1e-12) or not same
