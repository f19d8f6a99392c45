"""What failures and checkpoints cost a long run, by the user's own numbers.

With exponentially distributed failures of mean time ``M``, checkpoints of ``d`` seconds after every
``t`` seconds of work and ``R`` seconds to restart, ``T`` seconds of work take on average

    M * exp(R/M) * (exp((t + d)/M) - 1) * T/t                                   (Daly 2006)

and ``t`` is best at ``sqrt(2 d M) (1 + sqrt(d/2M)/3 + (d/2M)/9) - d`` for ``d < 2 M``, else ``M``.
J. T. Daly, "A higher order estimate of the optimum checkpoint interval for restart
dumps", Future Generation Computer Systems 22 (2006) 303-312. Nothing is assumed about any machine:
without these numbers a run is estimated as if nothing ever failed.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, expm1, isfinite, sqrt

from predictor.errors import CaseError


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """How often a job fails and what that costs.

    Attributes:
        mtbf_seconds: Mean time between failures of the whole job.
        checkpoint_seconds: For which training stops to write a checkpoint.
        restart_seconds: From a failure to the first iteration after it.
        interval_seconds: Work between checkpoints; None: the best.
    """

    mtbf_seconds: float
    checkpoint_seconds: float
    restart_seconds: float
    interval_seconds: float | None = None

    @property
    def work_seconds(self) -> float:
        """Work between two checkpoints: as given, else Daly's optimum."""
        if self.interval_seconds is not None:
            return self.interval_seconds
        share = self.checkpoint_seconds / (2.0 * self.mtbf_seconds)
        if share >= 1.0:
            return self.mtbf_seconds
        first = sqrt(2.0 * self.checkpoint_seconds * self.mtbf_seconds)
        return first * (1.0 + sqrt(share) / 3.0 + share / 9.0) - self.checkpoint_seconds

    @property
    def slowdown(self) -> float:
        """Mean wall-clock seconds for a second of work.

        Raises:
            CaseError: The job fails so often that it does not come forward.
        """
        mean, work = self.mtbf_seconds, self.work_seconds
        try:
            lost = exp(self.restart_seconds / mean) * expm1((work + self.checkpoint_seconds) / mean)
            factor = mean * lost / work
        except OverflowError:
            factor = float("inf")
        if not isfinite(factor):
            raise CaseError(
                f"mtbf = {mean:g} s: too short beside {self.restart_seconds:g} s to restart and "
                f"{work:g} s of work between checkpoints; the run would never end"
            )
        return factor
