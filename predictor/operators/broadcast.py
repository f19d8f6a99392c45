"""One rank's buffer to every rank: initial weights, small control tensors."""

from typing import ClassVar

from predictor.operators.collective import Collective
from predictor.values import frozen


@frozen(kw_only=True)
class Broadcast(Collective):
    """``y = x_0`` of a buffer of ``bytes`` on every rank; rank 0 of the group is the root.

    Attributes:
        in_place: Root and receivers use one buffer each, as frameworks do.
    """

    name: ClassVar[str] = "broadcast"

    in_place: bool = True

    @property
    def bus_bytes(self) -> float:
        """The whole buffer once over each link."""
        return float(self.bytes)

    @property
    def working_set_bytes(self) -> float:
        """One buffer in place, two out of place."""
        return self.bytes * (1.0 if self.in_place else 2.0)
