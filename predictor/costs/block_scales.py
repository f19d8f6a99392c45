"""8-bit products with a scale for every 128 numbers, from those with one scale a tensor.

Hopper's tensor cores know no scales. A kernel lets them sum over 128 numbers, then its CUDA cores
multiply each partial sum by its scale and add it to the result (DeepSeek-V3, arXiv:2412.19437,
section 3.3.2; DeepGEMM and cuBLASLt 12.9). Activations have a scale for 128 numbers of a row,
weights one for 128 x 128: of a product with weights every thread's part shares one scale, so that
a partial sum is one multiply-add; a weight's gradient has activations on both sides, whose scales
are multiplied first:

    seconds = t₈ + u · i · (flops / 2 / 128) / r                                (25)

with ``t₈`` of a product with one scale a tensor, ``i`` instructions a partial sum, ``r`` the fp32
instructions that the GPU issues in a second (half its fp32 rate), and ``u`` the share of them that
another warpgroup's tensor instructions do not hide.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from predictor.case import Gpu
from predictor.costs.prediction import Floats, Origin, Prediction
from predictor.costs.transfer import without_twin
from predictor.operators import Gemm, GroupedGemm, Operator

BLOCK_SCALED: Final = "fp8_block"
BLOCK: Final = 128
"""Summed numbers that share a scale."""

INSTRUCTIONS: Final = {"forward": 1, "dgrad": 1, "wgrad": 2}
"""Of a partial sum: a multiply-add, and a product of two scales before it."""

UNHIDDEN: Final = 0.64
"""Share of promotions that lengthen a product (docs/implementations.md)."""


def promotion_seconds(products: Sequence[Gemm | GroupedGemm], gpu: Gpu) -> Floats:
    """What block scales add to each product."""
    issued_per_second = gpu.peak_flops_per_second["fp32"] / 2.0
    partial_sums = np.array([each.flops / 2.0 / BLOCK for each in products])
    instructions = np.array([INSTRUCTIONS[each.kind] for each in products])
    return np.asarray(UNHIDDEN * instructions * partial_sums / issued_per_second)


def block_scaled_products(
    products: Sequence[Operator],
    gpu: Gpu,
    predict: Callable[[Sequence[Operator]], Prediction],
    origin: Origin,
) -> Prediction:
    """Products with block scales: those with one scale a tensor, and their promotions.

    Args:
        products: Matrix products, single or grouped.
        gpu: The datasheet.
        predict: Prices 8-bit products.
        origin: Of what is not measured on this GPU.
    """
    chosen = [each for each in products if isinstance(each, Gemm | GroupedGemm)]
    found = predict([replace(each, dtype="fp8") for each in chosen])
    seconds = found.seconds + promotion_seconds(chosen, gpu)
    return without_twin(seconds, found, origin)
