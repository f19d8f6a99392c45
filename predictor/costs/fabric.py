"""The links of a cluster and what collectives cost on them: datasheet and network in, seconds out.

Two levels: a scale-up domain (a node, or a rack where NVLink leaves the node) and a network.
Formulas and fitted parameters are those of :mod:`predictor.costs.levels`; a network whose preset
holds a published curve of bus bandwidth by nodes runs at what was published. Everything here is
extrapolated: a measured curve of the very SKU and group, where there is one, is better.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from predictor.case import Cluster, Gpu, Network, load_network
from predictor.case.networks import BusCurve
from predictor.costs.levels import (
    Levels,
    Links,
    line_seconds,
    load_levels,
    route_seconds,
    routes,
)
from predictor.costs.prediction import Floats, Origin, Prediction
from predictor.operators import Collective

NODE_GPUS = 8
"""A scale-up domain of more GPUs than this spans nodes: its size is the datasheet's."""

NVLS_LEAST_RANKS = 5
"""NCCL 2.27 reduces in the switch from five GPUs on (stas00/ml-engineering, network/README.md)."""

LEAST_MOVING = 0.1
"""Of a published time, at least this much is bytes that move."""


@dataclass(frozen=True, kw_only=True)
class Fabric:
    """The links of a cluster.

    Attributes:
        gpus_per_node: GPUs of the scale-up domain.
        scaleup_bytes_per_second: One way, per GPU, inside the domain.
        network_bytes_per_second: One way, per GPU, beyond it.
        network_latency_seconds: Of one message, as NCCL or its plugin states it.
        nvls: The switches of the domain can reduce.
        network: Preset behind it, for its curve and its oversubscription; None where unknown.
        levels: Fitted parameters.
    """

    gpus_per_node: int
    scaleup_bytes_per_second: float
    network_bytes_per_second: float
    network_latency_seconds: float
    nvls: bool
    network: Network | None
    levels: Levels

    @classmethod
    def of(cls, cluster: Cluster, gpu: Gpu) -> "Fabric":
        """Links of a case's cluster; what it leaves open is that of the GPU's usual machine."""
        named = load_network(cluster.network) if cluster.network else None
        usual = named or load_network(gpu.network)
        rate = cluster.inter_node_bytes_per_second_per_gpu
        latency = cluster.inter_node_latency_seconds
        return cls(
            gpus_per_node=domain_gpus(gpu, cluster.gpus_per_node),
            scaleup_bytes_per_second=gpu.scaleup_bytes_per_second,
            network_bytes_per_second=rate or usual.inter_node_bytes_per_second_per_gpu,
            network_latency_seconds=(
                usual.inter_node_latency_seconds if latency is None else latency
            ),
            nvls=gpu.switches_reduce,
            network=named,
            levels=load_levels(),
        )

    @classmethod
    def usual(cls, gpu: Gpu) -> "Fabric":
        """Links of the machine that a GPU usually comes in."""
        return cls.of(Cluster(gpu=gpu.sku, num_gpus=1, network=gpu.network), gpu)

    def ranks_per_node(self, ranks: int, stride: int) -> int:
        """Ranks of a group that share a domain, if neighbours are ``stride`` GPUs apart."""
        return max(1, min(ranks, self.gpus_per_node // stride))

    def seconds(
        self,
        kind: str,
        size: ArrayLike,
        ranks: ArrayLike,
        ranks_per_node: ArrayLike,
        *,
        nvls: bool | None = None,
    ) -> Floats:
        """Seconds of collectives on idle links; arrays broadcast, a group of one costs nothing.

        Args:
            kind: ``all_reduce``, ``all_gather``, ``reduce_scatter``, ``broadcast``, ``all_to_all``
                or ``send_recv``.
            size: Bytes of the buffer that the operator's docstring names.
            ranks: In the group.
            ranks_per_node: Of these, in one scale-up domain.
            nvls: May the switches reduce? None: where they can and NCCL would.
        """
        return self._answer(kind, size, ranks, ranks_per_node, nvls=nvls)[0]

    def predict(self, operators: Sequence[Collective]) -> Prediction:
        """Seconds, a 90 % interval and the origin ``extrapolated`` of each collective."""
        rows = np.zeros((len(operators), 3))
        for at, op in enumerate(operators):
            seconds, half = self._answer(
                op.name, op.bytes, op.ranks, op.ranks_per_node, nvls=op.nvls
            )
            factor = np.exp(half)
            rows[at] = seconds, seconds / factor, seconds * factor
        origin = np.full(len(operators), Origin.EXTRAPOLATED.value)
        return Prediction(rows[:, 0], rows[:, 1], rows[:, 2], origin)

    def _answer(
        self,
        kind: str,
        size: ArrayLike,
        ranks: ArrayLike,
        ranks_per_node: ArrayLike,
        *,
        nvls: bool | None,
    ) -> tuple[Floats, Floats]:
        inside = np.minimum(ranks_per_node, ranks)
        if nvls is None:
            in_switch = np.asarray(inside) >= NVLS_LEAST_RANKS if self.nvls else np.False_
            if in_switch.any() and not in_switch.all():
                parts = [self._answer(kind, size, ranks, inside, nvls=way) for way in (True, False)]
                switched, plain = parts
                return (
                    np.where(in_switch, switched[0], plain[0]),
                    np.where(in_switch, switched[1], plain[1]),
                )
            nvls = bool(in_switch.all())
        found = routes(kind, size, ranks, inside, nvls=nvls)
        nodes = np.ceil(np.asarray(ranks, float) / inside)
        slowdown = self._slowdown(kind, nodes) * self._oversubscription(kind, ranks, inside)
        seconds, latency = route_seconds(self.levels, found, self._links, slowdown=slowdown)
        level = self.levels.half_width
        half = np.where(nodes > 1, level["network"].at(latency), level["node"].at(latency))
        alone = np.asarray(ranks) <= 1
        return np.where(alone, 0.0, seconds), np.where(alone, 0.0, half)

    @cached_property
    def _links(self) -> Links:
        return Links(
            scaleup=self.scaleup_bytes_per_second,
            network=self.network_bytes_per_second,
            latency_seconds=self.network_latency_seconds,
        )

    def _slowdown(self, kind: str, nodes: Floats) -> Floats:
        """Seconds per byte of the network over those at its rate, from its preset's curve.

        Between two published counts of nodes it is interpolated in logarithms, beyond the last it
        stays: nothing says how a fabric goes on.
        """
        known = self._curves.get(kind)
        if known is None:
            return np.ones_like(nodes)
        counts, shares = known
        return np.asarray(np.exp(np.interp(np.log(nodes), np.log(counts), np.log(shares))))

    @cached_property
    def _curves(self) -> dict[str, tuple[Floats, Floats]]:
        """Of each published collective, node counts and seconds per byte over line rate."""
        curve = self.network.curve if self.network is not None else None
        if curve is None:
            return {}
        counts = np.array(curve.nodes)
        across = counts > 1
        return {
            kind: (
                counts[across],
                self._shares(curve, kind, counts[across], np.array(rates)[across]),
            )
            for kind, rates in curve.bus_bytes_per_second.items()
        }

    def _shares(self, curve: BusCurve, kind: str, nodes: Floats, rates: Floats) -> Floats:
        """Published times less latency, over the times of the bytes at the network's rate."""
        inside = curve.gpus_per_node
        found = routes(kind, curve.bytes, nodes * inside, inside, nvls=self.nvls)
        latency = np.min(
            np.stack(
                [
                    line_seconds(line, route, self._links, 1.0)[0]
                    for route in found
                    for line in self.levels.lines[route.algorithm]
                ]
            ),
            axis=0,
        )
        published = found[0].link_bytes / rates  # of the ring, which bus bandwidth refers to
        moving = np.maximum(published - latency, LEAST_MOVING * published)
        return np.asarray(moving * self.network_bytes_per_second / found[0].network_bytes)

    def _oversubscription(self, kind: str, ranks: ArrayLike, inside: ArrayLike) -> Floats:
        """An all-to-all's slower part is what leaves a pod; rings cross pods on few links only."""
        whole = np.asarray(ranks, float)
        pod = self.network.pod_gpus if self.network is not None else None
        if pod is None or self.network is None or kind != "all_to_all":
            return np.ones_like(whole)
        beyond = np.maximum(whole - pod, 0.0) / np.maximum(whole - np.asarray(inside), 1.0)
        return np.asarray(np.maximum(1.0, beyond / self.network.pod_share))

    def all_gather_seconds(self, output_bytes: float, ranks: int, *, stride: int = 1) -> float:
        """All-gather whose whole output is ``output_bytes``; ranks are ``stride`` GPUs apart."""
        return self._strided("all_gather", output_bytes, ranks, stride)

    def all_reduce_seconds(self, buffer_bytes: float, ranks: int, *, stride: int = 1) -> float:
        """All-reduce of a buffer; ranks are ``stride`` GPUs apart."""
        return self._strided("all_reduce", buffer_bytes, ranks, stride)

    def send_seconds(self, message_bytes: float, *, stride: int) -> float:
        """One send to the rank ``stride`` GPUs away."""
        return self._strided("send_recv", message_bytes, 2, stride)

    def _strided(self, kind: str, size: float, ranks: int, stride: int) -> float:
        return float(self.seconds(kind, size, ranks, self.ranks_per_node(ranks, stride)))


def domain_gpus(gpu: Gpu, gpus_per_node: int | None) -> int:
    """GPUs that NVLink joins: those of a node, or of the rack where NVLink leaves the node."""
    if gpu.scaleup_gpus > NODE_GPUS:
        return gpu.scaleup_gpus
    return gpus_per_node or gpu.scaleup_gpus
