"""What is costed: one frozen dataclass an operator.

The fields of an operator are the columns of its measured table, the arguments of its benchmark,
the node of the iteration's graph and the source of its regressors. In comes a shape, out go flops,
bytes and the names of its fields. Adding an operator is one file here, its native twin in csrc/
and one line in ``OPERATORS``.
"""

from dataclasses import Field, fields
from functools import cache
from typing import Final

from predictor.operators.all_gather import AllGather
from predictor.operators.all_reduce import AllReduce
from predictor.operators.all_to_all import AllToAll
from predictor.operators.attention import Attention
from predictor.operators.broadcast import Broadcast
from predictor.operators.collective import Collective
from predictor.operators.gemm import Gemm
from predictor.operators.grouped_gemm import GroupedGemm
from predictor.operators.host import Host
from predictor.operators.interference import Interference
from predictor.operators.memcpy import Memcpy
from predictor.operators.memory_bound import KERNELS, MemoryBound
from predictor.operators.optimizer import Optimizer
from predictor.operators.reduce_scatter import ReduceScatter
from predictor.operators.send_recv import SendRecv

Operator = (
    Gemm
    | GroupedGemm
    | Attention
    | MemoryBound
    | Optimizer
    | Memcpy
    | Host
    | Collective
    | Interference
)

OPERATORS: Final[dict[str, type[Operator]]] = {
    "gemm": Gemm,
    "grouped_gemm": GroupedGemm,
    "attention": Attention,
    "memory_bound": MemoryBound,
    "optimizer": Optimizer,
    "memcpy": Memcpy,
    "host": Host,
    "all_reduce": AllReduce,
    "all_gather": AllGather,
    "reduce_scatter": ReduceScatter,
    "all_to_all": AllToAll,
    "broadcast": Broadcast,
    "send_recv": SendRecv,
    "interference": Interference,
}


@cache
def field_names(operator: str) -> tuple[str, ...]:
    """Names of an operator's fields, which are the leading columns of its table."""
    return tuple(f.name for f in column_fields(OPERATORS[operator]))


def column_fields(kind: type[Operator] | Operator) -> tuple[Field[object], ...]:
    """Fields of an operator that are columns: all but what is said of a case alone."""
    return tuple(f for f in fields(kind) if f.metadata.get("column", True))


__all__ = [
    "KERNELS",
    "OPERATORS",
    "AllGather",
    "AllReduce",
    "AllToAll",
    "Attention",
    "Broadcast",
    "Collective",
    "Gemm",
    "GroupedGemm",
    "Host",
    "Interference",
    "Memcpy",
    "MemoryBound",
    "Operator",
    "Optimizer",
    "ReduceScatter",
    "SendRecv",
    "column_fields",
    "field_names",
]
