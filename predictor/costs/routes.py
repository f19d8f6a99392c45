"""What NCCL's algorithms make of a collective: steps, hops, and the bytes of the busiest links.

Those of each algorithm are those of NCCL's tuning model (``src/graph/tuning.cc``; Hu et al.,
arXiv:2507.04786):

    ring       all-gather, reduce-scatter, broadcast: R-1 steps, N-1 of them between nodes;
               all-reduce twice
    tree       all-reduce across nodes: 2·(L-1) steps, 2·log2(N) hops, the bytes of the ring
    nvls       all-reduce in the switch: no steps, every GPU sends n·(1 + 1/L); across as the tree
    pairs      all-to-all, send: one message a peer, (L-1)/R of the bytes inside the node

``R`` ranks on ``N`` nodes, ``L`` of them a node. A tree passes on chunks of a message, and a hop of
it holds a chunk's time; a ring's links carry other ranks' shares meanwhile, and its hop is the
network's latency (NCCL 2.5 to 2.18 count 28 to 50 us a tree's hop, 6.6 to 9.6 us a ring's).
"""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from predictor.costs.prediction import Floats
from predictor.errors import FitError, nearest
from predictor.values import frozen

Flags = NDArray[np.bool_]

KINDS: Final = (
    "all_reduce",
    "all_gather",
    "reduce_scatter",
    "broadcast",
    "all_to_all",
    "send_recv",
)


@frozen(kw_only=True)
class Route:
    """What one algorithm makes of a batch of collectives; all arrays have one length.

    Attributes:
        algorithm: Key of :attr:`Levels.lines`.
        steps: Inside nodes, one after another.
        hops: Between nodes, one after another, each of a whole message or of a tree's chunk.
        ring_hops: Between nodes, one after another, in a ring.
        link_bytes: Over the busiest scale-up link.
        own_bytes: Copied inside a GPU.
        network_bytes: Of the busiest GPU's share of the network.
    """

    algorithm: str
    steps: Floats
    hops: Floats
    link_bytes: Floats
    own_bytes: Floats
    network_bytes: Floats
    ring_hops: ArrayLike = 0.0


def check_kind(kind: str) -> None:
    """Refuse what is no collective.

    Raises:
        FitError: With the nearest right name.
    """
    if kind not in KINDS:
        raise FitError(
            f"{kind!r} is no collective{nearest(kind, KINDS)}; known: {', '.join(KINDS)}"
        )


def routes(
    kind: str, size: ArrayLike, ranks: ArrayLike, ranks_per_node: ArrayLike, *, nvls: bool
) -> list[Route]:
    """Every algorithm that NCCL has for a collective.

    Args:
        kind: One of ``KINDS``.
        size: Bytes; of which buffer, the operators' docstrings say.
        ranks: In the group.
        ranks_per_node: Of these on one node.
        nvls: The switches can reduce.
    """
    check_kind(kind)
    n, r, inside = np.broadcast_arrays(
        np.asarray(size, float), np.asarray(ranks, float), np.asarray(ranks_per_node, float)
    )
    inside = np.minimum(inside, r)
    nodes = np.ceil(r / inside)
    across = nodes > 1
    if kind in {"all_to_all", "send_recv"}:
        return [_pairs(kind, n, r, inside, across)]
    passes = 2.0 if kind == "all_reduce" else 1.0
    sent = n if kind == "broadcast" else passes * n * (r - 1) / r
    ring_hops = np.where(across, passes * (nodes - 1), 0.0)
    own = 0.0 * n if kind == "broadcast" else n / r
    network = np.where(across, sent / inside, 0.0)
    ring = Route(
        algorithm="ring",
        steps=passes * (r - 1) - ring_hops,
        hops=0.0 * n,
        ring_hops=ring_hops,
        link_bytes=sent,
        own_bytes=own,
        network_bytes=network,
    )
    if kind != "all_reduce":
        return [ring]
    tree_hops = 2.0 * np.log2(nodes)
    tree = Route(
        algorithm="ring",
        steps=2.0 * (inside - 1),
        hops=tree_hops,
        link_bytes=sent,
        own_bytes=own,
        network_bytes=network,
    )
    if not nvls:
        return [ring, tree]
    switch = Route(
        algorithm="nvls",
        steps=0.0 * n,
        hops=tree_hops,
        link_bytes=n * (1.0 + 1.0 / inside),
        own_bytes=0.0 * n,
        network_bytes=network,
    )
    return [ring, tree, switch]


def _pairs(kind: str, n: Floats, r: Floats, inside: Floats, across: Flags) -> Route:
    """Messages between pairs; the sends of a group are as slow as those that leave a node."""
    if kind == "send_recv":
        return Route(
            algorithm="send",
            steps=np.where(across, 0.0, 1.0),
            hops=np.where(across, 1.0, 0.0),
            link_bytes=np.where(across, 0.0, n),
            own_bytes=0.0 * n,
            network_bytes=np.where(across, n, 0.0),
        )
    return Route(
        algorithm="pairs",
        steps=r - 1,
        hops=np.where(across, 1.0, 0.0),
        link_bytes=n * (inside - 1) / r,
        own_bytes=n / r,
        network_bytes=n * (r - inside) / r,
    )
