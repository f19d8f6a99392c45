"""Network presets: what connects the nodes of a known kind of machine."""

from __future__ import annotations

from dataclasses import dataclass

from predictor.case.presets import preset_names, read_preset


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network between nodes.

    Attributes:
        name: Name of the preset.
        description: One line for people.
        inter_node_bytes_per_second_per_gpu: One way, per GPU, of all compute NICs of a node.
        inter_node_latency_seconds: Of one step between two nodes, as NCCL models it.
        source: Where rate and latency come from.
    """

    name: str
    description: str
    inter_node_bytes_per_second_per_gpu: float
    inter_node_latency_seconds: float
    source: str


def network_names() -> tuple[str, ...]:
    """Return the names of all network presets, sorted."""
    return preset_names("networks")


def load_network(name: str) -> Network:
    """Read a network preset.

    Raises:
        UnknownName: no preset has that name.
    """
    return Network(name=name, **read_preset("networks", name))
