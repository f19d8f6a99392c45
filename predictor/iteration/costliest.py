"""The costliest operators of a step, in words."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from predictor.costs import Costs, Origin
from predictor.iteration.priced import Priced
from predictor.operators import Attention, Gemm, Host, MemoryBound, Operator

TOP_OPERATORS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorShare:
    """One of the costliest operators.

    Attributes:
        label: What it is, in words.
        launches: Times a step.
        seconds: Seconds a step.
        share_of_peak: Achieved share of what bounds it.
        bound_by: ``tensor cores`` or ``memory``.
        origin: Where its time comes from.
    """

    label: str
    launches: int
    seconds: float
    share_of_peak: float
    bound_by: str
    origin: str


def costliest(parts: Iterable[tuple[Priced, int]], costs: Costs) -> tuple[OperatorShare, ...]:
    """The operators that take the most seconds, over segments that run so many times."""
    totals: dict[Operator, list[float]] = {}
    for part, times in parts:
        for launch, seconds, origin in zip(
            part.segment.launches, part.seconds, part.origin, strict=True
        ):
            entry = totals.setdefault(launch.operator, [0.0, 0.0, float(origin)])
            entry[0] += times
            entry[1] += float(seconds) * times
    ranked = sorted(totals.items(), key=lambda item: -item[1][1])[:TOP_OPERATORS]
    return tuple(_share(op, entry[0], entry[1], entry[2], costs) for op, entry in ranked)


def _share(
    operator: Operator, launches: float, seconds: float, origin: float, costs: Costs
) -> OperatorShare:
    compute = operator.flops / costs.gpu.peak_flops_per_second["bf16"]
    stream = operator.bytes / costs.gpu.memory_bytes_per_second
    return OperatorShare(
        label=_label(operator),
        launches=int(launches),
        seconds=seconds,
        share_of_peak=launches * max(compute, stream) / seconds if seconds > 0 else math.nan,
        bound_by="tensor cores" if compute > stream else "memory",
        origin=Origin(int(origin)).label,
    )


def _label(operator: Operator) -> str:
    match operator:
        case Gemm():
            return f"gemm {operator.kind} m={operator.m} n={operator.n} k={operator.k}"
        case Attention():
            mask = "causal" if operator.causal else "full with bias" if operator.bias else "full"
            size = f"b={operator.batch} s={operator.seq_length} h={operator.num_heads}"
            return f"attention {operator.kind} {mask} {size}"
        case MemoryBound():
            return f"{operator.impl} {operator.kernel} {operator.rows}x{operator.cols}"
        case Host():
            return f"{operator.stack} {operator.phase}"
        case _:
            return f"{operator.impl} {operator.kernel} of {operator.elements} parameters"
