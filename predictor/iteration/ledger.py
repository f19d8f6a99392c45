"""Every launch of a step in columns: seconds, uncertainty and origin, added up any way."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from predictor.costs import Origin
from predictor.costs.prediction import Floats, Ints
from predictor.iteration.launches import Launch
from predictor.iteration.priced import Priced


@dataclass(frozen=True, slots=True)
class Ledger:
    """Launches of all segments of a step, each with how often it runs.

    Attributes:
        launches: In order of the segments.
        times: How often each runs in a step.
        seconds: Of all its runs together.
        half_seconds: Half-width of their 90 % interval.
        origin: Where the number comes from.
    """

    launches: tuple[Launch, ...]
    times: Floats
    seconds: Floats
    half_seconds: Floats
    origin: Ints

    @classmethod
    def of(cls, parts: Sequence[tuple[Priced, int]]) -> "Ledger":
        """Put segments, each run so many times, into one ledger."""
        runs = [(part, count) for part, count in parts if count and part.segment.launches]
        times = np.concatenate([np.full(len(p.seconds), float(count)) for p, count in runs])
        return cls(
            tuple(launch for part, _ in runs for launch in part.segment.launches),
            times,
            np.concatenate([part.seconds for part, _ in runs]) * times,
            np.concatenate([part.half for part, _ in runs]) * times,
            np.concatenate([part.origin for part, _ in runs]),
        )

    def by_family(self) -> dict[str, tuple[float, float]]:
        """Seconds and half-widths added up within each operator family."""
        families = [launch.family for launch in self.launches]
        names = list(dict.fromkeys(families))
        code = np.array([names.index(family) for family in families])
        seconds = np.bincount(code, self.seconds)
        half = np.bincount(code, self.half_seconds)
        return dict(zip(names, zip(seconds.tolist(), half.tolist(), strict=True), strict=True))

    def by_origin(self) -> dict[str, float]:
        """Seconds by where they come from."""
        totals = np.bincount(self.origin, self.seconds, minlength=len(Origin))
        return {origin.label: float(totals[origin]) for origin in Origin}

    def worst_origin(self) -> tuple[Launch, Origin]:
        """The launch whose number rests on the least."""
        index = int(np.argmax(self.origin))
        return self.launches[index], Origin(int(self.origin[index]))
