"""Which layouts to price, and when to stop: those whose lower bound is within what was found.

Layouts are taken in the order of their lower bounds, a few groups at a time; the bound of the rest
is compared with the slowest plan still worth an exact estimate. What is left out cannot be among
them. (Branch and bound: Land and Doig, Econometrica 28, 1960.)
"""

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from predictor.costs.prediction import Ints
from predictor.search.evaluate import Least
from predictor.search.pieces import Stock, groups_of
from predictor.search.replicas import Tails
from predictor.search.room import Layouts

FIRST: Final = 16
"""Groups priced before anything is known; later rounds take twice as many as the one before."""

Round = tuple[Ints, Tails]
"""Rows of layouts, and what replicas add to them."""


def rounds(layouts: Layouts, stock: Stock, limit: Callable[[], float | None]) -> Iterator[Round]:
    """Rows of layouts that are worth pricing, a round at a time.

    Args:
        layouts: Those that fit.
        stock: Their parts.
        limit: Seconds beyond which a plan is of no interest by now: infinite while too few were
            found, None where all are wanted.
    """
    if limit() is None or len(groups_of(layouts)[0]) <= FIRST:
        yield np.arange(len(layouts)), Tails(layouts, stock.costs)
    else:
        yield from _Pursuit(layouts, stock, lambda: limit() or 0.0).rounds()


class _Pursuit:
    """Rows that are left, in the order of what bounds them."""

    def __init__(self, layouts: Layouts, stock: Stock, limit: Callable[[], float]) -> None:
        self._layouts, self._stock, self._limit = layouts, stock, limit
        self._group = groups_of(layouts)[1]
        self._least = Least(layouts, stock)
        self._left = np.arange(len(layouts))
        self._take = FIRST

    def rounds(self) -> Iterator[Round]:
        least = self._least
        while len(self._left) and not np.isfinite(self._limit()):
            bounds = least.seconds(rows=self._left)  # what is bounded by itself first
            rows = self._first(np.lexsort((bounds, least.loose[self._left])))
            yield rows, Tails(self._layouts.take(rows), self._stock.costs)
            self._drop(rows)
        if not len(kept := self._within(self._left)):
            return
        tails = Tails(self._layouts.take(kept), self._stock.costs)
        least.replicate(kept, tails)
        self._left, self._take = kept, FIRST
        while len(left := self._within(self._left)):
            self._left = left
            rows = self._first(np.argsort(least.seconds(self._limit(), left), kind="stable"))
            rows = left[np.isin(self._group[left], self._group[rows])]
            worth = self._refined(rows)
            if len(worth):
                yield worth, tails.take(np.searchsorted(kept, worth))
            self._drop(rows)

    def _first(self, order: Ints) -> Ints:
        """Rows up to the last of the next groups."""
        rows = self._left[order]
        places = np.unique(self._group[rows], return_index=True)[1]
        last = np.sort(places)[: self._take][-1]
        self._take *= 2
        return np.sort(rows[: last + 1])

    def _drop(self, rows: Ints) -> None:
        self._left = np.setdiff1d(self._left, rows)

    def _within(self, rows: Ints) -> Ints:
        """Rows whose bound is within the limit."""
        most = self._limit()
        return rows[self._least.seconds(most, rows) <= most]

    def _refined(self, rows: Ints) -> Ints:
        """Those that still are when their bounds are refined."""
        for level in range(1, self._least.levels + 1):
            if len(rows):
                self._least.refine(rows, level)
                rows = self._within(rows)
        return rows
