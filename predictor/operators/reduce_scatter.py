"""Sum over ranks, of which each rank keeps its part: gradients of sharded data parallelism."""

from typing import ClassVar

from predictor.operators.collective import Collective
from predictor.values import frozen


@frozen(kw_only=True)
class ReduceScatter(Collective):
    """``y_r = (Σ x_rank)[r]``; ``bytes`` is the input, each rank keeps ``bytes/ranks``.

    Attributes:
        in_place: A rank's output is its own part of the input.
    """

    name: ClassVar[str] = "reduce_scatter"

    in_place: bool = False

    @property
    def working_set_bytes(self) -> float:
        """The input, and the output where it lies apart."""
        return self.bytes * (1.0 if self.in_place else 1.0 + 1.0 / self.ranks)
