"""Micro-batches in flight, for many counts of micro-batches at once."""

import numpy as np

from predictor.costs.prediction import Ints
from predictor.iteration.schedules import order_of


def in_flight(schedule: str, stages: int, chunks: int, stage: int, micro_batches: Ints) -> Ints:
    """Most micro-batches whose activations each chunk of a stage holds at one time.

    The same as :attr:`Order.in_flight` of the schedule's order; what a search finds (``zb-1p``,
    ``zb-2p``) is bounded by its limit.

    Args:
        schedule: Its name.
        stages: Of the pipeline.
        chunks: Of a stage.
        stage: The stage.
        micro_batches: Of a step, for each layout.

    Returns:
        By layout and chunk.
    """
    m = micro_batches[:, None]
    if stages == 1:
        return np.ones_like(m)
    if schedule == "interleaved":
        ahead = 2 * (stages - stage - 1) + (chunks - 1) * stages + 1
        turns = np.minimum(np.where(m == stages, m * chunks, ahead), m * chunks)
        groups, rest = np.divmod(turns, stages * chunks)
        return groups * stages + np.clip(rest - np.arange(chunks) * stages, 0, stages)
    if schedule == "gpipe":
        return np.repeat(m, chunks, axis=1)
    if schedule == "dualpipe":  # the same for all counts that it allows
        held = order_of(schedule, stages, 2 * stages, 1).in_flight[stage]
        return np.broadcast_to(held, (len(m), len(held)))
    most = {"1f1b": stages - stage, "zb-h1": stages, "zb-1p": stages}.get(schedule, 2 * stages - 1)
    return np.minimum(m, most)
