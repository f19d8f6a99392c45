"""Messages between pairs of ranks: activations of pipeline stages, rings of context parallelism."""

from typing import ClassVar, Literal

from predictor.operators.collective import Collective
from predictor.values import frozen

SendRecvPattern = Literal["one_way", "both_ways", "ring"]


@frozen(kw_only=True)
class SendRecv(Collective):
    """Messages of ``bytes`` each.

    Attributes:
        pattern: ``one_way`` (``source`` sends to ``destination``), ``both_ways`` (both send and
            receive at once) or ``ring`` (each rank sends to the next and receives from the last).
        source: Number of the sending GPU in the run; a ring begins at GPU 0.
        destination: Number of the receiving GPU.
    """

    name: ClassVar[str] = "send_recv"

    pattern: SendRecvPattern = "one_way"
    source: int = 0
    destination: int = 1

    @property
    def bus_bytes(self) -> float:
        """The message once over each link and direction."""
        return float(self.bytes)
