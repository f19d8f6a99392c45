"""What is costed: one frozen dataclass an operator.

The fields of an operator are the columns of its measured table, the arguments of its benchmark,
the node of the iteration's graph and the source of its regressors. In comes a shape, out go flops,
bytes and the names of its fields. Adding an operator is one file here, its native twin in csrc/
and one line in ``OPERATORS``.
"""

from dataclasses import fields
from typing import Final

from predictor.operators.attention import Attention
from predictor.operators.gemm import Gemm
from predictor.operators.host import Host
from predictor.operators.memory_bound import KERNELS, MemoryBound
from predictor.operators.optimizer import Optimizer

Operator = Gemm | Attention | MemoryBound | Optimizer | Host

OPERATORS: Final[dict[str, type[Operator]]] = {
    "gemm": Gemm,
    "attention": Attention,
    "memory_bound": MemoryBound,
    "optimizer": Optimizer,
    "host": Host,
}


def field_names(operator: str) -> tuple[str, ...]:
    """Names of an operator's fields, which are the leading columns of its table."""
    return tuple(f.name for f in fields(OPERATORS[operator]))


__all__ = [
    "KERNELS",
    "OPERATORS",
    "Attention",
    "Gemm",
    "Host",
    "MemoryBound",
    "Operator",
    "Optimizer",
    "field_names",
]
