"""How far exact estimates are from what the array form says of them, learnt in one search."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from predictor.costs.prediction import Floats
from predictor.search.candidates import Candidate

LEAST_SPREAD: Final = 0.005
"""By which ratios of exact estimates to the array form are taken to differ at least."""


class Trust:
    """Ratios of exact estimates to the array form.

    Candidates that one closed form and the same overlaps tell err alike. Another one's exact
    quantity is taken to be no less than the lowest ratio seen of its kind allows, less once more
    all that these differ by, or ``LEAST_SPREAD``; of a kind not seen yet, all ratios stand for it.
    """

    def __init__(self) -> None:
        """Start with nothing learnt."""
        self._ratios: dict[tuple[object, ...], list[Floats]] = {}

    def learn(self, candidate: Candidate, exact: Sequence[float]) -> None:
        """Compare the quantities of one candidate."""
        ratios = self._ratios.setdefault(candidate.kind, [])
        ratios.append(_over(exact, candidate.quantities))

    def least(self, candidate: Candidate) -> tuple[float, ...]:
        """What exact quantities are at least taken to be."""
        every = [each for ratios in self._ratios.values() for each in ratios]
        seen = self._ratios.get(candidate.kind, every)
        if not seen:
            return (0.0,) * len(candidate.quantities)
        low, high = np.min(seen, axis=0), np.max(seen, axis=0)
        factor = low - np.maximum(high - low, LEAST_SPREAD)
        return tuple((np.array(candidate.quantities) * factor).tolist())


def _over(one: Sequence[float], other: Sequence[float]) -> Floats:
    """Ratios; 1 where both are infinite, as USD without a price are."""
    pairs = zip(one, other, strict=True)
    return np.array([1.0 if each == rest else each / rest for each, rest in pairs])
