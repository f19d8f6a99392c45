"""Products with block scales against the figures that DeepGEMM's authors published.

H800, whose products are an H100's: forward ones with weights scaled by 128 x 128 and activations
by 1 x 128 from DeepGEMM's pull requests 74 and 81, weights' gradients with activations on both
sides from 95. The one constant is their median.
"""

from dataclasses import replace

import numpy as np
import pytest

from predictor.case import load_gpu
from predictor.costs import load_costs
from predictor.costs.block_scales import UNHIDDEN, promotion_seconds
from predictor.costs.prediction import Origin
from predictor.operators import Gemm, GroupedGemm

GPU = "h100-sxm5-80gb"
FORWARD_TFLOPS = {
    (4096, 24576, 1536): 1204,
    (4096, 32768, 512): 777,
    (4096, 7168, 16384): 1500,
    (4096, 4096, 7168): 1377,
    (4096, 7168, 2048): 1204,
}
GROUPED_TFLOPS = {(4, 8192, 4096, 7168): 1381, (4, 8192, 7168, 2048): 1262}
WGRAD_TFLOPS = {  # outputs first, then what is summed
    (7168, 2112, 4096): 920,
    (1536, 24576, 4096): 986,
    (512, 32768, 4096): 878,
    (16384, 7168, 4096): 994,
    (7168, 4096, 4096): 942,
    (2048, 7168, 4096): 920,
    (7168, 2112, 8192): 1052,
    (1536, 24576, 8192): 1092,
    (512, 32768, 8192): 1014,
}


def forward_products(dtype):
    one = {
        Gemm(m=m, n=n, k=k, dtype=dtype, api="cublaslt"): rate
        for (m, n, k), rate in FORWARD_TFLOPS.items()
    }
    grouped = {
        GroupedGemm(tokens=e * m, experts=e, n=n, k=k, dtype=dtype, impl="multi_stream"): rate
        for (e, m, n, k), rate in GROUPED_TFLOPS.items()
    }
    return one | grouped


def weight_gradients(dtype):
    fields = {"dtype": dtype, "kind": "wgrad", "api": "cublaslt", "accumulate": True}
    return {Gemm(m=m, n=n, k=k, **fields): rate for (n, k, m), rate in WGRAD_TFLOPS.items()}


def errors(products):
    seconds = load_costs(GPU).predict(list(products)).seconds
    published = [each.flops / (1e12 * rate) for each, rate in products.items()]
    return seconds / np.array(published) - 1.0


def test_published_products_are_met():
    assert np.abs(errors(weight_gradients("fp8_block"))).mean() < 0.025
    assert np.abs(errors(forward_products("fp8_block"))).mean() < 0.05


def test_one_scale_a_tensor_would_be_too_fast():
    assert errors(weight_gradients("fp8")).max() < -0.09
    assert np.median(errors(forward_products("fp8"))) < -0.08


def test_the_constant_is_the_median_of_what_published_products_say():
    known = load_costs(GPU)
    slow = forward_products("fp8_block") | weight_gradients("fp8_block")
    fast = [replace(each, dtype="fp8") for each in slow]
    missing = [each.flops / (1e12 * rate) for each, rate in slow.items()]
    missing = np.array(missing) - known.predict(fast).seconds
    whole = promotion_seconds(list(slow), load_gpu(GPU)) / UNHIDDEN
    assert np.median(missing / whole) == pytest.approx(UNHIDDEN, abs=0.01)


def test_a_partial_sum_is_one_instruction_or_with_two_activations_two():
    forward, dgrad, wgrad = (
        Gemm(m=256, n=512, k=1024, dtype="fp8_block", kind=kind)
        for kind in ("forward", "dgrad", "wgrad")
    )
    found = promotion_seconds([forward, dgrad, wgrad], load_gpu(GPU))
    sums = 256 * 512 * 1024 / 128
    assert found == pytest.approx(UNHIDDEN * sums / (66.9e12 / 2) * np.array([1, 1, 2]))


@pytest.mark.parametrize("gpu", ["h100-sxm5-80gb", "h200-sxm5-141gb", "h800-sxm5-80gb"])
def test_they_are_transferred_and_no_narrower_than_those_with_one_scale(gpu):
    each = Gemm(m=4096, n=4096, k=4096, dtype="fp8", api="cublaslt")
    answer = load_costs(gpu).predict([each, replace(each, dtype="fp8_block")])
    plain, blocks = (answer.high / answer.low).tolist()
    assert blocks >= plain
    assert Origin(int(answer.origin[1])) in {Origin.TRANSFERRED, Origin.DATASHEET}
