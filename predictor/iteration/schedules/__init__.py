"""Pipeline schedules: in which order a stage runs forward, backward and weight-gradient passes.

One file a schedule, with a function ``order(stages, micro_batches, chunks)`` that returns an
:class:`~predictor.iteration.schedules.order.Order`. Order only: no seconds, except where a schedule
is itself the result of a search over them. Adding a schedule is one file and one line here.
"""

from functools import lru_cache
from typing import Final

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
        NotPredictable: The schedule's own rule on stages, micro-batches or chunks is broken.
    """
    if schedule in SEARCHED:
        zero_bubble.one_chunk(schedule, chunks)
        from predictor.iteration.schedules.zero_bubble_search import search  # noqa: PLC0415

        return search(stages, micro_batches, SEARCHED[schedule] * stages, seconds)
    return ORDERS[schedule](stages, micro_batches, chunks)


__all__ = ["ORDERS", "SEARCHED", "SPLIT_BACKWARD", "UNIT", "Order", "PassSeconds", "order_of"]
