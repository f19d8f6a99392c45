"""Where ranks sit, and how slow the links are that their groups cross.

Ranks are numbered as Megatron numbers them; place ``k`` in that order is GPU ``k``, or where
``cluster.links.placement`` puts it. A group of ``n`` ranks ``s`` apart stands for all groups of
that kind: the slowest of them decides, since all wait for each other in every iteration.

A ring is as slow as the slowest link between neighbours, in either direction. A rank that sends to
every other one takes the mean of its links, the slowest rank decides. A message of a pipeline takes
its own link; of all the ranks of a stage the slowest decides. Slowness is the rate that an even
cluster has at that level (NVLink inside a scale-up domain, the network between domains) over that
of the link, and at least 1. Neglected: how messages over different links share a switch.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from predictor.case import Case, load_gpu
from predictor.case.cluster_schema import Cluster, Links
from predictor.costs import Fabric
from predictor.costs.prediction import Floats, Ints
from predictor.errors import CaseError
from predictor.iteration.groups import Group
from predictor.operators.collective import EVEN
from predictor.values import frozen

Slower = tuple[float, float]
"""Inside a scale-up domain, and between domains."""

Crossing = tuple[bool, Slower]
"""A message: whether it stays in a domain, and how slow its links are."""

Reduce = Callable[..., Any]
"""``numpy.max`` or ``numpy.mean``."""

LEAST: Final = 1.0
EXCHANGING: Final = frozenset({"context", "expert"})
"""Groups in which a rank may send to every other one."""


@frozen(eq=False)
class LinkTable:
    """How slow the link between every two nodes or GPUs is.

    Attributes:
        slow: From row to column.
        inside: Whether the two share a scale-up domain.
        gpus: GPUs of one row.
    """

    slow: Floats
    inside: NDArray[np.bool_]
    gpus: int

    @classmethod
    def of(cls, links: Links, cluster: Cluster, fabric: Fabric) -> "LinkTable":
        """The table of a resolved cluster."""
        gpus = 1 if links.between == "gpus" else cluster.gpus_per_node
        matrix, overrides = links.bytes_per_second or (), links.overrides or ()
        told = max([-1, *(int(max(entry[:2])) for entry in overrides)]) + 1
        size = len(matrix) or max(told, -(-cluster.num_gpus // gpus))
        domain = np.arange(size) * gpus // fabric.gpus_per_node
        inside = domain[:, None] == domain
        even = np.where(inside, fabric.scaleup_bytes_per_second, fabric.network_bytes_per_second)
        rate = np.array(matrix, dtype=float) if matrix else even.copy()
        for start, to, bytes_per_second in overrides:
            rate[int(start), int(to)] = bytes_per_second
        np.fill_diagonal(rate, np.inf)
        return cls(np.maximum(even / rate, LEAST), inside, gpus)

    def neighbours(self, units: Ints, reduce: Reduce = np.max) -> tuple[Floats, Floats]:
        """Slowest links of rings, or their mean; ``units[..., groups, ranks]`` numbers rows."""
        there = np.roll(units, -1, axis=-1)
        slow = np.maximum(self.slow[units, there], self.slow[there, units])
        return self._by_level(slow, self.inside[units, there], reduce)

    def peers(self, units: Ints, reduce: Reduce = np.max) -> tuple[Floats, Floats]:
        """Mean slowness of a rank's links to all others, of the worst rank, or of all."""
        here, there = units[..., :, None], units[..., None, :]
        other = ~np.eye(units.shape[-1], dtype=bool)
        slow, inside = self.slow[here, there], self.inside[here, there]
        means = []
        for level in (inside & other, ~inside):
            count = level.sum(axis=-1)
            total = np.where(level, slow, 0.0).sum(axis=-1)
            mean = np.where(count, total / np.maximum(count, 1), LEAST)
            means.append(reduce(mean, axis=(-2, -1)))
        return means[0], means[1]

    def message(
        self, senders: Ints, receivers: Ints, reduce: Reduce = np.max
    ) -> tuple[Floats, Floats]:
        """Slowest link of messages sent at once, or their mean; arrays ``[..., ranks]``."""
        slow, inside = self.slow[senders, receivers], self.inside[senders, receivers]
        return self._by_level(slow[..., None, :], inside[..., None, :], reduce)

    @staticmethod
    def _by_level(slow: Floats, inside: NDArray[np.bool_], reduce: Reduce) -> tuple[Floats, Floats]:
        near = reduce(np.where(inside, slow, LEAST), axis=(-2, -1))
        far = reduce(np.where(inside, LEAST, slow), axis=(-2, -1))
        return near, far


