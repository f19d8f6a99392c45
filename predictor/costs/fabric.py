"""The links of a cluster and what collectives cost on them: datasheet and network in, seconds out.

Two levels: a scale-up domain (a node, or a rack where NVLink leaves the node) and a network.
Formulas and fitted parameters are those of :mod:`predictor.costs.levels`; a network whose preset
holds a published curve of bus bandwidth by nodes runs at what was published. Everything here is
extrapolated: a measured curve of the very SKU and group, where there is one, is better.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from predictor.case import Cluster, Gpu, Network, domain_gpus, load_network
from predictor.costs.levels import (
    Levels,
    Links,
    line_seconds,
    load_levels,
    route_seconds,
)
from predictor.costs.prediction import Floats, Origin, Prediction
from predictor.costs.routes import Route, routes
from predictor.operators import Collective
from predictor.operators.collective import EVEN
from predictor.values import frozen

NVLS_LEAST_RANKS = 5
"""NCCL 2.27 reduces in the switch from five GPUs on (stas00/ml-engineering, network/README.md)."""

RINGS_ALONE = frozenset({"all_gather", "reduce_scatter"})
"""Collectives for which NCCL has no algorithm but the ring (PAT serves one rank a node)."""

LEAST_MOVING = 0.1
"""Of a published time, at least this much is bytes that move."""


@frozen(kw_only=True, slots=False)
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
        alike: dict[tuple[str, bool | None], list[int]] = {}
        for at, op in enumerate(operators):
            alike.setdefault((op.name, op.nvls), []).append(at)
        for (name, nvls), places in alike.items():
            asked = [operators[at] for at in places]
            size, ranks, inside = (
                np.array([getattr(op, field) for op in asked], dtype=float)
                for field in ("bytes", "ranks", "ranks_per_node")
            )
            seconds, half = self._answer(name, size, ranks, inside, nvls=nvls)
            factor = np.exp(half)
            rows[places] = np.stack([seconds, seconds / factor, seconds * factor], axis=1)
        origin = np.full(len(operators), Origin.EXTRAPOLATED.value)
        return Prediction(rows[:, 0], rows[:, 1], rows[:, 2], origin)

    def longer(self, operator: Collective) -> float:
        """Seconds of a collective over the links that it crosses, over those on even ones."""
        asked = (operator.name, operator.bytes, operator.ranks, operator.ranks_per_node)
        even, uneven = (
            self._answer(*asked, nvls=None, slower=links)[0] for links in (EVEN, operator.slower)
        )
        return float(uneven / even) if even else 1.0

    def _answer(
        self,
        kind: str,
        size: ArrayLike,
        ranks: ArrayLike,
        ranks_per_node: ArrayLike,
        *,
        nvls: bool | None,
        slower: tuple[float, float] = EVEN,
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
        slowdown = self._known(self._slowdowns, kind, ranks, 1.0)
        slowdown = slowdown * self._oversubscription(kind, ranks, inside)
        slowdown = np.maximum(slowdown, slower[1])
        links = replace(self._links, slower=slower[0])
        seconds, latency = route_seconds(self.levels, found, links, slowdown=slowdown)
        late = self._known(self._late_steps, kind, ranks, 0.0) * (np.asarray(ranks, float) - 1.0)
        late = np.where(nodes > 1, late, 0.0)
        latency = (latency * seconds + late) / (seconds + late)
        seconds = seconds + late
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

    @staticmethod
    def _known(
        curves: Mapping[str, tuple[Floats, Floats]], kind: str, ranks: ArrayLike, absent: float
    ) -> Floats:
        """What the published curve of a collective says for so many ranks.

        A curve over whole nodes is one over the ranks of a ring, also where a ring has one of them
        on a node. Between two published counts it is interpolated in logarithms of ranks, beyond
        the last it stays: nothing says how a fabric goes on.
        """
        count = np.asarray(ranks, float)
        if kind not in curves:
            return np.full_like(count, absent)
        counts, values = curves[kind]
        return np.asarray(np.interp(np.log(count), np.log(counts), values))

    @cached_property
    def _published(self) -> dict[str, tuple[Floats, Floats, Route]]:
        """Of each published collective: ranks over several nodes, seconds, the ring's route."""
        curve = self.network.curve if self.network is not None else None
        if curve is None:
            return {}
        across = np.array(curve.nodes) > 1
        ranks = np.array(curve.nodes)[across] * curve.gpus_per_node
        found = {}
        for kind, rates in curve.bus_bytes_per_second.items():
            ring = routes(kind, curve.bytes, ranks, curve.gpus_per_node, nvls=False)[0]
            found[kind] = ranks, ring.link_bytes / np.array(rates)[across], ring
        return found

    def _by_message(self, kind: str) -> bool:
        """Whether what was published is read as a time a message; one count may be any rate."""
        return kind in RINGS_ALONE and len(self._published[kind][0]) > 1

    @cached_property
    def _late_steps(self) -> dict[str, tuple[Floats, Floats]]:
        """Seconds that every step of a ring is later than formulas have it, by ranks.

        All links of a ring send R-1 messages, so a message's own time on a slow network counts as
        often. On AWS' EFA (HF's curves) published times less those of bytes at the network's rate
        come to 31 to 47 us a step at any number of nodes: a cost a message and not a byte.
        """
        late = {}
        for kind, (ranks, seconds, ring) in self._published.items():
            if self._by_message(kind):
                expected, _ = route_seconds(self.levels, [ring], self._links)
                late[kind] = ranks, np.maximum(seconds - expected, 0.0) / (ranks - 1.0)
        return late

    @cached_property
    def _slowdowns(self) -> dict[str, tuple[Floats, Floats]]:
        """Seconds per byte of the network over those at its rate, where messages do not tell all.

        Published times less latency, over the times of the bytes at the network's rate.
        """
        slow = {}
        for kind, (ranks, seconds, ring) in self._published.items():
            if self._by_message(kind):
                continue
            inside = self.network.curve.gpus_per_node if self.network and self.network.curve else 1
            latency = self._least_latency(kind, ranks, inside)
            moving = np.maximum(seconds - latency, LEAST_MOVING * seconds)
            slow[kind] = ranks, moving * self.network_bytes_per_second / ring.network_bytes
        return slow

    def _least_latency(self, kind: str, ranks: Floats, inside: int) -> Floats:
        lines = [
            line_seconds(line, route, self._links, 1.0)[0]
            for route in routes(kind, 1.0, ranks, inside, nvls=self.nvls)
            for line in self.levels.lines[route.algorithm]
        ]
        return np.asarray(np.min(np.stack(lines), axis=0))

    def _oversubscription(self, kind: str, ranks: ArrayLike, inside: ArrayLike) -> Floats:
        """An all-to-all's slower part is what leaves a pod; rings cross pods on few links only."""
        whole = np.asarray(ranks, float)
        pod = self.network.pod_gpus if self.network is not None else None
        if pod is None or self.network is None or kind != "all_to_all":
            return np.ones_like(whole)
        beyond = np.maximum(whole - pod, 0.0) / np.maximum(whole - np.asarray(inside), 1.0)
        return np.asarray(np.maximum(1.0, beyond / self.network.pod_share))

    def send_seconds(self, message_bytes: float, *, stride: int) -> float:
        """One send to the rank ``stride`` GPUs away."""
        inside = self.ranks_per_node(2, stride)
        return float(self.seconds("send_recv", message_bytes, 2, inside))
