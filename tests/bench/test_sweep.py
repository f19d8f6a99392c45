"""The sweep: what is measured, in which order, and that it fits."""

from collections import Counter
from typing import get_args

import pytest

from predictor.bench.points import Point
from predictor.bench.sweep import default_points, plan, points_for, summary
from predictor.bench.sweep.tiers import ANCHOR, BETWEEN, CORE, FINGERPRINT, NAMES, WIDE
from predictor.bench.sweep.uncertainty import most_telling
from predictor.errors import UnknownName
from predictor.operators import KERNELS, OPERATORS, Gemm, GroupedGemm, MemoryBound
from predictor.operators.grouped_gemm import GroupedImpl

POINTS = default_points()


@pytest.mark.parametrize("budget_seconds", [60, 120, 480, 600, 3600])
def test_a_plan_fits_its_budget(budget_seconds: float) -> None:
    planned = plan(POINTS, budget_seconds=budget_seconds)
    assert planned.expected_seconds <= budget_seconds
    assert planned.all_points == tuple(POINTS)


def test_nine_minutes_hold_every_tier_but_compiled_hosts_and_the_widest() -> None:
    counts = summary(plan(POINTS, budget_seconds=540).points)
    for tier in ("anchors", "fingerprint", "core", "host", "compiled", "sustained"):
        assert counts[tier] == summary(POINTS)[tier]
    assert counts["core"]["gemm"] > 100
    assert counts["anchors"]["gemm"] == 12


def test_two_minutes_hold_something_of_every_compute_operator() -> None:
    counts = summary(plan(POINTS, budget_seconds=120).points)
    measured = {operator for tier in counts.values() for operator in tier}
    assert measured >= {"gemm", "attention", "memory_bound", "optimizer"}
    assert counts["fingerprint"]["gemm"] > 60


def test_important_tiers_come_first_and_no_point_twice() -> None:
    assert [p.tier for p in POINTS] == sorted(p.tier for p in POINTS)
    assert len({p.identity for p in POINTS}) == len(POINTS)
    assert {p.tier for p in POINTS} == set(NAMES)


def test_the_sweep_shows_what_the_data_do_to_three_products() -> None:
    by_fill = {
        fill: {
            (g.m, g.n, g.k)
            for g in (p.operator for p in POINTS)
            if isinstance(g, Gemm) and (g.fill, g.dtype, g.kind) == (fill, "bf16", "forward")
        }
        for fill in ("normal", "uniform", "zeros")
    }
    assert by_fill["uniform"] == by_fill["zeros"] <= by_fill["normal"]
    assert len(by_fill["zeros"]) == 3


def test_every_format_and_epilogue_is_swept() -> None:
    gemms = [p.operator for p in POINTS if isinstance(p.operator, Gemm)]
    count = Counter(gemm.dtype for gemm in gemms)
    assert count["fp8"] > 100
    assert count["fp16"] >= 24
    assert count["tf32"] >= 15
    assert {gemm.kind for gemm in gemms if gemm.dtype == "fp8"} == {"forward", "dgrad", "wgrad"}
    assert sum(gemm.gelu for gemm in gemms) == 20


def test_products_lie_on_powers_of_two_between_them_and_beside_edges_of_tiles() -> None:
    products = [p.operator for p in default_points() if p.operator.name == "gemm"]
    for extent in ("m", "n", "k"):
        sizes = {getattr(operator, extent) for operator in products}
        assert sizes >= {2**power for power in range(9, 14)}, extent
        assert sizes >= {3 * 2**power for power in range(8, 12)}, extent
        for tile in (64, 128, 256):
            edges = [size for size in sizes if size % tile == 0 and {size - 8, size + 8} <= sizes]
            assert edges, (extent, tile)
    assert any(operator.m % 8 for operator in products), "rows that no vector holds"


def test_the_products_between_are_new_pairs_of_sizes() -> None:
    gemms = [(p.tier, p.operator) for p in POINTS if isinstance(p.operator, Gemm)]
    between = {gemm for tier, gemm in gemms if tier == BETWEEN}
    assert not between & {gemm for tier, gemm in gemms if tier < BETWEEN}
    assert len(between) > 1400
    assert sum(gemm.m < 512 for gemm in between) > 400


def test_products_have_token_counts_of_experts_and_vocabularies_as_tokenizers_count_them() -> None:
    gemms = [p.operator for p in POINTS if isinstance(p.operator, Gemm)]
    assert sum(g.m % 8 > 0 for g in gemms) > 60
    assert {g.kind for g in gemms if g.n == 50257} == {"forward", "dgrad", "wgrad"}


def test_the_longest_products_are_among_those_between() -> None:
    between = [p.operator for p in POINTS if p.tier == BETWEEN and isinstance(p.operator, Gemm)]
    assert sum(2.0e12 <= g.flops <= 2.0e13 for g in between) > 130
    assert all(p.cost_seconds < 1.0 for p in POINTS if p.tier == BETWEEN)


def test_a_measured_kernel_has_neighbours_to_be_told_by() -> None:
    sizes = Counter(
        (p.operator.impl, p.operator.kernel)
        for p in POINTS
        if isinstance(p.operator, MemoryBound) and p.cache == "cold" and not p.sustained_seconds
    )
    assert min(sizes[each] for each in sizes if each[0] != "inductor") >= 7


def test_grouped_products_take_ninety_seconds_before_the_wide_tier() -> None:
    mine = [p for p in POINTS if isinstance(p.operator, GroupedGemm)]
    assert sum(p.cost_seconds for p in mine if p.tier < WIDE) < 90
    impls = {p.operator.impl for p in mine if isinstance(p.operator, GroupedGemm)}
    assert impls == set(get_args(GroupedImpl))


