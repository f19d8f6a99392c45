"""The costliest operators of a step, in words."""

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
from predictor.units import MIB
from predictor.values import frozen

TOP_OPERATORS = 5


@frozen(kw_only=True)
class OperatorShare:
    """One of the costliest operators.

    Attributes:
        operator: Its fields.
        label: What it is, in words.
        launches: Times a step.
        seconds: Seconds a step.
        share_of_peak: Achieved share of what bounds it.
        bound_by: ``tensor cores``, ``memory``, ``scale-up links`` or ``network``.
        origin: Where its time comes from.
        family: Operator family.
    """

    operator: Operator
    label: str
    launches: int
    seconds: float
    share_of_peak: float
    bound_by: str
    origin: str
    family: str


def costliest(
    ledger: Ledger, costs: Costs, *, network_bytes_per_second: float | None, count: int
) -> tuple[OperatorShare, ...]:
    """The operators that take the most seconds.

    Args:
        ledger: Every launch of a stage.
        costs: Cost functions, with the datasheet that shares refer to.
        network_bytes_per_second: One way, of a GPU; None where the job stays inside a node.
        count: How many at most.
    """
    operators, code = ledger.operators, ledger.operator
    seconds = np.bincount(code, ledger.seconds, minlength=len(operators))
    times = np.bincount(code, ledger.times, minlength=len(operators))
    origin = np.zeros(len(operators), dtype=np.int64)
    origin[code] = ledger.origin  # all launches of an operator have the same
    found = []
    chosen = np.argsort(-seconds, kind="stable")[:count]
    columns = (chosen, seconds[chosen], times[chosen], origin[chosen])
    for place, spent, launches, source in zip(*(each.tolist() for each in columns), strict=True):
        if spent <= 0:
            break
        operator = operators[place]
        least_seconds, bound_by = _bound(operator, costs, network_bytes_per_second)
        share = OperatorShare(
            operator=operator,
            label=_label(operator),
            launches=int(launches),
            seconds=spent,
            share_of_peak=launches * least_seconds / spent,
            bound_by=bound_by,
            origin=Origin(source).label,
            family=operator.name,
        )
        found.append(share)
    return tuple(found)


def _bound(operator: Operator, costs: Costs, network: float | None) -> tuple[float, str]:
    """Seconds of one call at the datasheet's rate of what bounds it, and what that is."""
    gpu = costs.gpu
    if isinstance(operator, Collective):
        inside = operator.bus_bytes / gpu.scaleup_bytes_per_second
        if operator.nodes == 1 or network is None:
            return inside, "scale-up links"
        across = _network_bytes(operator) / network
        return max(inside, across), "network" if across > inside else "scale-up links"
    peaks = gpu.peak_flops_per_second
    compute = operator.flops / peaks.get(getattr(operator, "dtype", "bf16"), peaks["bf16"])
    stream = operator.bytes / gpu.memory_bytes_per_second
    return max(compute, stream), "tensor cores" if compute > stream else "memory"


def _network_bytes(operator: Collective) -> float:
    """Bytes that each rank sends out of its node.

    A ring leaves a node once, through the links of all its ranks; of an all-to-all, the parts for
    ranks of other nodes leave through the link of the rank that sends them.
    """
    if operator.name == "all_to_all":
        return operator.bytes * (operator.ranks - operator.ranks_per_node) / operator.ranks
    return operator.bus_bytes / operator.ranks_per_node


def _label(operator: Operator) -> str:
    match operator:
        case Gemm() | GroupedGemm():
            rows = operator.m if isinstance(operator, Gemm) else operator.tokens
            return f"{operator.name} {operator.kind} m={rows} n={operator.n} k={operator.k}"
        case Attention():
            mask = "causal" if operator.causal else "full with bias" if operator.bias else "full"
            size = f"b={operator.batch} s={operator.seq_length} h={operator.num_heads}"
            return f"attention {operator.kind} {mask} {size}"
        case MemoryBound():
            return f"{operator.impl} {operator.kernel} {operator.rows}x{operator.cols}"
        case Host():
            return f"{operator.stack} {operator.phase}"
        case Optimizer():
            return f"{operator.impl} {operator.kernel} of {operator.elements:,} parameters"
        case _:
            size = f"{operator.name} of {operator.bytes / MIB:,.1f} MiB"
            return f"{size}, {operator.ranks} ranks" if isinstance(operator, Collective) else size
