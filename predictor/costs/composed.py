"""Operators that no table stands behind but that are made of others that one does.

A grouped GEMM without a measured curve takes what its experts' products take one after another,
which is what looped implementations do and what the others should not exceed by much. Products of
4-bit operands follow those of 8-bit ones.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from predictor.case import Gpu
from predictor.costs.prediction import Origin, Prediction
from predictor.costs.transfer import without_twin
from predictor.errors import FitError
from predictor.operators import Gemm, GroupedGemm, Operator

Parts = Counter[Operator]


def _grouped_gemm(operator: Operator) -> Parts:
    if not isinstance(operator, GroupedGemm):
        return Counter({operator: 1})
    return Counter(
        {
            Gemm(
                m=rows,
                n=operator.n,
                k=operator.k,
                dtype=operator.dtype,
                kind=operator.kind,
                api="cublaslt",
                accumulate=operator.accumulate,
            ): times
            for rows, times in Counter(operator.counts).items()
            if rows
        }
    )


COMPOSED: Final[dict[str, Callable[[Operator], Parts]]] = {"grouped_gemm": _grouped_gemm}


def composed(
    operators: Sequence[Operator], predict: Callable[[Sequence[Operator]], Prediction]
) -> Prediction:
    """Seconds of operators as the sum of their parts', marked as extrapolated.

    Args:
        operators: Of one family, a key of ``COMPOSED``.
        predict: Prices the parts.
    """
    rows = []
    for operator in operators:
        parts = COMPOSED[operator.name](operator)
        known = predict(list(parts))
        times = np.array(list(parts.values()), dtype=float)
        seconds, low, high = (
            float(values @ times) for values in (known.seconds, known.low, known.high)
        )
        origin = max([int(Origin.EXTRAPOLATED), *known.origin.tolist()])
        rows.append((seconds, low, high, origin))
    return Prediction.from_rows(rows)


def four_bit_products(
    products: Sequence[Operator], gpu: Gpu, predict: Callable[[Sequence[Operator]], Prediction]
) -> Prediction:
    """Products of 4-bit operands: those of 8-bit ones, faster as the datasheet's peaks say.

    Args:
        products: Matrix products.
        gpu: The datasheet.
        predict: Prices 8-bit products.

    Raises:
        FitError: The datasheet has no 4-bit rate.
    """
    peaks = gpu.peak_flops_per_second
    if "fp4" not in peaks or "fp8" not in peaks:
        raise FitError(
            f"{gpu.sku} has no 4-bit rate in its datasheet; its products are fp8 or wider"
        )
    found = predict([replace(each, dtype="fp8") for each in products if isinstance(each, Gemm)])
    least = np.array([each.bytes for each in products]) / gpu.memory_bytes_per_second
    seconds = np.maximum(found.seconds * peaks["fp8"] / peaks["fp4"], least)
    return without_twin(seconds, found, Origin.DATASHEET)
