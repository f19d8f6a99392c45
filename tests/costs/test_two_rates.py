"""Streaming kernels between two measured SKUs, by hand and by recovery of known terms."""

from dataclasses import replace

import numpy as np
import pytest

from predictor.case import bench_results_folder, load_gpu
from predictor.costs import load_costs
from predictor.costs.loading import FIT_FILE
from predictor.costs.prediction import Prediction
from predictor.costs.two_rates import between, issue_rate, telling_pair, told
from predictor.operators import MemoryBound

H100, H200, A100 = (
    load_gpu(sku) for sku in ("h100-sxm5-80gb", "h200-sxm5-141gb", "a100-sxm4-80gb")
)
ISSUE = issue_rate(H100)


def taken(seconds: float, factor: float = 1.1) -> Prediction:
    one = np.array([seconds])
    return Prediction(one, one / factor, one * factor, np.array([1]))


def test_terms_are_recovered_and_put_to_a_third_gpu() -> None:
    a, b = 2e8, 1e7  # bytes, instructions
    gpu = replace(A100, sm_count=100, boost_clock_hz=1.5e9, memory_bytes_per_second=2e12)
    answers = [
        (each, taken(a / each.memory_bytes_per_second + b / issue_rate(each)))
        for each in (H100, H200)
    ]
    for pair in (answers, answers[::-1]):
        found = between(gpu, *pair)
        assert found.seconds[0] == pytest.approx(a / 2e12 + b / 150e9)
        assert found.high[0] / found.seconds[0] == pytest.approx(1.1)


def test_a_kernel_as_long_on_both_takes_no_memory_and_one_that_gains_all_takes_nothing_else() -> (
    None
):
    alike = between(A100, (H100, taken(1e-3)), (H200, taken(1e-3)))
    assert alike.seconds[0] == pytest.approx(1e-3 * ISSUE / (108 * 1.41e9))
    ratio = H100.memory_bytes_per_second / H200.memory_bytes_per_second
    streams = between(A100, (H100, taken(1e-3)), (H200, taken(1e-3 * ratio)))
    more = H100.memory_bytes_per_second / A100.memory_bytes_per_second
    assert streams.seconds[0] == pytest.approx(1e-3 * more)


def test_a_pair_is_sought_for_gpus_that_were_not_measured() -> None:
    folder = bench_results_folder()

    def pair(sku: str) -> tuple[str, str] | None:
        return telling_pair(load_gpu(sku), folder, fit_file=FIT_FILE, excluded=(sku,))

    assert set(pair("a100-sxm4-80gb") or ()) == {H100.sku, H200.sku}
    assert set(pair("b200-sxm") or ()) == {H100.sku, H200.sku}
    assert pair(H100.sku) is None  # measured itself


def test_beyond_the_pair_it_tells_eager_kernels_alone() -> None:
    eager, written, stand_in = (
        MemoryBound(kernel=name, rows=4096, cols=4096, impl=impl)
        for name, impl in (("rope_mul", "torch"), ("copy", "native"), ("cast_fp8", "torch"))
    )
    kernels = [eager, written, stand_in]
    assert told(load_gpu("b200-sxm"), H100, H200, kernels).tolist() == [True, False, False]
    assert told(A100, H100, H200, kernels).tolist() == [True, True, True]


def test_strided_eager_kernels_gain_a_b200s_clocks_and_fused_ones_its_memory() -> None:
    strided = MemoryBound(kernel="rope_mul", rows=65536, cols=2880, impl="torch")
    fused = MemoryBound(kernel="copy", rows=65536, cols=2880, impl="native")
    ratios = [
        load_costs(H100.sku).predict([each]).seconds[0]
        / load_costs("b200-sxm").predict([each]).seconds[0]
        for each in (strided, fused)
    ]
    assert 1.0 < ratios[0] < 1.4
    assert ratios[1] == pytest.approx(8.0 / 3.35, rel=0.05)


def test_a_silent_datasheets_instructions_follow_from_its_fp32_rate() -> None:
    assert issue_rate(load_gpu("gb200")) == pytest.approx(80e12 / 256)
    assert issue_rate(H100) == pytest.approx(66.9e12 / 256, rel=0.09)  # at boost, not at most


def test_instructions_hold_an_a100_up_as_its_clock_says() -> None:
    """H100 and H200 add a bias in nearly the same time, though H200 has 1.43 times the memory."""
    kernel = MemoryBound(kernel="mul_weight", rows=4096, cols=6144, impl="torch")
    h100, h200, a100 = (
        float(load_costs(gpu.sku).predict([kernel]).seconds[0]) for gpu in (H100, H200, A100)
    )
    assert h100 / h200 < 1.1
    assert 1.6 < a100 / h100 < 132 * 1.98 / (108 * 1.41)
