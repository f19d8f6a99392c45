"""WHAT IS BEST, and what a whole run of it takes.

In come a model, GPUs and a batch, and out go the best plans (:func:`search`): every legal plan is
evaluated in arrays, the best of them by the estimate itself. In come cases and what people want of
a run: tokens, a deadline, a budget, prices. Out go whole runs (:class:`TrainingRun`) with the
interval of their iterations carried through, choices among GPU counts, SKUs and models, and studies
of many cases as one tidy table.
"""

from predictor.rooms import open_to_calls
from predictor.search.finding import search
from predictor.search.prices import PriceTable, load_prices
from predictor.search.result import NearMiss, SearchResult
from predictor.search.training_run import TrainingRun, training_run

__all__ = [
    "NearMiss",
    "PriceTable",
    "SearchResult",
    "TrainingRun",
    "load_prices",
    "search",
    "training_run",
]

open_to_calls(__name__, search)