@frozen(eq=False)
class Places:
    """The places of a case's ranks.

    Attributes:
        domain: GPUs of a scale-up domain.
        gpu: The GPU that each rank sits on.
        table: Its links; None where they are all alike.
    """

    domain: int
    gpu: Ints
    table: LinkTable | None = None

    @classmethod
    def of(cls, case: Case) -> "Places":
        """The places of a resolved case.

        Raises:
            CaseError: A placement tears a scale-up domain apart.
        """
        return _places(case.cluster)

    def groups(self, case: Case) -> dict[str, Group]:
        """Every group of a resolved case, by the names of :func:`layout_of`."""
        return {
            name: self.group(*kind, exchanges=name in EXCHANGING)
            for name, kind in layout_of(case).items()
        }

    def group(self, ranks: int, stride: int, *, exchanges: bool = False) -> Group:
        """Ranks ``stride`` apart; ``exchanges``: each may send to every other."""
        even = Group.strided(ranks, stride, self.domain)
        if self.table is None or ranks == 1:
            return even
        units = self.gpu[members(self.gpu.size, ranks, stride)] // self.table.gpus
        near, far = self.table.neighbours(units)
        group = replace(even, neighbours=(float(near), float(far)))
        if not exchanges:
            return group
        near, far = self.table.peers(units)
        return replace(group, peers=(float(near), float(far)))

    def messages(self, stages: int) -> list[list[Crossing]]:
        """Messages of a pipeline by direction (0: down) and sending stage."""
        return [
            [self._crossing(stage, step, stages) for stage in range(stages)] for step in (1, -1)
        ]

    def ends(self, stages: int) -> Group:
        """The first and the last stage, that hold the same table."""
        slower = max(self._crossing(0, -1, stages), self._crossing(stages - 1, 1, stages))[1]
        return Group(2, 1, neighbours=slower)

    def _crossing(self, stage: int, step: int, stages: int) -> Crossing:
        stride = self.gpu.size // stages
        target = (stage + step) % stages
        same = stage * stride // self.domain == target * stride // self.domain
        if self.table is None:
            return same, EVEN
        unit = (self.gpu // self.table.gpus).reshape(stages, stride)
        near, far = self.table.message(unit[stage], unit[target])
        return same, (float(near), float(far))


def layout_of(case: Case) -> dict[str, tuple[int, int]]:
    """Ranks and stride of every kind of group of a resolved case.

    Attention cuts a pipeline stage as tensor x context x data, experts cut the same ranks as expert
    tensor x expert x expert data (Megatron-Core's order ``tp-cp-ep-dp-pp``).
    """
    plan, world = case.plan, case.cluster.num_gpus
    tensor, split = plan.tensor_parallel, plan.data_parallel * plan.context_parallel
    shards = plan.sharding_group or split
    layout = {
        "tensor": (tensor, 1),
        "context": (plan.context_parallel, tensor),
        "data": (shards, tensor),
        "replicas": (split // shards, tensor * shards),
        "world": (world, 1),
    }
    if case.model.moe is not None:
        one, experts = plan.expert_tensor_parallel, plan.expert_parallel
        layout["expert_tensor"] = (one, 1)
        layout["expert"] = (experts, one)
        layout["expert_data"] = (
            world // (plan.pipeline_parallel * one * experts),
            one * experts,
        )
    return layout


def members(world: int, ranks: int, stride: int) -> Ints:
    """Numbers of the ranks of every group of ``ranks``, ``stride`` apart: one row a group."""
    blocks = np.arange(world // (ranks * stride)) * ranks * stride
    first = (blocks[:, None] + np.arange(stride)).ravel()
    return np.asarray(first[:, None] + np.arange(ranks) * stride)


@lru_cache(maxsize=256)
def _places(cluster: Cluster) -> Places:
    fabric = Fabric.of(cluster, load_gpu(cluster.gpu))
    ranks = np.arange(cluster.num_gpus)
    if cluster.links is None:
        return Places(fabric.gpus_per_node, ranks)
    table = LinkTable.of(cluster.links, cluster, fabric)
    chosen = cluster.links.placement
    if chosen is not None:
        ranks = np.array(chosen)[ranks // table.gpus] * table.gpus + ranks % table.gpus
    first = np.arange(cluster.num_gpus) // fabric.gpus_per_node * fabric.gpus_per_node
    torn = np.flatnonzero(ranks // fabric.gpus_per_node != ranks[first] // fabric.gpus_per_node)
    if torn.size:
        raise CaseError(
            f"cluster.links.placement: rank {torn[0]} must share a scale-up domain of "
            f"{fabric.gpus_per_node} GPUs with rank {first[torn[0]]}; move whole domains, or GPUs "
            "inside one"
        )
    return Places(fabric.gpus_per_node, ranks, table)
