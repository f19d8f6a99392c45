"""Published points of collectives, read as columns."""

import csv
import gzip
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from predictor.case import load_gpu, load_network
from predictor.costs.prediction import Floats
from predictor.costs.routes import KINDS
from predictor.errors import FitError
from predictor.values import frozen


@frozen(kw_only=True)
class Points:
    """Published points as columns.

    Attributes:
        source: Who published it.
        kind: Collective.
        size: Bytes.
        ranks: In the group.
        ranks_per_node: Of these on one node.
        nvls: The switch reduced.
        network: Preset of the network, empty inside a node.
        seconds: Published.
        scaleup: One-way rate of the GPU.
        network_rate: One-way rate of the network for each GPU.
        latency: Of the network.
        measured_network: The network's preset holds its own curve.
    """

    source: NDArray[np.str_]
    kind: NDArray[np.str_]
    size: Floats
    ranks: Floats
    ranks_per_node: Floats
    nvls: NDArray[np.bool_]
    network: NDArray[np.str_]
    seconds: Floats
    scaleup: Floats
    network_rate: Floats
    latency: Floats
    measured_network: NDArray[np.bool_]

    def __len__(self) -> int:
        """Points."""
        return len(self.seconds)

    def take(self, chosen: NDArray[np.bool_]) -> "Points":
        """Those points alone."""
        columns = {each.name: getattr(self, each.name)[chosen] for each in fields(self)}
        return Points(**columns)


def read_points(path: Path) -> Points:
    """Read a gzipped CSV of published points.

    Raises:
        FitError: The file cannot be read, or a row is no collective; the message names the line.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        for number, row in enumerate(rows, start=2):
            if row["collective"] not in KINDS or not float(row["seconds"]) > 0:
                raise FitError(f"{path}, line {number}: no collective, or its seconds are not > 0")
        return _columns(rows)
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise FitError(f"{path}: cannot be read as published collectives ({error!r})") from error


def _columns(rows: Sequence[Mapping[str, str]]) -> Points:
    gpus = {name: load_gpu(name) for name in {row["gpu"] for row in rows}}
    nets = {name: load_network(name) for name in {row["network"] for row in rows} if name}

    def column(of: Callable[[Mapping[str, str]], float]) -> Floats:
        return np.array([of(row) for row in rows], dtype=float)

    return Points(
        source=np.array([row["source"] for row in rows]),
        kind=np.array([row["collective"] for row in rows]),
        size=column(lambda row: float(row["bytes"])),
        ranks=column(lambda row: float(row["ranks"])),
        ranks_per_node=column(lambda row: float(row["ranks_per_node"])),
        nvls=np.array([row["nvls"] == "true" for row in rows]),
        network=np.array([row["network"] for row in rows]),
        seconds=column(lambda row: float(row["seconds"])),
        scaleup=column(lambda row: gpus[row["gpu"]].scaleup_bytes_per_second),
        network_rate=column(
            lambda row: (
                nets[row["network"]].inter_node_bytes_per_second_per_gpu if row["network"] else 1.0
            )
        ),
        latency=column(
            lambda row: nets[row["network"]].inter_node_latency_seconds if row["network"] else 0.0
        ),
        measured_network=np.array(
            [bool(row["network"]) and nets[row["network"]].curve is not None for row in rows]
        ),
    )
