"""Concatenation of every rank's part: sharded parameters, activations split by sequence."""

from typing import ClassVar

from predictor.operators.collective import Collective
from predictor.values import frozen


@frozen(kw_only=True)
class AllGather(Collective):
    """``y = [x_0, …, x_{p-1}]``; ``bytes`` is the output, each rank brings ``bytes/ranks``.

    Attributes:
        in_place: A rank's input is its own part of the output.
    """

    name: ClassVar[str] = "all_gather"

    in_place: bool = False

    @property
    def working_set_bytes(self) -> float:
        """The output, and the input where it lies apart."""
        return self.bytes * (1.0 if self.in_place else 1.0 + 1.0 / self.ranks)
