"""1F1B: PipeDream-flush (Narayanan et al., arXiv:2104.04473, section 2.2.1).

Stage s runs ``p - 1 - s`` forward passes ahead, then one forward and one backward in turns.
Bubble over ideal time: (p - 1) / m. In flight: ``min(p - s, m)`` micro-batches.
"""

from predictor.errors import NotPredictable
from predictor.iteration.schedules.order import B, F, Order, Pass, straight


def order(stages: int, micro_batches: int, chunks: int) -> Order:
    """Warm-up, steady state, drain.

    Raises:
        NotPredictable: More than one chunk a stage.
    """
    if chunks != 1:
        raise NotPredictable(
            f"schedule '1f1b' has one chunk a stage, virtual_pipeline = {chunks}; use interleaved"
        )
    passes = []
    for stage in range(stages):
        ahead = min(stages - 1 - stage, micro_batches)
        mine: list[Pass] = [(F, m, 0) for m in range(ahead)]
        for m in range(micro_batches - ahead):
            mine += [(F, ahead + m, 0), (B, m, 0)]
        mine += [(B, m, 0) for m in range(micro_batches - ahead, micro_batches)]
        passes.append(mine)
    return Order.of(passes, straight(stages))
