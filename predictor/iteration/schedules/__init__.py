"""Pipeline schedules: in which order a stage runs forward, backward and weight-gradient passes.

One file a schedule, with a function ``order(stages, micro_batches, chunks)`` that returns an
:class:`~predictor.iteration.schedules.order.Order`. Order only: no seconds, except where a schedule
is itself the result of a search over them. Adding a schedule is one file and one line here.
"""

from functools import lru_cache
from typing import Final

from predictor.errors import NotPredictable
from predictor.iteration.schedules import (
    dualpipe,
    gpipe,
    interleaved,
    one_f_one_b,
    zero_bubble,
)
from predictor.iteration.schedules.order import Order, PassSeconds

SPLIT_BACKWARD: Final = frozenset({"zb-h1", "zb-h2", "zb-1p", "zb-2p", "dualpipe"})
"""Schedules that run weight gradients as passes of their own."""

ORDERS: Final = {
    "gpipe": gpipe.order,
    "1f1b": one_f_one_b.order,
    "interleaved": interleaved.order,
    "dualpipe": dualpipe.order,
    "zb-h1": zero_bubble.h1,
    "zb-h2": zero_bubble.h2,
}

SEARCHED: Final = {"zb-1p": 1, "zb-2p": 2}
"""Schedules found by search, and their memory limit in micro-batches a stage of the pipeline."""

UNIT: Final = PassSeconds()

MAX_PASSES: Final = 2**19
"""Of a schedule that is played through: some 4 µs and 600 bytes each."""

MAX_PASSES_A_STAGE: Final = 2**15
"""One after another, some 70 µs each."""

MAX_PASSES_SEARCHED: Final = 2**15
"""Of a schedule that is found by search: some 65 µs each."""


@lru_cache(maxsize=32)
def order_of(
    schedule: str, stages: int, micro_batches: int, chunks: int, seconds: PassSeconds = UNIT
) -> Order:
    """The order of a schedule.

    Args:
        schedule: Its name.
        stages: Of the pipeline.
        micro_batches: Of a step.
        chunks: Of a stage.
        seconds: Of the passes; only a search looks at them.

    Raises:
        NotPredictable: The schedule's own rule on stages, micro-batches or chunks is broken, or it
            has more passes than are played through in some seconds.
    """
    _check_size(schedule, stages, micro_batches, chunks)
    if schedule in SEARCHED:
        zero_bubble.one_chunk(schedule, chunks)
        from predictor.iteration.schedules.zero_bubble_search import search  # noqa: PLC0415

        return search(stages, micro_batches, SEARCHED[schedule] * stages, seconds)
    return ORDERS[schedule](stages, micro_batches, chunks)


def _check_size(schedule: str, stages: int, micro_batches: int, chunks: int) -> None:
    each = micro_batches * chunks * (3 if schedule in SPLIT_BACKWARD else 2)
    most = min(
        MAX_PASSES_A_STAGE,
        (MAX_PASSES_SEARCHED if schedule in SEARCHED else MAX_PASSES) // stages,
    )
    if each > most:
        raise NotPredictable(
            f"plan.schedule {schedule!r}: {micro_batches} micro-batches in {chunks} chunks are "
            f"{each:,} passes of each of {stages} stages; up to {most:,} are estimated: use fewer "
            "stages or chunks, or a larger training.micro_batch_size"
        )


__all__ = ["ORDERS", "SEARCHED", "SPLIT_BACKWARD", "UNIT", "Order", "PassSeconds", "order_of"]
