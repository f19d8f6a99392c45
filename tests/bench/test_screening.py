"""Screening: what cannot be, what rounds disagree on, what a larger shape takes less for."""

from dataclasses import replace

from predictor.bench.screening import Limits, faults, flags, neighbour_faults
from predictor.operators import Gemm, MemoryBound, Operator
from predictor.tables import Row

LIMITS = Limits(flops_per_second={"bf16": 1e12}, bytes_per_second=1e9, l2_bytes=1e3)


def row(operator: Operator, seconds: float, *, spread: float = 1.0) -> Row:
    return Row(
        operator=operator,
        seconds=seconds,
        seconds_low=seconds,
        seconds_high=seconds * spread,
        rounds=3,
        samples=60,
        run="r",
    )


def test_faster_than_physics_is_noticed() -> None:
    product = Gemm(m=1000, n=1000, k=1000)  # 2e9 flops at 1e12 a second: 2 ms; 6 MB: 6 ms
    assert faults(row(product, 7e-3), LIMITS) == []
    assert "bytes take" in faults(row(product, 5e-3), LIMITS)[0]
    assert "flops take" in faults(row(product, 1e-3), LIMITS)[0]
    assert faults(row(product, 1e-9), Limits()) == [], "nothing is known of this GPU"


def test_warm_data_may_stream_faster_than_memory() -> None:
    copy = MemoryBound(kernel="copy", rows=1000, cols=1000)
    warm = Row(
        operator=copy,
        seconds=1e-3,
        seconds_low=1e-3,
        seconds_high=1e-3,
        rounds=3,
        samples=9,
        cache="warm",
        run="r",
    )
    assert faults(warm, LIMITS) == []


def test_cold_data_that_nearly_fit_the_cache_may_stream_faster_than_memory() -> None:
    # 4 MB moved in 1 ms is 4 GB/s, four times this memory's rate; LIMITS has a cache of 1 kB.
    copy = row(MemoryBound(kernel="copy", rows=1000, cols=1000), 1e-3)
    assert "bytes take" in faults(copy, LIMITS)[0]
    assert faults(copy, replace(LIMITS, l2_bytes=1e6)) == []


def test_rounds_that_disagree_are_noticed() -> None:
    assert faults(row(Gemm(m=8, n=8, k=8), 1.0, spread=1.05), LIMITS) == []
    assert "differ by 20%" in faults(row(Gemm(m=8, n=8, k=8), 1.0, spread=1.2), LIMITS)[0]


def test_a_smaller_shape_that_takes_longer_is_noticed_within_its_alignment_class() -> None:
    small, large = row(Gemm(m=64, n=64, k=64), 2e-3), row(Gemm(m=128, n=64, k=64), 1e-3)
    odd = row(Gemm(m=63, n=64, k=64), 5e-3)
    rows = [small, large, odd]
    assert [found for found, _ in neighbour_faults(rows, rows)] == [small]
    assert len(flags(rows, Limits())) == 1


def test_a_sustained_row_is_not_held_against_a_burst_of_a_larger_shape() -> None:
    hot = replace(row(Gemm(m=64, n=64, k=64), 2e-3), regime="sustained")
    rows = [hot, row(Gemm(m=128, n=64, k=64), 1e-3)]
    assert neighbour_faults(rows, rows) == []


def test_short_launches_may_take_alike() -> None:
    rows = [row(Gemm(m=64, n=64, k=64), 6e-6), row(Gemm(m=128, n=64, k=64), 5e-6)]
    assert neighbour_faults(rows, rows) == []
