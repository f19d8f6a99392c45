"""Which layouts to price, and when to stop: those whose lower bounds are within what was found.

Layouts are taken in the order of their lower bounds, a few groups at a time; the bounds of the rest
are compared with the last plan still worth an exact estimate, or with the front so far. What is
left out cannot be among them. (Branch and bound: Land and Doig, Econometrica 28, 1960.)
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from predictor.costs.prediction import Ints
from predictor.search.aims import Aim
from predictor.search.bounds import Least
from predictor.search.groups import groups_of
from predictor.search.layouts import Layouts
from predictor.search.pieces import Stock
from predictor.search.replicas import Tails

FIRST: Final = 16
"""Groups priced before anything is known; later rounds take twice as many as the one before."""

Round = tuple[Ints, Tails]
"""Rows of layouts, and what replicas add to them."""


def rounds(layouts: Layouts, stock: Stock, aim: Aim) -> Iterator[Round]:
    """Rows of layouts that are worth pricing, a round at a time.

    Args:
        layouts: Those that fit.
        stock: Their parts.
        aim: What is wanted of them.
    """
    if len(groups_of(layouts)[0]) <= FIRST:
        yield np.arange(len(layouts)), Tails(layouts, stock.costs)
    else:
        yield from _Pursuit(layouts, stock, aim).rounds()


class _Pursuit:
    """Rows that are left, in the order of what bounds them."""

    def __init__(self, layouts: Layouts, stock: Stock, aim: Aim) -> None:
        self._layouts, self._stock, self._aim = layouts, stock, aim
        self._group = groups_of(layouts)[1]
        self._least = Least(layouts, stock)
        self._left = np.arange(len(layouts))
        self._take = FIRST

    def rounds(self) -> Iterator[Round]:
        least, aim = self._least, self._aim
        while len(self._left) and not aim.decided:
            bounds = aim.first(least, self._left)  # what is bounded by itself first
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
            rows = self._first(np.argsort(aim.first(least, left), kind="stable"))
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
        """Rows that are of interest still."""
        return rows[self._aim.within(self._least, rows)]

    def _refined(self, rows: Ints) -> Ints:
        """Those that still are when their bounds are refined."""
        for level in range(1, self._least.levels + 1):
            if len(rows):
                self._least.refine(rows, level)
                rows = self._within(rows)
        return rows
