"""Every launch of a step in columns: seconds, uncertainty and origin, added up any way."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from predictor.costs import Origin
from predictor.costs.prediction import Floats, Ints
from predictor.iteration.launches import COMMUNICATION, FAMILIES, Program
from predictor.iteration.layout import Layout
from predictor.iteration.priced import Sheet
from predictor.operators import Operator
from predictor.values import frozen


def repetitions(programs: Iterable[tuple[Program, int]], layout: Layout) -> Floats:
    """How often programs, each run so many times, run every segment."""
    counts = np.zeros(len(layout.segments))
    for program, runs in programs:
        for segment, repeats in program:
            counts[layout.segments[segment]] += runs * repeats
    return counts


@frozen
class Ledger:
    """Launches of a stage, each with how often it runs.

    Attributes:
        operators: Every distinct operator of the sheet.
        row: Place of each launch in the sheet.
        operator: Place of each launch's operator among them.
        times: How often each runs in a step.
        seconds: Of all its runs together.
        half_seconds: Half-width of their 90 % interval.
        origin: Where the number comes from.
        family: Place of its family in ``FAMILIES``.
    """

    operators: tuple[Operator, ...]
    row: Ints
    operator: Ints
    times: Floats
    seconds: Floats
    half_seconds: Floats
    origin: Ints
    family: Ints

    @classmethod
    def of(cls, programs: Iterable[tuple[Program, int]], sheet: Sheet) -> "Ledger":
        """Put programs, each run so many times, into one ledger."""
        times = np.repeat(repetitions(programs, sheet.layout), sheet.layout.counts)
        row = np.flatnonzero(times)
        times = times[row]
        return cls(
            sheet.operators,
            row,
            sheet.operator[row],
            times,
            sheet.seconds[row] * times,
            sheet.half[row] * times,
            sheet.origin[row],
            sheet.family[row],
        )

    def settled(self, sheet: Sheet) -> "Ledger":
        """The same launches at the seconds of their sheet at another clock."""
        return replace(
            self,
            seconds=sheet.seconds[self.row] * self.times,
            half_seconds=sheet.half[self.row] * self.times,
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

    def by_origin(self, *, communication: bool = False) -> dict[str, float]:
        """Seconds of computation, or those of collectives, by where they come from."""
        chosen = (self.family == FAMILIES.index(COMMUNICATION)) == communication
        totals = np.bincount(self.origin[chosen], self.seconds[chosen], minlength=len(Origin))
        return {origin.label: float(totals[origin]) for origin in Origin}

    def worst_origin(self) -> tuple[Operator, Origin]:
        """The operator whose number rests on the least."""
        index = int(np.argmax(self.origin))
        return self.operators[self.operator[index]], Origin(int(self.origin[index]))
