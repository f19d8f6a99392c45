"""Zero-bubble schedules by hand (Qi et al., arXiv:2401.10241, sections 2.1 and 2.2).

The backward pass is split in B (gradient of the input) and W (gradient of the weights); W fills
what would be bubble. H1 runs ``p - s`` forward passes ahead and holds back ``s`` weight passes,
so every stage keeps p micro-batches; H2 runs ``2(p - s) - 1`` ahead and holds back ``2s``. Idle
seconds of a stage between its first and last pass:

    H1  (p - 1)·(F + B - W)        H2  (p - 1)·(F + B - 2W), at least none
"""

from predictor.errors import NotPredictable
from predictor.iteration.schedules.order import B, F, Order, Pass, W, straight


def h1(stages: int, micro_batches: int, chunks: int) -> Order:
    """As much memory as 1F1B, a third of its bubble where F, B and W take the same time."""
    one_chunk("zb-h1", chunks)
    return Order.of(
        [_stage(micro_batches, stages - stage, stage) for stage in range(stages)],
        straight(stages),
    )


def h2(stages: int, micro_batches: int, chunks: int) -> Order:
    """Twice the memory of 1F1B, no bubble where F, B and W take the same time."""
    one_chunk("zb-h2", chunks)
    return Order.of(
        [_stage(micro_batches, 2 * (stages - stage) - 1, 2 * stage) for stage in range(stages)],
        straight(stages),
    )


def one_chunk(schedule: str, chunks: int) -> None:
    """Refuse a schedule more than one chunk a stage.

    Raises:
        NotPredictable: There are more.
    """
    if chunks != 1:
        raise NotPredictable(
            f"schedule {schedule!r} has one chunk a stage, virtual_pipeline = {chunks}"
        )


def _stage(micro_batches: int, ahead: int, held_back: int) -> list[Pass]:
    """Forward passes ahead, then B, the W that is due, and the next F in turns."""
    ahead = min(ahead, micro_batches)
    passes: list[Pass] = [(F, m, 0) for m in range(ahead)]
    for m in range(micro_batches):
        passes.append((B, m, 0))
        if m >= held_back:
            passes.append((W, m - held_back, 0))
        if ahead + m < micro_batches:
            passes.append((F, ahead + m, 0))
    left = range(max(micro_batches - held_back, 0), micro_batches)
    return passes + [(W, m, 0) for m in left]
