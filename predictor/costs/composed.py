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

FOUR_BIT_SHARE: Final = 0.5
"""Seconds of a 4-bit product over those of the 8-bit one (plausible 0.43 to 0.75), as datasheets of
B200 and GB200 have it. Those of B300 and GB300 say a third, but twelve tables of
aiconfigurator-core 0.12.0 (TensorRT-LLM, SGLang and vLLM; 2,048 rows and more, 2 to 10 TFLOP, less
the bytes of quantising one operand) show no more gain there: medians of 0.59 to 0.71 on B200 and
GB200, 0.58 to 0.65 on B300 and GB300. cuBLAS 12.9, which trainers call, is said to reach 0.43."""


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
    """Products of 4-bit operands: :data:`FOUR_BIT_SHARE` of those of 8-bit ones.

    Args:
        products: Matrix products.
        gpu: The datasheet.
        predict: Prices 8-bit products.

    Raises:
        FitError: The datasheet has no 4-bit rate.
    """
    if not {"fp4", "fp8"} <= gpu.peak_flops_per_second.keys():
        raise FitError(
            f"{gpu.sku} has no 4-bit rate in its datasheet; its products are fp8 or wider"
        )
    found = predict([replace(each, dtype="fp8") for each in products if isinstance(each, Gemm)])
    least = np.array([each.bytes for each in products]) / gpu.memory_bytes_per_second
    seconds = np.maximum(found.seconds * FOUR_BIT_SHARE, least)
    return without_twin(seconds, found, Origin.EXTRAPOLATED)
