"""GPipe: all forward passes, then all backward passes (Huang et al., arXiv:1811.06965).

Bubble over ideal time: (p - 1) / m.
"""

from predictor.iteration.schedules.order import B, F, Order, straight


def order(stages: int, micro_batches: int, chunks: int) -> Order:
    """Forward passes in order, backward passes in order; chunks one after another."""
    forward = [(F, m, c) for c in range(chunks) for m in range(micro_batches)]
    backward = [(B, m, c) for c in reversed(range(chunks)) for m in range(micro_batches)]
    return Order.of([forward + backward] * stages, straight(stages, chunks))
