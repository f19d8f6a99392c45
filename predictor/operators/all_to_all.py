"""Every rank sends a part of its buffer to every rank: dispatch and combine of MoE layers."""

from itertools import accumulate, pairwise
from typing import ClassVar, Literal

from predictor.operators.collective import Collective
from predictor.values import frozen

AllToAllPattern = Literal["even", "uneven"]


@frozen(kw_only=True)
class AllToAll(Collective):
    """Sends and receives in one group; ``bytes`` is a rank's whole send buffer, own part included.

    Attributes:
        pattern: ``even`` parts of ``bytes/ranks``, or ``uneven``: every rank sends the first
            destination three times what it sends the last, in equal steps between, as where some
            experts are more loaded than others.
    """

    name: ClassVar[str] = "all_to_all"

    pattern: AllToAllPattern = "even"

    def part_elements(self, destination: int) -> int:
        """Elements that each rank sends to ``destination``; all of them sum to ``elements``."""
        return self._parts()[destination]

    def _parts(self) -> list[int]:
        """Elements for each destination, in order."""
        ends = list(accumulate(self._weights(), initial=0))
        bounds = [self.elements * end // ends[-1] for end in ends]
        return [end - begin for begin, end in pairwise(bounds)]

    def _weights(self) -> list[int]:
        """Even, or from 3 for the first rank down to 1 for the last in equal steps."""
        if self.pattern == "even" or self.ranks == 1:
            return [1] * self.ranks
        steps = self.ranks - 1
        return [3 * steps - 2 * rank for rank in range(self.ranks)]

    @property
    def bus_bytes(self) -> float:
        """What the busiest link carries: of the rank that receives or sends most to others."""
        parts = [float(part) for part in self._parts()]
        received = (self.ranks - 1) * max(parts)
        sent = sum(parts) - min(parts)
        return max(received, sent) * self.bytes / max(self.elements, 1)

    @property
    def working_set_bytes(self) -> float:
        """Send and receive buffer; where parts are uneven, of the rank that receives most."""
        received = self.ranks * max(self._parts())
        return self.bytes * (1.0 + received / max(self.elements, 1))
