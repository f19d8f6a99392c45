"""Which layouts to price, and when to stop: those whose lower bound is within what was found.

Layouts are taken in the order of their lower bounds, a few groups at a time; the bound of the rest
is compared with the slowest plan still worth an exact estimate. What is left out cannot be among
them. (Branch and bound: Land and Doig, Econometrica 28, 1960.)
"""

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from predictor.costs import Costs
from predictor.costs.prediction import Ints
from predictor.search.evaluate import Least
from predictor.search.pieces import groups_of
from predictor.search.room import Layouts

FIRST: Final = 24
"""Groups priced before anything is known; later rounds take twice as many as the one before."""


def rounds(layouts: Layouts, costs: Costs, limit: Callable[[], float | None]) -> Iterator[Ints]:
    """Rows of layouts that are worth pricing, a round at a time.

    Args:
        layouts: Those that fit.
        costs: Cost functions of the GPU.
        limit: Seconds beyond which a plan is of no interest by now: infinite while too few were
            found, None where all are wanted.
    """
    first, group = groups_of(layouts)
    wanted = np.ones(len(layouts), dtype=bool)
    order = np.arange(len(layouts))
    bounded = limit() is not None and len(first) > FIRST
    if bounded:
        least = Least(layouts, costs)
        order = np.argsort(least.seconds(), kind="stable")
    take = FIRST
    while True:
        most = limit()
        if bounded and most is not None and np.isfinite(most):
            wanted &= least.seconds(most) <= most
        waiting = order[wanted[order]]
        if not len(waiting):
            return
        _, places = np.unique(group[waiting], return_index=True)
        last = np.sort(places)[:take][-1]
        chosen = waiting[: last + 1]
        if not bounded or (most is not None and np.isfinite(most)):  # all that these groups have
            chosen = waiting[np.isin(group[waiting], group[chosen])]
        yield np.sort(chosen)
        wanted[chosen] = False
        take *= 2
