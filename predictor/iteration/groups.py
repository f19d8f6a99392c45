"""Groups of ranks that talk to each other, and what they say.

A group knows how many of its ranks share a node, so an implementation names only what is sent:
``shape.tensor.all_gather(bytes)``. A collective of one rank, or of no bytes, is nothing at all.
Ranks are laid out as Megatron lays them out: tensor ranks next to each other, then context, data
and pipeline ranks.
"""

from predictor.operators import (
    AllGather,
    AllReduce,
    AllToAll,
    Broadcast,
    Collective,
    ReduceScatter,
    SendRecv,
)
from predictor.operators.collective import EVEN
from predictor.values import frozen


@frozen
class Group:
    """Ranks that share a collective.

    Attributes:
        ranks: How many.
        ranks_per_node: How many of them share a node.
        neighbours: How much slower than even the slowest links are that a ring crosses, inside a
            domain and between domains.
        peers: The same of messages to every other rank, one after another.
    """

    ranks: int = 1
    ranks_per_node: int = 1
    neighbours: tuple[float, float] = EVEN
    peers: tuple[float, float] = EVEN

    @classmethod
    def strided(cls, ranks: int, stride: int, gpus_per_node: int) -> "Group":
        """Ranks ``stride`` apart, as many in a node as fit."""
        return cls(ranks, max(1, min(ranks, gpus_per_node // stride)))

    def times(self, others: "Group") -> "Group":
        """Ranks of all groups of which ``others`` holds one rank each."""
        return Group(
            self.ranks * others.ranks,
            self.ranks_per_node * others.ranks_per_node,
            _slower(self.neighbours, others.neighbours),
            _slower(self.peers, others.peers),
        )

    def all_reduce(self, buffer_bytes: float, dtype: str = "bf16") -> Collective | None:
        """Sum a buffer."""
        return self._made(AllReduce, buffer_bytes, dtype)

    def all_gather(self, output_bytes: float, dtype: str = "bf16") -> Collective | None:
        """Gather a buffer of which each rank holds a share."""
        return self._made(AllGather, output_bytes, dtype)

    def reduce_scatter(self, input_bytes: float, dtype: str = "bf16") -> Collective | None:
        """Sum a buffer and leave each rank its share."""
        return self._made(ReduceScatter, input_bytes, dtype)

    def all_to_all(self, buffer_bytes: float, dtype: str = "bf16") -> Collective | None:
        """Send every rank its share of a buffer."""
        return self._made(AllToAll, buffer_bytes, dtype)

    def broadcast(self, buffer_bytes: float, dtype: str = "bf16") -> Collective | None:
        """Send one rank's buffer to all others."""
        return self._made(Broadcast, buffer_bytes, dtype)

    def ring_step(self, message_bytes: float, dtype: str = "bf16") -> Collective | None:
        """Send a message to the next rank while another comes from the one before."""
        if self.ranks <= 1:
            return None
        return SendRecv(
            bytes=int(message_bytes),
            ranks=self.ranks,
            ranks_per_node=self.ranks_per_node,
            dtype=dtype,
            slower=self.neighbours,
            pattern="ring",
        )

    def _made(self, kind: type[Collective], size: float, dtype: str) -> Collective | None:
        if self.ranks <= 1 or size < 1:
            return None
        return kind(
            bytes=int(size),
            ranks=self.ranks,
            ranks_per_node=self.ranks_per_node,
            dtype=dtype,
            slower=self.peers if kind is AllToAll else self.neighbours,
        )


def _slower(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    return max(one[0], other[0]), max(one[1], other[1])


def message(
    message_bytes: float, *, same_node: bool, slower: tuple[float, float] = EVEN
) -> SendRecv:
    """A message from one pipeline stage to a neighbour."""
    return SendRecv(
        bytes=int(message_bytes), ranks=2, ranks_per_node=2 if same_node else 1, slower=slower
    )