def test_the_native_benchmark_is_given_the_rows_of_each_expert() -> None:
    point = Point(operator=GroupedGemm(tokens=11, experts=3, n=8, k=8, skew=1.0))
    assert sorted(point.arguments["counts"]) == [2, 3, 6]
    assert "counts" not in point.fields


def test_every_kernel_is_measured_in_three_sizes_or_more() -> None:
    for impl, kernels in KERNELS.items():
        for kernel in kernels:
            sizes = {
                p.operator.bytes
                for p in POINTS
                if isinstance(p.operator, MemoryBound)
                and (p.operator.impl, p.operator.kernel, p.cache) == (impl, kernel, "cold")
            }
            assert len(sizes) >= 3, (impl, kernel)


def test_anchors_get_more_rounds_and_sustained_points_one() -> None:
    assert {p.rounds for p in POINTS if p.tier == ANCHOR} == {5}
    assert {p.rounds for p in POINTS if p.sustained_seconds} == {1}
    assert {p.rounds for p in POINTS if not p.anchor and not p.sustained_seconds} == {3}


def test_long_launches_are_sampled_less_often() -> None:
    long = Point(operator=Gemm(m=32768, n=16384, k=16384))
    short = Point(operator=Gemm(m=256, n=256, k=256))
    assert long.policy["min_samples"] == 3
    assert short.policy["min_samples"] == 20


def test_operators_can_be_chosen() -> None:
    assert {p.operator.name for p in default_points(["gemm", "host"])} == {"gemm", "host"}
    with pytest.raises(UnknownName, match="did you mean 'gemm'"):
        default_points(["gem"])


def test_the_seed_moves_the_space_filling_design_only() -> None:
    other = default_points(seed=1)
    assert {p.identity for p in other} != {p.identity for p in POINTS}
    assert summary(other).keys() == summary(POINTS).keys()


def test_points_of_a_case_are_measured_once_cold_and_warm_where_bytes_decide() -> None:
    norm = MemoryBound(kernel="rms_norm", rows=64, cols=64)
    points = points_for([Gemm(m=1, n=1, k=1), norm, norm])
    assert [(p.operator.name, p.cache) for p in points] == [
        ("gemm", "cold"),
        ("memory_bound", "cold"),
        ("memory_bound", "warm"),
    ]


def test_every_point_names_work_its_operator_knows() -> None:
    for point in POINTS:
        assert point.operator.name in OPERATORS
        assert point.cost_seconds > 0
        assert point.operator.bytes >= 0


def test_two_minutes_hold_all_of_the_fingerprint_but_sizes_of_streams() -> None:
    fingerprint = [p for p in POINTS if p.tier == FINGERPRINT]
    planned = [p for p in plan(POINTS, budget_seconds=120).points if p.tier == FINGERPRINT]
    assert len(planned) >= 0.85 * len(fingerprint)
    assert {p.operator.name for p in fingerprint if p not in planned} == {"memory_bound"}
    for impl in ("native", "torch"):
        kernels = {
            p.operator.kernel
            for p in POINTS
            if p.tier <= FINGERPRINT
            and isinstance(p.operator, MemoryBound)
            and (p.operator.impl, p.cache) == (impl, "cold")
        }
        assert kernels == set(KERNELS[impl])


def test_each_kernel_has_four_sizes_in_the_fingerprint_the_flattest_last() -> None:
    streams = [
        p.operator for p in POINTS if p.tier == FINGERPRINT and isinstance(p.operator, MemoryBound)
    ]
    for impl in ("native", "torch"):
        for kernel in KERNELS[impl]:
            bandwidth, launch, bend, flat = (
                each.bytes / 1e6 for each in streams if (each.impl, each.kernel) == (impl, kernel)
            )
            assert 20 < bend < 40, kernel
            assert launch < 0.6 * bend, kernel
            assert 200 < bandwidth < 0.7 * flat, kernel


def test_a_fingerprint_that_is_cut_short_lacks_sizes_of_streams_first() -> None:
    fingerprint = [p.operator.name for p in POINTS if p.tier == FINGERPRINT]
    streams = fingerprint.count("memory_bound")
    assert set(fingerprint[-streams // 5 :]) == {"memory_bound"}
    half = fingerprint[: (len(fingerprint) - streams // 5) // 2]
    for name, reach in (("gemm", 1.0), ("attention", 1.0), ("memory_bound", 1.25)):
        assert half.count(name) == pytest.approx(fingerprint.count(name) / 2 / reach, abs=1)


def test_the_most_telling_point_is_the_farthest_from_what_is_measured() -> None:
    sizes = (256, 300, 512, 4096, 8192)
    points = [Point(operator=Gemm(m=m, n=m, k=m), tier=WIDE) for m in sizes]
    order = [p.operator.m for p in most_telling(points[1:], points[:1])]
    assert order[:2] == [8192, 512]  # the far end, then the widest gap
    assert sorted(order) == list(sizes[1:])


def test_another_pass_tells_more_than_another_size_and_real_shapes_come_first() -> None:
    measured = [Point(operator=Gemm(m=512, n=512, k=512), tier=ANCHOR)]
    other_pass = Point(operator=Gemm(m=512, n=512, k=512, kind="wgrad"), tier=WIDE)
    larger = Point(operator=Gemm(m=1024, n=512, k=512), tier=WIDE)
    assert most_telling([larger, other_pass], measured)[0] == other_pass
    real = Point(operator=Gemm(m=512, n=1024, k=512), tier=CORE)
    assert most_telling([larger, real], measured)[0] == real
    assert most_telling([], measured) == []
