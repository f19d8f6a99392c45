"""Which plans are still of interest, by what bounds them and by what was found so far."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predictor.costs.prediction import Floats, Ints
from predictor.search.candidates import QUANTITIES, RERANKED, Candidate
from predictor.search.evaluate import Least


@dataclass(frozen=True, slots=True)
class Aim:
    """What a search wants least of on one machine.

    Attributes:
        objective: Of the quantities, if there is no front.
        pareto: Quantities of a front.
        found: Candidates on all machines; it grows.
        reserved: Bytes of every layout.
        gpus: Of the machine.
        usd_per_second: Of all of them; infinite without a price.
    """

    objective: str
    pareto: tuple[str, ...]
    found: Sequence[Candidate]
    reserved: Floats
    gpus: int
    usd_per_second: float

    @property
    def decided(self) -> bool:
        """Whether enough was found to rule anything out."""
        return len(self.found) >= (1 if self.pareto else RERANKED)

    def first(self, least: Least, rows: Ints) -> Floats:
        """Bounds of the quantity that comes first."""
        name = self.pareto[0] if self.pareto else self.objective
        return self._bounds(least, rows)[:, QUANTITIES.index(name)]

    def within(self, least: Least, rows: Ints) -> NDArray[np.bool_]:
        """Layouts of which a plan may be among the best, or on the front."""
        bounds = self._bounds(least, rows)
        table = np.array([each.quantities for each in self.found]).reshape(-1, len(QUANTITIES))
        if self.pareto:
            columns = [QUANTITIES.index(name) for name in self.pareto]
            beaten = np.zeros(len(rows), dtype=bool)
            for one in table[:, columns]:
                beaten |= (one <= bounds[:, columns]).all(axis=1)
            return ~beaten
        if not self.decided:
            return np.ones(len(rows), dtype=bool)
        column = QUANTITIES.index(self.objective)
        last = table[np.lexsort((table[:, 0], table[:, column]))[RERANKED - 1]]
        ties = (bounds[:, column] == last[column]) & (bounds[:, 0] <= last[0])
        return np.asarray((bounds[:, column] < last[column]) | ties)

    def _bounds(self, least: Least, rows: Ints) -> Floats:
        """In the order of ``QUANTITIES``."""
        seconds, joules = least.seconds[rows], least.joules[rows] * self.gpus
        gpus = np.full(len(rows), float(self.gpus))
        return np.stack(
            [seconds, seconds * self.usd_per_second, joules, self.reserved[rows], gpus], axis=1
        )
