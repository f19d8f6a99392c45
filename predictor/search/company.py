"""What gathers and sums beside passes add to a step, for many layouts.

Every bucket but the first gather and the last sum of a chunk runs beside the layers of its chunk,
and both slow each other as in :mod:`predictor.iteration.interference`: the same factors, by the mix
of a stage's kernels.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from predictor.costs.interference import load_slowdowns
from predictor.costs.prediction import Floats
from predictor.iteration.interference import LIKE
from predictor.iteration.launches import FAMILIES


@cache
def factors_of(collective: str) -> Floats:
    """Factors of compute and of the collective beside it, by operator family."""
    known = load_slowdowns()
    pairs = [known.get((LIKE.get(name, name), collective), (1.0, 1.0)) for name in FAMILIES]
    return np.array(pairs)


@dataclass(frozen=True, slots=True)
class Company:
    """Buckets of chunks beside their layers; arrays are by layout and stage.

    Attributes:
        buckets: Of a chunk.
        each: Seconds of a bucket alone.
        part: Seconds of the layers beside it.
        later: Seconds of a bucket in company.
        longer: Seconds of the layers beside it.
    """

    buckets: Floats
    each: Floats
    part: Floats
    later: Floats
    longer: Floats

    @classmethod
    def of(
        cls, seconds: Floats, buckets: Floats, compute: Floats, mix: Floats, factors: Floats
    ) -> "Company":
        """Let the buckets of a chunk and its pass meet.

        Kernels of ``C`` seconds with factor f and a collective of ``d`` with g: if ``g d <= f C``,
        ``d' = g d`` and ``C' = C + g d (1 - 1/f)``, else ``C' = f C`` and
        ``d' = d + f C (1 - 1/g)``.

        Args:
            seconds: Of a chunk's traffic.
            buckets: That it leaves in; 0 where all leaves at once.
            compute: Seconds of the chunk's pass.
            mix: Seconds of a stage's kernels by operator family, on a last axis.
            factors: Of the collective, for all layouts or for each (:func:`factors_of`).
        """
        count = np.maximum(buckets, 1.0)
        each, part = seconds / count, compute / count
        local = mix * (np.array(FAMILIES) != "communication")
        shares = local / np.maximum(local.sum(axis=-1, keepdims=True), np.finfo(float).tiny)
        f, g = np.moveaxis(shares @ (factors - 1.0) + 1.0, -1, 0)
        short = g * each <= f * part
        later = np.where(short, g * each, each + f * part * (1.0 - 1.0 / g))
        longer = np.where(short, part + g * each * (1.0 - 1.0 / f), f * part)
        return cls(count, each, part, later, longer)

    def gathered(self) -> Floats:
        """What a chunk's first forward pass takes longer: its first bucket arrives before all."""
        waits = np.maximum(self.later, self.longer) - self.part
        return np.asarray(self.each + (self.buckets - 1) * waits)

    def summed(self) -> tuple[Floats, Floats]:
        """What a chunk's last backward pass takes longer, and what of its sums is left behind it.

        A bucket leaves as soon as its layers are done, and when the one before has arrived.
        """
        beside = self.buckets - 1
        grown = beside * (self.longer - self.part)
        queue = np.maximum(beside * (self.later - self.longer), 0.0)
        return np.asarray(grown), np.asarray(queue + self.each)
