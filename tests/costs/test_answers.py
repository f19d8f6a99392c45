"""Answers anywhere: finite, never faster than the device, and more work never takes less time."""

import numpy as np
import pytest

from predictor.case import gpu_names, load_gpu
from predictor.costs import load_costs
from predictor.costs.design import chip_of
from predictor.costs.products import product_design
from predictor.operators import AllReduce, Attention, MemoryBound, Optimizer

COUNT = 400
KINDS = ("forward", "dgrad", "wgrad")


def shapes(seed, unit):
    rng = np.random.default_rng(seed)
    return {
        name: np.exp2(rng.uniform(0, top, COUNT)).astype(int) * unit
        for name, top in (("m", 11), ("n", 10), ("k", 10))
    }


@pytest.mark.parametrize("sku", gpu_names())
def test_products_of_any_size_are_finite_and_not_faster_than_the_device(sku):
    costs, chip = load_costs(sku), chip_of(load_gpu(sku))
    for seed, kind in enumerate(KINDS):
        sizes = shapes(seed, 1)
        answer = costs.predict_products(**sizes, kind=kind)
        products = product_design(sizes | {"kind": kind}, chip).products
        assert np.all(np.isfinite(answer.high))
        assert np.all(answer.seconds >= products.memory_seconds * (1 - 1e-9))
        assert np.all(answer.seconds >= 0.85 * products.compute_seconds)
        assert np.all((answer.low <= answer.seconds) & (answer.seconds <= answer.high))


@pytest.mark.parametrize("sku", ["h100-sxm5-80gb", "h200-sxm5-141gb", "b200-sxm"])
@pytest.mark.parametrize("unit", [64, 8])
def test_more_of_a_product_of_one_alignment_never_takes_less_time(sku, unit):
    costs = load_costs(sku)
    for seed, name in enumerate("mnk"):
        sizes = {key: values // unit * unit + unit for key, values in shapes(seed, unit).items()}
        sizes = {key: values | unit for key, values in sizes.items()}  # odd multiples: one class
        more = sizes | {name: sizes[name] + 2 * unit}
        less, after = (costs.predict_products(**each).seconds for each in (sizes, more))
        assert np.all(after >= less * (1 - 1e-9))


@pytest.mark.parametrize("sku", ["h100-sxm5-80gb", "h200-sxm5-141gb"])
@pytest.mark.parametrize("kind", ["forward", "backward"])
def test_attention_grows_with_batch_and_length_and_is_never_faster_than_the_device(sku, kind):
    costs, gpu = load_costs(sku), load_gpu(sku)
    for heads, groups, width in ((1, 1, 64), (32, 8, 128), (128, 128, 64), (3, 1, 96)):
        for sizes in ([(b, 2048) for b in (1, 2, 4, 16)], [(1, 2**p) for p in range(4, 18, 2)]):
            calls = [
                Attention(
                    batch=batch,
                    num_heads=heads,
                    num_query_groups=groups,
                    seq_length=length,
                    head_dim=width,
                    kind=kind,
                )
                for batch, length in sizes
            ]
            seconds = costs.predict(calls).seconds
            least = [call.flops / gpu.peak_flops_per_second["bf16"] for call in calls]
            assert np.all(np.isfinite(seconds))
            assert np.all(seconds >= 0.85 * np.array(least))
            assert np.all(np.diff(seconds) >= -0.02 * seconds[:-1])


@pytest.mark.parametrize("sku", gpu_names())
def test_what_moves_bytes_takes_longer_the_more_it_moves(sku):
    costs = load_costs(sku)
    ladders = (
        [MemoryBound(kernel="copy", rows=2**p, cols=2048) for p in range(0, 22, 3)],
        [Optimizer(elements=2**p, kernel="adamw", dtype="fp32") for p in range(10, 34, 4)],
        [AllReduce(bytes=2**p, ranks=8, ranks_per_node=8) for p in range(10, 34, 4)],
    )
    for ladder in ladders:
        seconds = costs.predict(ladder).seconds
        assert np.all(np.isfinite(seconds))
        assert np.all(np.diff(seconds) >= -1e-9 * seconds[:-1])


def test_a_kernel_on_one_sm_takes_twice_the_time_for_twice_the_rows():
    kernel = {"kernel": "cumsum_int64", "impl": "torch", "cols": 128}
    one, other = (
        load_costs("h200-sxm5-141gb")
        .predict([MemoryBound(rows=rows, **kernel) for rows in (1 << 21, 1 << 22)])
        .seconds
    )
    assert other == pytest.approx(2 * one, rel=0.02)
