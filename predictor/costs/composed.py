"""Operators that no table stands behind but that are made of others that one does.

A grouped GEMM without a measured curve takes what its experts' products take one after another,
which is what looped implementations do and what the others should not exceed by much.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from predictor.costs.prediction import Origin, Prediction
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
