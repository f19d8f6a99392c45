"""A network's published curve of bus bandwidth by nodes: how far its collectives are off formulas.

Rings tell of one cost a message, all else of one a byte. Between two published counts of nodes it
is interpolated in logarithms of ranks; beyond the last it stays: nothing says how a fabric goes on.
"""

from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from predictor.case.networks import BusCurve
from predictor.costs.levels import Levels, Links, line_seconds, route_seconds
from predictor.costs.prediction import Floats
from predictor.costs.routes import Route, routes
from predictor.values import frozen

RINGS_ALONE = frozenset({"all_gather", "reduce_scatter"})
"""Collectives for which NCCL has no algorithm but the ring (PAT serves one rank a node)."""

LEAST_MOVING = 0.1
"""Of a published time, at least this much is bytes that move."""


@frozen(kw_only=True, slots=False)
class PublishedCurve:
    """What was published of a network, against its links.

    Attributes:
        curve: Bus bandwidth by collective and nodes.
        links: Of the cluster.
        levels: Fitted parameters.
        nvls: The switches of the domain can reduce.
    """

    curve: BusCurve
    links: Links
    levels: Levels
    nvls: bool

    def slowdown(self, kind: str, ranks: ArrayLike) -> Floats:
        """Seconds per byte of the network over those at its rate."""
        return _at(self._slowdowns.get(kind), ranks, absent=1.0)

    def late_seconds(self, kind: str, ranks: ArrayLike) -> Floats:
        """Seconds that all steps of a ring together are later than formulas have it."""
        steps = np.asarray(ranks, float) - 1.0
        return _at(self._late_steps.get(kind), ranks, absent=0.0) * steps

    @cached_property
    def _published(self) -> dict[str, tuple[Floats, Floats, Route]]:
        """Of each published collective: ranks over several nodes, seconds, the ring's route."""
        curve = self.curve
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
                expected, _ = route_seconds(self.levels, [ring], self.links)
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
            latency = self._least_latency(kind, ranks)
            moving = np.maximum(seconds - latency, LEAST_MOVING * seconds)
            slow[kind] = ranks, np.asarray(moving * self.links.network / ring.network_bytes)
        return slow

    def _least_latency(self, kind: str, ranks: Floats) -> Floats:
        lines = [
            line_seconds(line, route, self.links, 1.0)[0]
            for route in routes(kind, 1.0, ranks, self.curve.gpus_per_node, nvls=self.nvls)
            for line in self.levels.lines[route.algorithm]
        ]
        return np.asarray(np.min(np.stack(lines), axis=0))


def _at(curve: tuple[Floats, Floats] | None, ranks: ArrayLike, *, absent: float) -> Floats:
    """A curve's value at so many ranks.

    A curve over whole nodes is one over the ranks of a ring, also where a ring has one of them on a
    node.
    """
    count = np.asarray(ranks, float)
    if curve is None:
        return np.full_like(count, absent)
    counts, values = curve
    return np.asarray(np.interp(np.log(count), np.log(counts), values))
