"""The costliest operators of a step, in words."""

import math

import numpy as np

from predictor.costs import Costs, Origin
from predictor.iteration.ledger import Ledger
from predictor.operators import (
    Attention,
    Collective,
    Gemm,
    GroupedGemm,
    Host,
    MemoryBound,
    Operator,
    Optimizer,
)
from predictor.values import frozen

TOP_OPERATORS = 5


@frozen(kw_only=True)
class OperatorShare:
    """One of the costliest operators.

    Attributes:
        label: What it is, in words.
        launches: Times a step.
        seconds: Seconds a step.
        share_of_peak: Achieved share of what bounds it.
        bound_by: ``tensor cores``, ``memory`` or ``scale-up links``.
        origin: Where its time comes from.
    """

    label: str
    launches: int
    seconds: float
    share_of_peak: float
    bound_by: str
    origin: str


def costliest(ledger: Ledger, costs: Costs) -> tuple[OperatorShare, ...]:
    """The operators that take the most seconds."""
    operators, code = ledger.operators, ledger.operator
    seconds = np.bincount(code, ledger.seconds, minlength=len(operators))
    times = np.bincount(code, ledger.times, minlength=len(operators))
    origin = np.zeros(len(operators), dtype=np.int64)
    np.maximum.at(origin, code, ledger.origin)
    return tuple(
        _share(operators[i], float(times[i]), float(seconds[i]), int(origin[i]), costs)
        for i in np.argsort(-seconds, kind="stable")[:TOP_OPERATORS]
    )


def _share(
    operator: Operator, launches: float, seconds: float, origin: int, costs: Costs
) -> OperatorShare:
    least_seconds, bound_by = _bound(operator, costs)
    return OperatorShare(
        label=_label(operator),
        launches=int(launches),
        seconds=seconds,
        share_of_peak=launches * least_seconds / seconds if seconds > 0 else math.nan,
        bound_by=bound_by,
        origin=Origin(origin).label,
    )


def _bound(operator: Operator, costs: Costs) -> tuple[float, str]:
    """Seconds of one call at the datasheet's rate of what bounds it, and what that is."""
    gpu = costs.gpu
    if isinstance(operator, Collective):
        return operator.bus_bytes / gpu.scaleup_bytes_per_second, "scale-up links"
    peaks = gpu.peak_flops_per_second
    compute = operator.flops / peaks.get(getattr(operator, "dtype", "bf16"), peaks["bf16"])
    stream = operator.bytes / gpu.memory_bytes_per_second
    return max(compute, stream), "tensor cores" if compute > stream else "memory"


def _label(operator: Operator) -> str:
    match operator:
        case Gemm() | GroupedGemm():
            rows = f"m={operator.m}" if isinstance(operator, Gemm) else f"tokens={operator.tokens}"
            return f"{operator.name} {operator.kind} {rows} n={operator.n} k={operator.k}"
        case Attention():
            mask = "causal" if operator.causal else "full with bias" if operator.bias else "full"
            size = f"b={operator.batch} s={operator.seq_length} h={operator.num_heads}"
            return f"attention {operator.kind} {mask} {size}"
        case MemoryBound():
            return f"{operator.impl} {operator.kernel} {operator.rows}x{operator.cols}"
        case Host():
            return f"{operator.stack} {operator.phase}"
        case Optimizer():
            return f"{operator.impl} {operator.kernel} of {operator.elements} parameters"
        case _:
            return f"{operator.name} of {operator.bytes:.0f} bytes"
