"""Seconds of NCCL's collectives over two levels of links: inside a node and between nodes.

Each algorithm of NCCL passes a message through *steps* inside the node (NVLink) and *hops* between
nodes (network), and loads the busiest link with some bytes (:mod:`predictor.costs.routes`). In each
protocol that costs

    seconds = start + step·steps + (hop + k·latency)·hops + latency·ring_hops
              + max(link·n_link/B + own·n_own/B, max(network, slowdown)·n_network/W)        (eq. 20)

with ``B`` the one-way scale-up rate of a GPU, ``W`` the one-way network rate of a GPU and
``latency`` that of the network. The library takes the fastest of its algorithms and protocols,
here LL (short messages, few bytes a flag) and Simple (long ones). The parameters are regressions on
published curves (:mod:`predictor.costs.level_fitting`). Neglected: PAT, SHARP in network switches,
CollNet, and how parts of a communicator share a link with other communicators.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from predictor.costs.deferred import DAMAGE
from predictor.costs.limits import (
    HALF_WIDTH,
    HOST_SECONDS,
    POSITIVE_FACTOR,
    Limits,
    each_within,
)
from predictor.costs.prediction import Floats
from predictor.costs.routes import Route
from predictor.errors import FitError
from predictor.files import MEBIBYTE, read_text
from predictor.units import CALL_SECONDS
from predictor.values import frozen

LEVELS_FILE: Final = Path(__file__).with_name("levels.json")


@frozen(kw_only=True)
class Line:
    """Parameters of one protocol of one algorithm (eq. 20).

    Attributes:
        start_seconds: Launch and first flags.
        step_seconds: One step inside the node.
        hop_seconds: One step of a tree between nodes, beside the network's latency.
        latencies_per_hop: How often such a hop pays the network's latency; a ring's pays it once.
        link: Seconds per byte over those at the scale-up rate.
        own: The same for the part that a rank copies to itself.
        network: Seconds per byte over those at the network's rate.
    """

    start_seconds: float
    step_seconds: float = 0.0
    hop_seconds: float = 0.0
    latencies_per_hop: float = 0.0
    link: float
    own: float = 0.0
    network: float = 1.0


LINE_LIMITS: Final[Mapping[str, Limits]] = {
    "start_seconds": CALL_SECONDS,
    "step_seconds": HOST_SECONDS,
    "hop_seconds": HOST_SECONDS,
    "latencies_per_hop": POSITIVE_FACTOR,
    "link": POSITIVE_FACTOR,
    "own": POSITIVE_FACTOR,
    "network": POSITIVE_FACTOR,
}
"""Where the numbers of a line may lie."""


ALGORITHMS: Final = frozenset({"nvls", "pairs", "ring", "send"})
PLACES: Final = frozenset({"network", "node"})


@frozen(kw_only=True)
class HalfWidth:
    """Half of a 90 % interval, in logarithms, of two ends between which the share of latency lies.

    Attributes:
        latency: Where no byte counts.
        bandwidth: Where only bytes count.
    """

    latency: float
    bandwidth: float

    def at(self, latency_share: Floats) -> Floats:
        """Between the two ends."""
        return latency_share * self.latency + (1.0 - latency_share) * self.bandwidth


@frozen(kw_only=True)
class Levels:
    """Fitted parameters of all algorithms.

    Attributes:
        lines: By algorithm, one line a protocol.
        half_width: Of groups in one ``node`` and across the ``network``.
        standard_errors: As ``lines``, where a parameter was fitted.
        points: Published points behind them.
    """

    lines: Mapping[str, tuple[Line, ...]]
    half_width: Mapping[str, HalfWidth]
    standard_errors: Mapping[str, tuple[Mapping[str, float], ...]]
    points: int

    def to_dict(self) -> dict[str, Any]:
        """As it stands in ``levels.json``."""
        return {
            "points": self.points,
            "half_width": {key: asdict(each) for key, each in self.half_width.items()},
            "lines": {key: [asdict(line) for line in lines] for key, lines in self.lines.items()},
            "standard_errors": {
                key: [dict(errors) for errors in each] for key, each in self.standard_errors.items()
            },
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "Levels":
        """Inverse of :meth:`to_dict`.

        Raises:
            ValueError: A number or an algorithm is missing, or a number lies outside of its limits.
        """
        if set(raw["half_width"]) != PLACES or set(raw["lines"]) != ALGORITHMS:
            raise ValueError(
                f"half_width and lines must be of {sorted(PLACES)} and {sorted(ALGORITHMS)}"
            )
        if not all(raw["lines"].values()):
            raise ValueError("lines: each algorithm has one at least")
        for key, ends in raw["half_width"].items():
            each_within(
                f"half_width.{key}", ends, dict.fromkeys(("latency", "bandwidth"), HALF_WIDTH)
            )
        for key, each in raw["lines"].items():
            for line in each:
                each_within(f"lines.{key}", line, LINE_LIMITS)
        return cls(
            points=int(raw["points"]),
            half_width={key: HalfWidth(**each) for key, each in raw["half_width"].items()},
            lines={
                key: tuple(
                    Line(**{name: float(line[name]) for name in LINE_LIMITS}) for line in each
                )
                for key, each in raw["lines"].items()
            },
            standard_errors={key: tuple(each) for key, each in raw["standard_errors"].items()},
        )


@cache
def load_levels() -> Levels:
    """Read the fitted parameters that ship with the package.

    Raises:
        FitError: The file is damaged.
    """
    try:
        return Levels.from_dict(json.loads(read_text(LEVELS_FILE, FitError, MEBIBYTE)))
    except DAMAGE as error:
        raise FitError(
            f"{LEVELS_FILE}: cannot be read ({error!r}); run `python benchmarks/fit_levels.py`"
        ) from error


@frozen(kw_only=True)
class Links:
    """Rates of the two levels.

    Attributes:
        scaleup: Bytes a second of a GPU inside the node, one way.
        network: Bytes a second of a GPU between nodes, one way.
        latency_seconds: Of the network, as NCCL or its plugin states it.
        slower: Seconds per byte of the slowest scale-up link that is crossed, over an even one's.
    """

    scaleup: ArrayLike
    network: ArrayLike
    latency_seconds: ArrayLike
    slower: float = 1.0


def line_seconds(
    line: Line, route: Route, links: Links, slowdown: ArrayLike
) -> tuple[Floats, Floats]:
    """Seconds of latency and of bytes of a route in one protocol (eq. 20)."""
    link = max(line.link, links.slower)
    inside = (link * route.link_bytes + line.own * route.own_bytes) / np.asarray(links.scaleup)
    share = np.maximum(line.network, slowdown)
    across = share * route.network_bytes / np.asarray(links.network)
    hop = line.hop_seconds + line.latencies_per_hop * np.asarray(links.latency_seconds)
    around = np.asarray(links.latency_seconds) * np.asarray(route.ring_hops)
    latency = line.start_seconds + line.step_seconds * route.steps + hop * route.hops + around
    return latency, np.maximum(inside, across)


def route_seconds(
    levels: Levels, chosen: list[Route], links: Links, *, slowdown: ArrayLike = 1.0
) -> tuple[Floats, Floats]:
    """Seconds of the fastest route in its fastest protocol, and the share of latency in them.

    Args:
        levels: Parameters.
        chosen: Routes that the library may take.
        links: Rates of the two levels.
        slowdown: Seconds per byte of the network over those at its rate, where a fabric's own curve
            tells them.
    """
    parts = [
        line_seconds(line, route, links, slowdown)
        for route in chosen
        for line in levels.lines[route.algorithm]
    ]
    latencies = np.stack([latency for latency, _ in parts])
    totals = latencies + np.stack([moved for _, moved in parts])
    fastest = np.argmin(totals, axis=0)[None]
    seconds = np.take_along_axis(totals, fastest, axis=0)[0]
    latency = np.take_along_axis(latencies, fastest, axis=0)[0]
    return seconds, latency / seconds
