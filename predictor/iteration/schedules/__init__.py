"""Pipeline schedules: in which order a stage runs forward, backward and weight-gradient passes.

One file a schedule, with a function ``order(stages, micro_batches, chunks)`` that returns an
:class:`~predictor.iteration.schedules.order.Order`. Order only: no seconds, except where a schedule
is itself the result of a search over them. Adding a schedule is one file and one line here.
"""

from functools import lru_cache
from typing import Final

from predictor.errors import NotPredictable
from predictor.iteration.schedules import (
    gpipe,
    interleaved,
    one_f_one_b,
)
from predictor.iteration.schedules.order import Order

SPLIT_BACKWARD: Final = frozenset({"zb-h1", "zb-h2", "zb-1p", "zb-2p", "dualpipe"})
"""Schedules that run weight gradients as passes of their own."""

ORDERS: Final = {
    "gpipe": gpipe.order,
    "1f1b": one_f_one_b.order,
    "interleaved": interleaved.order,
}


@lru_cache(maxsize=32)
def order_of(schedule: str, stages: int, micro_batches: int, chunks: int) -> Order:
    """The order of a schedule.

    Raises:
        NotPredictable: The schedule's own rule on stages, micro-batches or chunks is broken.
    """
    if schedule not in ORDERS:
        msg = f"schedule {schedule!r} is not supported yet"
        raise NotPredictable(msg)
    return ORDERS[schedule](stages, micro_batches, chunks)


__all__ = ["ORDERS", "SPLIT_BACKWARD", "Order", "order_of"]
