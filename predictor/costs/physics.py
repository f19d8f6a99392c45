"""Refuses measurements that no device could make, before anything is fitted to them."""

from typing import Final

from predictor.costs.design import Chip
from predictor.errors import TableError
from predictor.operators import Attention, Gemm, GroupedGemm, Host, Interference, Operator
from predictor.tables import Folder, Row

TENSOR_MARGIN: Final = 0.85
"""Boost clocks of good devices lie up to 10 % above the datasheet's."""

MEMORY_MARGIN: Final = 0.9
"""Bytes by the algorithm may be a little more than a kernel touches (repeated rows of a gather)."""


def check_physics(measured: Folder, chip: Chip) -> None:
    """Check every timed row against the datasheet.

    Raises:
        TableError: A row is faster than the tensor cores or, cold, than the memory; the message
            names it and the rule.
    """
    for name, table in measured.tables.items():
        for index, row in enumerate(table.rows):
            fault = physics_fault(row, chip)
            if fault:
                raise TableError(f"{measured.path / name}.csv:{index + 2}: {fault}")


def physics_fault(row: Row, chip: Chip) -> str:
    """Say how a row contradicts the datasheet; empty if it does not."""
    if row.seconds is None or isinstance(row.operator, Host | Interference):
        return ""
    tensor = TENSOR_MARGIN * _tensor_seconds(row.operator, chip)
    if row.seconds < tensor:
        return (
            f"seconds={row.seconds} is faster than the tensor cores at {1 / TENSOR_MARGIN:.2f} "
            f"times the datasheet's rate ({tensor:.3g} s); remove the row and measure it again"
        )
    memory = MEMORY_MARGIN * _memory_seconds(row.operator, chip)
    if row.cache == "cold" and row.seconds < memory:
        return (
            f"seconds={row.seconds} is faster than memory at {1 / MEMORY_MARGIN:.2f} times the "
            f"datasheet's rate ({memory:.3g} s) though cold; remove the row and measure it again"
        )
    return ""


def _tensor_seconds(operator: Operator, chip: Chip) -> float:
    if not isinstance(operator, Gemm | GroupedGemm | Attention):
        return 0.0
    rate = chip.flops_per_second.get(operator.dtype)
    return operator.flops / rate if rate else 0.0


def _memory_seconds(operator: Operator, chip: Chip) -> float:
    """Of kernels that go through device memory; collectives and copies to the host do not."""
    through = isinstance(operator, Gemm | GroupedGemm | Attention) or operator.name in {
        "memory_bound",
        "optimizer",
    }
    return operator.bytes / chip.bytes_per_second if through else 0.0
