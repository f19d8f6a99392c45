"""The links of a cluster and what collectives cost on them: datasheet and network in, seconds out.

Two levels: a scale-up domain (a node, or a rack where NVLink leaves the node) and a network.
Formulas and fitted parameters are those of :mod:`predictor.costs.levels`; a network whose preset
holds a published curve runs at what was published (:mod:`predictor.costs.published_curve`).
Everything here is extrapolated: a measured curve of the very SKU and group, where there is one, is
better.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from predictor.case import Cluster, Gpu, Network, domain_gpus, load_network
from predictor.costs.levels import (
    Levels,
    Links,
    load_levels,
    route_seconds,
)
from predictor.costs.prediction import Floats, Origin, Prediction
from predictor.costs.published_curve import PublishedCurve
from predictor.costs.routes import routes
from predictor.operators import Collective
from predictor.operators.collective import EVEN
from predictor.values import frozen

NVLS_LEAST_RANKS = 5
"""NCCL 2.27 reduces in the switch from five GPUs on (stas00/ml-engineering, network/README.md)."""


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
        slowdown = self._oversubscription(kind, ranks, inside)
        if self._curve is not None:
            slowdown = self._curve.slowdown(kind, ranks) * slowdown
        slowdown = np.maximum(slowdown, slower[1])
        links = replace(self._links, slower=slower[0])
        seconds, latency = route_seconds(self.levels, found, links, slowdown=slowdown)
        late = np.zeros_like(nodes)
        if self._curve is not None:
            late = np.where(nodes > 1, self._curve.late_seconds(kind, ranks), 0.0)
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

    @cached_property
    def _curve(self) -> PublishedCurve | None:
        if self.network is None or self.network.curve is None:
            return None
        return PublishedCurve(
            curve=self.network.curve, links=self._links, levels=self.levels, nvls=self.nvls
        )

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
