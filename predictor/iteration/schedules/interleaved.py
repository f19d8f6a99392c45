"""Interleaved 1F1B: several chunks a stage (Narayanan et al., arXiv:2104.04473, section 2.2.2).

Micro-batches go through the pipeline in groups of p; each group visits the chunks in turns. Stage s
runs ``2·(p - s - 1) + (v - 1)·p`` forward passes ahead (Megatron-LM, ``schedules.py``). Bubble over
ideal time: (p - 1) / (m·v).
"""

import numpy as np

from predictor.costs.prediction import Ints
from predictor.errors import NotPredictable
from predictor.iteration.schedules.order import B, F, Order, straight


def order(stages: int, micro_batches: int, chunks: int) -> Order:
    """Warm-up, steady state, drain over all chunks.

    Raises:
        NotPredictable: Micro-batches do not come in whole groups of the stages.
    """
    if micro_batches % stages:
        raise NotPredictable(
            f"schedule 'interleaved' needs micro-batches in multiples of pipeline_parallel "
            f"({stages}); global_batch_size leaves {micro_batches} a replica"
        )
    total = micro_batches * chunks
    turn = np.arange(total)
    micro_batch = turn // (stages * chunks) * stages + turn % stages
    forward_chunk = turn % (stages * chunks) // stages
    backward_chunk = chunks - 1 - forward_chunk
    kind = np.empty((stages, 2 * total), dtype=np.int64)
    place = np.empty((stages, 2 * total), dtype=np.int64)
    for stage in range(stages):
        ahead = 2 * (stages - stage - 1) + (chunks - 1) * stages
        kind[stage], place[stage] = _turns(total, total if micro_batches == stages else ahead)
    forward = kind == F
    return Order(
        kind,
        micro_batch[place],
        np.where(forward, forward_chunk[place], backward_chunk[place]),
        straight(stages, chunks),
        np.zeros(micro_batches, dtype=np.int64),
    )


def _turns(total: int, ahead: int) -> tuple[Ints, Ints]:
    """Kinds of passes and which of its kind each is, with so many forward passes ahead."""
    ahead = min(ahead, total)
    steady = total - ahead
    kind = np.empty(2 * total, dtype=np.int64)
    place = np.empty(2 * total, dtype=np.int64)
    kind[:ahead], place[:ahead] = F, np.arange(ahead)
    middle = slice(ahead, ahead + 2 * steady)
    kind[middle] = np.tile([F, B], steady)
    place[middle] = np.stack([ahead + np.arange(steady), np.arange(steady)], axis=1).ravel()
    kind[ahead + 2 * steady :], place[ahead + 2 * steady :] = B, np.arange(steady, total)
    return kind, place
