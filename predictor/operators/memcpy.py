"""Copies by the driver: host to device, device to host, within a device, between two of them."""

from typing import ClassVar, Literal

from predictor.values import frozen

Direction = Literal["h2d", "d2h", "d2d", "peer"]


@frozen(kw_only=True)
class Memcpy:
    """One copy.

    Attributes:
        direction: ``h2d`` and ``d2h`` cross the host's link, ``d2d`` reads and writes one device's
            memory, ``peer`` writes to the next device's over NVLink or PCIe.
        bytes: Copied; ``d2d`` moves twice as many through the memory.
        pinned: The host's memory is page-locked. Nothing to ``d2d`` and ``peer``.
    """

    name: ClassVar[str] = "memcpy"

    direction: Direction
    bytes: int
    pinned: bool = True

    @property
    def flops(self) -> float:
        """None."""
        return 0.0

    @property
    def working_set_bytes(self) -> float:
        """Device memory that one copy touches."""
        return 2.0 * self.bytes if self.direction == "d2d" else float(self.bytes)
