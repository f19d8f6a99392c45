"""What all collectives share: a buffer, the ranks that hold it and where they sit.

A collective is timed on every rank; its seconds are the median over iterations of the slowest rank.
Bus and algorithm bandwidth (nccl-tests, doc/PERFORMANCE.md) are rates for reports and never stored.
"""

from dataclasses import field
from typing import ClassVar, Final

from predictor.dtypes import itemsize
from predictor.values import frozen

EVEN: Final = (1.0, 1.0)
"""Links that are all alike, inside a scale-up domain and between domains."""


@frozen(kw_only=True)
class Collective:
    """One call of a collective by every rank of a group.

    Attributes:
        bytes: Of the buffer that the operator's own docstring names.
        ranks: In one group, one GPU each.
        ranks_per_node: Ranks of one group that share a node.
        dtype: Type of the elements.
        nvls: NVLink SHARP (multicast inside the switch) may be used.
        groups: Groups of ``ranks`` that run the same collective at once.
        slower: Seconds per byte of the links that decide over those of an even cluster, inside a
            scale-up domain and between domains. Said of a case's cluster, never measured: no column
            of a table.
    """

    name: ClassVar[str]

    bytes: int
    ranks: int
    ranks_per_node: int
    dtype: str = "bf16"
    nvls: bool = False
    groups: int = 1
    slower: tuple[float, float] = field(default=EVEN, metadata={"column": False})

    @property
    def flops(self) -> float:
        """Reductions are negligible beside the traffic."""
        return 0.0

    @property
    def elements(self) -> int:
        """Elements of the buffer."""
        return self.bytes // itemsize(self.dtype)

    @property
    def nodes(self) -> int:
        """Nodes that one group spans."""
        return -(-self.ranks // self.ranks_per_node)

    @property
    def gpus(self) -> int:
        """GPUs that take part, over all groups."""
        return self.ranks * self.groups

    @property
    def bus_bytes(self) -> float:
        """Bytes that each rank must send over its link: ``busbw = bus_bytes / seconds``."""
        return self.bytes * (self.ranks - 1) / self.ranks

    @property
    def working_set_bytes(self) -> float:
        """Bytes that one rank holds for the call: what goes in and what comes out."""
        return 2.0 * self.bytes
