"""The fields of ``[cluster]`` and ``[cluster.links]``."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar, Literal, get_args

from predictor.case.kinds import Choice, Count, Real, Sequence, Text
from predictor.case.limits import LEAST_RATE, MAX_GPUS
from predictor.case.section import Section, needed, optional
from predictor.values import frozen

LinkEnds = Literal["nodes", "gpus"]


@frozen(kw_only=True)
class Links(Section):
    """Links of a cluster that are not all alike, and where the job's nodes or GPUs sit on them.

    ``cluster.links = "FILE.csv"`` reads them from a file (docs/uneven_clusters.md).
    """

    path: ClassVar[str] = "cluster.links"

    between: LinkEnds = optional(
        Choice(get_args(LinkEnds)), "What the rows, overrides and places count."
    )
    bytes_per_second: tuple[tuple[float, ...], ...] = optional(
        Sequence(Sequence(Real(1e15, least=0.0, above=-1.0))),
        "One-way rate that a GPU has from each (row) to each other (column).",
    )
    overrides: tuple[tuple[float, ...], ...] = optional(
        Sequence(Sequence(Real(1e15, least=0.0, above=-1.0))),
        "Links that differ, as [from, to, bytes_per_second], numbered from 0.",
    )
    placement: tuple[int, ...] = optional(
        Sequence(Count(MAX_GPUS, 0)),
        "The node or GPU that each place in the order of ranks sits on; absent: 0, 1, 2, …",
    )


@frozen(kw_only=True)
class Cluster(Section):
    """The machine."""

    path: ClassVar[str] = "cluster"

    gpu: str = needed(Text(), "SKU, a folder of bench_results.")
    num_gpus: int = needed(Count(MAX_GPUS), "GPUs of the job.")
    gpus_per_node: int = optional(Count(MAX_GPUS), "GPUs of a node; may exceed num_gpus.")
    network: str = optional(Text(), "Preset of the network between nodes.")
    inter_node: str = optional(Text(), "The network in words, which may name a preset.")
    inter_node_bytes_per_second_per_gpu: float = optional(
        Real(1e15, least=LEAST_RATE), "One-way rate between nodes that a GPU has."
    )
    inter_node_latency_seconds: float = optional(Real(10.0), "Latency of one step between nodes.")
    stage_gpus: tuple[str, ...] = optional(
        Sequence(Text()), "SKU of each pipeline stage, gpu's first; absent: gpu on all."
    )
    links: Links | None = field(default=None, metadata={"description": "Links that differ."})
