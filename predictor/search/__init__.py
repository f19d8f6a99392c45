"""WHAT IS BEST, and what a whole run of it takes.

In come cases and what people want of a run: tokens, a deadline, a budget, prices. Out go whole runs
(:class:`TrainingRun`) with the interval of their iterations carried through, choices among GPU
counts, SKUs and models, and studies of many cases as one tidy table.
"""

from predictor.search.prices import PriceTable, load_prices
from predictor.search.training_run import TrainingRun, training_run

__all__ = ["PriceTable", "TrainingRun", "load_prices", "training_run"]
