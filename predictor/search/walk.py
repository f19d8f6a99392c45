"""Max-plus matrices of many segments at once.

The same arithmetic as :meth:`Matrices.segment`, one numpy operation for all segments that queue
steps of the same kinds in the same order, whatever their sizes.
"""

from collections.abc import Sequence

import numpy as np

from predictor.costs.prediction import Floats, Ints
from predictor.iteration.maxplus import COMPUTE, HOST, JOIN, NEVER, RUN, SEND, Layout, Move


def segment_matrices(
    layout: Layout,
    seconds: Floats,
    host_seconds: Floats,
    gap_seconds: float,
    queue_seconds: Floats,
) -> Floats:
    """Matrices of every segment of a layout.

    Args:
        layout: Of the segments.
        seconds: Of each row, by scenario.
        host_seconds: Of one repetition of each segment.
        gap_seconds: Idle seconds of the compute stream before each launch.
        queue_seconds: Host seconds of each row.

    Returns:
        By segment, scenario, row and column of the matrix.
    """
    counts = layout.counts
    alone, queued = layout.runs(seconds + gap_seconds, queue_seconds)
    queueing = layout.queueing(queue_seconds)
    scenarios, size = len(seconds), layout.size
    result = np.empty((len(counts), scenarios, size, size))
    alike: dict[tuple[tuple[int, int], ...], list[int]] = {}
    for place, moves in enumerate(layout.moves):
        alike.setdefault(_structure(moves), []).append(place)
    for places in alike.values():
        chosen = np.array(places)
        steps = [layout.moves[place] for place in places]
        host = np.where(counts[chosen] == 0, host_seconds[chosen], 0.0)
        tables = (alone, queued, seconds, queueing, queue_seconds)
        result[chosen] = _walked(steps, host, tables, size)
    return result


def _structure(moves: Sequence[Move]) -> tuple[tuple[int, int], ...]:
    """What tells segments apart but for rows and sizes: kinds of moves, streams, launches."""
    return tuple((kind, other if kind in (RUN, SEND) else one) for kind, one, other in moves)


def _walked(
    moves: Sequence[Sequence[Move]],
    host: Floats,
    tables: tuple[Floats, Floats, Floats, Floats, Floats],
    size: int,
) -> Floats:
    alone, queued, seconds, queueing, queue_seconds = tables
    free = np.full((size, len(moves), len(seconds), size), NEVER)  # by place, segment, …, unit
    for place in range(size):
        free[place, :, :, place] = 0.0
    free[HOST] += host[:, None, None]
    for step in zip(*moves, strict=True):
        kind, one, other = step[0]
        at: Ints = np.array([move[1] for move in step])
        if kind == RUN:
            free[COMPUTE] = np.maximum(
                free[COMPUTE] + alone[:, at].T[:, :, None], free[HOST] + queued[:, at].T[:, :, None]
            )
            free[HOST] += queueing[at][:, None, None]
        elif kind == SEND:
            free[HOST] += queue_seconds[at][:, None, None]
            begun = np.maximum(np.maximum(free[COMPUTE], free[HOST]), free[other])
            free[other] = begun + seconds[:, at].T[:, :, None]
        elif kind == JOIN:
            np.maximum(free[COMPUTE], free[one], out=free[COMPUTE])
        else:
            np.maximum(free[HOST], free[COMPUTE], out=free[HOST])
    return np.moveaxis(free, 0, 2)
