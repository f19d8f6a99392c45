"""Network presets: what connects the nodes of a known kind of machine."""

from __future__ import annotations

from functools import cache
from typing import Any

from predictor.case.presets import preset_names, read_preset
from predictor.values import frozen

SAME_RATE = 0.01
"""Relative difference up to which a stated rate is that of a preset."""


@frozen(kw_only=True)
class BusCurve:
    """Bus bandwidth of a fabric as published, by the number of nodes.

    Attributes:
        bytes: Of the message that was timed.
        gpus_per_node: All of one group.
        nodes: Rising.
        bus_bytes_per_second: By collective, one rate for each of ``nodes``.
    """

    bytes: float
    gpus_per_node: int
    nodes: tuple[float, ...]
    bus_bytes_per_second: dict[str, tuple[float, ...]]

    def inside(self, collective: str) -> float | None:
        """The rate inside one node; None where it was not published."""
        rates = self.bus_bytes_per_second.get(collective)
        return rates[0] if rates is not None and self.nodes[0] == 1 else None


@frozen(kw_only=True)
class Network:
    """A network between nodes.

    Attributes:
        name: Name of the preset.
        description: One line for people.
        inter_node_bytes_per_second_per_gpu: One way, per GPU, of all compute NICs of a node.
        inter_node_latency_seconds: Of one step between two nodes, as NCCL models it.
        source: Where rate and latency come from.
        names: Words that name it in a source's own description; all of one entry must occur.
        gpus: SKUs of the machines it connects; empty where any.
        pod_gpus: GPUs between which the network is not oversubscribed; None where all.
        pod_share: Share of the rate that is left between pods.
        curve: What was measured on it; None where nothing was.
    """

    name: str
    description: str
    inter_node_bytes_per_second_per_gpu: float
    inter_node_latency_seconds: float
    source: str
    names: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    pod_gpus: int | None = None
    pod_share: float = 1.0
    curve: BusCurve | None = None


def network_names() -> tuple[str, ...]:
    """Return the names of all network presets, sorted."""
    return preset_names("networks")


def load_network(name: str) -> Network:
    """Read a network preset.

    Raises:
        UnknownName: No preset has that name.
    """
    return _parsed(name)


@cache
def _parsed(name: str) -> Network:
    raw = read_preset("networks", name)
    curve = raw.pop("curve", None)
    for key in ("names", "gpus"):
        raw[key] = tuple(raw.get(key, ()))
    return Network(name=name, curve=None if curve is None else _curve(curve), **raw)


def _curve(raw: dict[str, Any]) -> BusCurve:
    rates = {key: tuple(map(float, each)) for key, each in raw["bus_bytes_per_second"].items()}
    return BusCurve(
        bytes=float(raw["bytes"]),
        gpus_per_node=int(raw["gpus_per_node"]),
        nodes=tuple(map(float, raw["nodes"])),
        bus_bytes_per_second=rates,
    )


def named_network(words: str, *, gpu: str, bytes_per_second: float | None) -> str | None:
    """Return the preset that a source's own words name, or None.

    A preset is meant where all words of one of its ``names`` occur, its machines hold that GPU and
    its rate is the one stated, if one is. Of several, the one with most words.
    """
    said = words.lower()
    best: tuple[int, str] | None = None
    for name in network_names():
        network = load_network(name)
        rate = network.inter_node_bytes_per_second_per_gpu
        if bytes_per_second is not None and abs(bytes_per_second / rate - 1.0) > SAME_RATE:
            continue
        if network.gpus and gpu not in network.gpus:
            continue
        for entry in network.names:
            terms = entry.lower().split()
            if all(term in said for term in terms) and (best is None or len(terms) > best[0]):
                best = (len(terms), name)
    return None if best is None else best[1]
