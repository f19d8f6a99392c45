"""Every launch of a step in columns: seconds, uncertainty and origin, added up any way."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from predictor.costs import Origin
from predictor.costs.prediction import Floats, Ints
from predictor.iteration.launches import FAMILIES
from predictor.iteration.priced import Priced
from predictor.operators import Operator


@dataclass(frozen=True, slots=True)
class Ledger:
    """Launches of all segments of a step, each with how often it runs.

    Attributes:
        operators: Every distinct operator of the step.
        operator: Place of each launch's operator among them.
        times: How often each runs in a step.
        seconds: Of all its runs together.
        half_seconds: Half-width of their 90 % interval.
        origin: Where the number comes from.
        family: Place of its family in ``FAMILIES``.
    """

    operators: tuple[Operator, ...]
    operator: Ints
    times: Floats
    seconds: Floats
    half_seconds: Floats
    origin: Ints
    family: Ints

    @classmethod
    def of(cls, parts: Sequence[tuple[Priced, int]], operators: tuple[Operator, ...]) -> "Ledger":
        """Put segments, each run so many times, into one ledger."""
        runs = [(part, count) for part, count in parts if count and part.segment.launches]
        times = np.concatenate([np.full(len(p.seconds), float(count)) for p, count in runs])
        return cls(
            operators,
            np.concatenate([part.operator for part, _ in runs]),
            times,
            np.concatenate([part.seconds for part, _ in runs]) * times,
            np.concatenate([part.half for part, _ in runs]) * times,
            np.concatenate([part.origin for part, _ in runs]),
            np.concatenate([part.family for part, _ in runs]),
        )

    def by_family(self) -> dict[str, tuple[float, float]]:
        """Seconds and half-widths added up within each operator family."""
        seconds = np.bincount(self.family, self.seconds, minlength=len(FAMILIES)).tolist()
        half = np.bincount(self.family, self.half_seconds, minlength=len(FAMILIES)).tolist()
        return {
            name: (seconds[code], half[code])
            for code, name in enumerate(FAMILIES)
            if seconds[code] > 0
        }

    def by_origin(self) -> dict[str, float]:
        """Seconds by where they come from."""
        totals = np.bincount(self.origin, self.seconds, minlength=len(Origin))
        return {origin.label: float(totals[origin]) for origin in Origin}

    def worst_origin(self) -> tuple[Operator, Origin]:
        """The operator whose number rests on the least."""
        index = int(np.argmax(self.origin))
        return self.operators[self.operator[index]], Origin(int(self.origin[index]))
