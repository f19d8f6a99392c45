"""Refuses measurements that no device could make, before anything is fitted to them."""

from math import inf
from typing import Final

from predictor.costs.design import LAUNCH_SECONDS, Chip
from predictor.errors import TableError
from predictor.operators import (
    AllReduce,
    Attention,
    Collective,
    Gemm,
    GroupedGemm,
    Host,
    Interference,
    Memcpy,
    MemoryBound,
    Operator,
    Optimizer,
)
from predictor.tables import Folder, Row

TENSOR_MARGIN: Final = 0.85
"""Boost clocks of good devices lie up to 10 % above the datasheet's."""

MEMORY_MARGIN: Final = 0.9
"""Bytes by the algorithm may be a little more than a kernel touches (repeated rows of a gather)."""

SLOWEST: Final = 100.0
"""Times its bound that no product, attention, optimizer's step or copy takes: rows of misaligned
products take 12, of 128 experts one by one 23. A table in milliseconds takes 1,000 and more."""

SLOWEST_STREAM: Final = 3000.0
"""The same of kernels that only move bytes: a scan over the rows of a tall table takes 860."""

SLOWEST_MESSAGE: Final = 1000.0
"""The same of collectives inside a node, where short messages wait for 45 times a launch."""


def check_physics(measured: Folder, chip: Chip) -> None:
    """Check every row against the datasheet, and that its run is of the folder's SKU.

    Raises:
        TableError: A row was measured on another SKU, is faster than the tensor cores, the link or,
            cold, than the memory, or so slow that its unit must be wrong; the message names it and
            the rule.
    """
    sku = measured.path.name
    other = {run: told["sku"] for run, told in measured.runs.items() if told.get("sku", sku) != sku}
    for name, table in measured.tables.items():
        for index, row in enumerate(table.rows):
            fault = physics_fault(row, chip)
            if row.run in other:
                fault = (
                    f"run={row.run!r} was measured on {other[row.run]} by runs.toml, and the "
                    f"folder is that of {sku}; keep each SKU's rows in its own folder"
                )
            if fault:
                raise TableError(f"{measured.path / name}.csv:{index + 2}: {fault}")


def physics_fault(row: Row, chip: Chip) -> str:
    """Say how a row contradicts the datasheet; empty if it does not."""
    if row.seconds is None or isinstance(row.operator, Host | Interference):
        return ""
    tensor = _tensor_seconds(row.operator, chip)
    link = _link_seconds(row.operator, chip)
    memory = _memory_seconds(row.operator, chip)
    for what, least, margin in (
        ("the tensor cores", tensor, TENSOR_MARGIN),
        ("the link", link, TENSOR_MARGIN),
    ):
        if row.seconds < margin * least:
            return (
                f"seconds={row.seconds} is faster than {what} at {1 / margin:.2f} times the "
                f"datasheet's rate ({margin * least:.3g} s); remove the row and measure it again"
            )
    if row.cache == "cold" and row.seconds < MEMORY_MARGIN * memory:
        return (
            f"seconds={row.seconds} is faster than memory at {1 / MEMORY_MARGIN:.2f} times the "
            f"datasheet's rate ({MEMORY_MARGIN * memory:.3g} s) though cold; remove the row and "
            "measure it again"
        )
    bound = _launches(row.operator) * LAUNCH_SECONDS + max(tensor, link, memory)
    if row.seconds > _slowest(row.operator, chip) * bound:
        return (
            f"seconds={row.seconds} is {row.seconds / bound:,.0f} times what the datasheet's rates "
            f"allow ({bound:.3g} s): is it in another unit? correct it, or remove the row"
        )
    return ""


def _tensor_seconds(operator: Operator, chip: Chip) -> float:
    if not isinstance(operator, Gemm | GroupedGemm | Attention):
        return 0.0
    rate = chip.flops_per_second.get(operator.dtype)
    return operator.flops / rate if rate else 0.0


def _memory_seconds(operator: Operator, chip: Chip) -> float:
    """Of kernels that go through device memory; collectives and copies to the host do not."""
    if isinstance(operator, Memcpy):
        inside = operator.direction == "d2d"
        return operator.working_set_bytes / chip.bytes_per_second if inside else 0.0
    through = Gemm | GroupedGemm | Attention | MemoryBound | Optimizer
    return operator.bytes / chip.bytes_per_second if isinstance(operator, through) else 0.0


def _link_seconds(operator: Operator, chip: Chip) -> float:
    """Of what a rank sends, or is copied to or from the host or another GPU.

    A switch that adds spares an all-reduce half of what a ring sends.
    """
    rate = _link_rate(operator, chip)
    if not rate:
        return 0.0
    if isinstance(operator, Collective):
        return (0.5 if isinstance(operator, AllReduce) else 1.0) * operator.bus_bytes / rate
    return operator.bytes / rate


def _link_rate(operator: Operator, chip: Chip) -> float:
    """Bytes a second of the link that an operator's bytes cross; 0 if none or not told."""
    if isinstance(operator, Memcpy) and operator.direction in {"h2d", "d2h"}:
        return chip.host_bytes_per_second
    if isinstance(operator, Memcpy) and operator.direction == "peer":
        return chip.link_bytes_per_second or chip.host_bytes_per_second
    return chip.link_bytes_per_second if isinstance(operator, Collective) else 0.0


def _launches(operator: Operator) -> int:
    return operator.experts if isinstance(operator, GroupedGemm) else 1


def _slowest(operator: Operator, chip: Chip) -> float:
    """Times its bound; endless where the datasheet does not tell what bounds it.

    Networks of any rate and latency may lie between nodes.
    """
    if isinstance(operator, Collective):
        judged = operator.nodes == 1 and chip.link_bytes_per_second > 0
        return SLOWEST_MESSAGE if judged else inf
    if isinstance(operator, Memcpy) and operator.direction != "d2d":
        return SLOWEST if _link_rate(operator, chip) else inf
    if isinstance(operator, Gemm | GroupedGemm | Attention):
        return SLOWEST if operator.dtype in chip.flops_per_second else inf
    return SLOWEST_STREAM if isinstance(operator, MemoryBound) else SLOWEST
