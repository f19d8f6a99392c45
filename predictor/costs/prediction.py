"""What a cost function answers: seconds, an interval, and where the number came from."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Origin(IntEnum):
    """Where a prediction comes from, best first."""

    MEASURED = 0
    FITTED = 1
    EXTRAPOLATED = 2
    DATASHEET = 3

    @property
    def label(self) -> str:
        """Name in reports and JSON."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Prediction:
    """Predictions of several operators, as arrays of one length.

    Attributes:
        seconds: Expected time.
        low: Lower end of the 90 % interval.
        high: Upper end.
        origin: Values of :class:`Origin`.
    """

    seconds: Floats
    low: Floats
    high: Floats
    origin: Ints

    @classmethod
    def empty(cls, size: int) -> "Prediction":
        """Room for ``size`` predictions."""
        return cls(np.zeros(size), np.zeros(size), np.zeros(size), np.zeros(size, np.int64))

    def put(self, index: Ints, other: "Prediction") -> None:
        """Write ``other`` at the positions ``index``."""
        self.seconds[index] = other.seconds
        self.low[index] = other.low
        self.high[index] = other.high
        self.origin[index] = other.origin
