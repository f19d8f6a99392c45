"""What a cost function answers: seconds, an interval, and where the number came from."""

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from predictor.values import frozen

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
PredictionRow = tuple[float, float, float, int]
"""Seconds, low, high and origin of one operator."""


class Origin(IntEnum):
    """Where a prediction comes from, best first."""

    MEASURED = 0
    FITTED = 1
    EXTRAPOLATED = 2
    TRANSFERRED = 3
    DATASHEET = 4

    @property
    def label(self) -> str:
        """Name in reports and JSON."""
        return self.name.lower()


@frozen
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

    def rows(self) -> list[PredictionRow]:
        """One tuple a prediction."""
        columns = (self.seconds, self.low, self.high, self.origin)
        return list(zip(*(column.tolist() for column in columns), strict=True))

    @classmethod
    def from_rows(cls, rows: Sequence[PredictionRow]) -> "Prediction":
        """Put tuples of :meth:`rows` together."""
        columns = np.array(rows, dtype=float).reshape(-1, 4).T
        return cls(columns[0], columns[1], columns[2], columns[3].astype(np.int64))
