"""What happens: a case and cost functions become one iteration's seconds, memory and money.

In come a :class:`~predictor.case.Case` and the cost functions of its GPU. An implementation names
the launches of a step, a timeline runs them, and out goes an :class:`Estimate`.
"""

from predictor.iteration.answer import Estimate
from predictor.iteration.costliest import OperatorShare
from predictor.iteration.estimate import estimate, estimate_many

__all__ = ["Estimate", "OperatorShare", "estimate", "estimate_many"]
