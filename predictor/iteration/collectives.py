"""Seconds of collectives from latency and bandwidth, until measured curves take their place.

α-β over two levels (Thakur, Rabenseifner, Gropp 2005; NCCL's ring): a ring of ``p`` ranks sends
``(p-1)/p`` of the buffer for a gather or scatter, twice that for an all-reduce. Ranks of one node
talk over the scale-up links, others over the network; a ring that leaves the node runs at the
slower of the two. Efficiencies and latencies are physical constants with their sources below;
everything here is marked ``extrapolated``.
"""

from dataclasses import dataclass

RING_EFFICIENCY = 0.81
"""Share of the one-way NVLink rate that NCCL's ring reaches: 361–367 of 450 GB/s on 8×H200
(NCCL 2.27.7, stas00/ml-engineering network/README, 2026-08)."""

NETWORK_EFFICIENCY = 0.85
"""Share of the network's line rate that large messages reach: 42–43 of 50 GB/s a GPU over NDR
(published nccl-tests curves of DGX H100 systems)."""

STEP_SECONDS_IN_NODE = 3.5e-6
"""Latency of one ring step over NVLink, protocol Simple (NCCL 2.27 ``tuning.cc``: 3.4 µs)."""

STEP_SECONDS_ACROSS = 14e-6
"""Latency of one ring step over InfiniBand, protocol Simple (NCCL 2.27 ``tuning.cc``: 14 µs)."""

START_SECONDS = 6e-6
"""Launch of the collective's kernel and its first flags."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fabric:
    """The links of a cluster.

    Attributes:
        gpus_per_node: GPUs that share the scale-up links.
        scaleup_bytes_per_second: One way, per GPU, inside the node.
        network_bytes_per_second: One way, per GPU, between nodes.
        network_seconds: Extra latency of one hop between nodes.
    """

    gpus_per_node: int
    scaleup_bytes_per_second: float
    network_bytes_per_second: float
    network_seconds: float = 0.0

    def _ring(self, ranks: int, stride: int) -> tuple[float, float]:
        """Bytes a second of a ring and seconds a step; ``stride`` is the distance of its ranks."""
        if ranks * stride <= self.gpus_per_node:
            return RING_EFFICIENCY * self.scaleup_bytes_per_second, STEP_SECONDS_IN_NODE
        in_node = max(1, self.gpus_per_node // stride)
        across = NETWORK_EFFICIENCY * self.network_bytes_per_second * min(in_node, ranks)
        inside = RING_EFFICIENCY * self.scaleup_bytes_per_second
        return min(across, inside), STEP_SECONDS_ACROSS + self.network_seconds

    def all_gather_seconds(self, output_bytes: float, ranks: int, *, stride: int = 1) -> float:
        """All-gather whose whole output is ``output_bytes``; also a reduce-scatter's input."""
        if ranks <= 1:
            return 0.0
        rate, step = self._ring(ranks, stride)
        steps = min(ranks - 1, 64)
        return START_SECONDS + steps * step + output_bytes * (ranks - 1) / ranks / rate

    def all_reduce_seconds(self, buffer_bytes: float, ranks: int, *, stride: int = 1) -> float:
        """All-reduce of a buffer: a reduce-scatter and an all-gather."""
        return 2.0 * self.all_gather_seconds(buffer_bytes, ranks, stride=stride)

    def send_seconds(self, message_bytes: float, *, stride: int) -> float:
        """One send to the rank ``stride`` away."""
        inside = stride < self.gpus_per_node
        rate = (
            RING_EFFICIENCY * self.scaleup_bytes_per_second
            if inside
            else NETWORK_EFFICIENCY * self.network_bytes_per_second
        )
        step = STEP_SECONDS_IN_NODE if inside else STEP_SECONDS_ACROSS + self.network_seconds
        return START_SECONDS + step + message_bytes / rate
