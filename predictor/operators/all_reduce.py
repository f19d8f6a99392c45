"""Sum over ranks, given to every rank: gradients, partial sums of split matrix products."""

from typing import ClassVar

from predictor.operators.collective import Collective
from predictor.values import frozen


@frozen(kw_only=True)
class AllReduce(Collective):
    """``y = Σ x_rank`` of a buffer of ``bytes``, which every rank holds.

    Attributes:
        in_place: ``y`` overwrites ``x``, as frameworks do.
    """

    name: ClassVar[str] = "all_reduce"

    in_place: bool = True

    @property
    def bus_bytes(self) -> float:
        """A reduce-scatter and an all-gather: ``2·(p-1)/p`` of the buffer."""
        return 2.0 * self.bytes * (self.ranks - 1) / self.ranks

    @property
    def working_set_bytes(self) -> float:
        """One buffer in place, two out of place."""
        return self.bytes * (1.0 if self.in_place else 2.0)
