"""From tokens to iterations, with the batch size growing at first.

As Megatron-LM's ``--rampup-batch-size START INCREMENT SAMPLES`` counts
(``megatron/core/num_microbatches_calculator.py``): the batch begins at START and grows by INCREMENT
in ``n = (B - START)/INCREMENT`` steps; after ``c`` samples, of which SAMPLES ramp, it is
``START + INCREMENT * floor(c * n / SAMPLES)``.
"""

from __future__ import annotations

from dataclasses import dataclass

from predictor.errors import CaseError


@dataclass(frozen=True, slots=True, kw_only=True)
class Ramp:
    """A growing batch size; all in sequences.

    Attributes:
        start: Batch size at first.
        increment: By which it grows.
        samples: Sequences over which it grows.
    """

    start: int
    increment: int
    samples: int

    @classmethod
    def parse(cls, text: str) -> Ramp:
        """Read ``START,INCREMENT,SAMPLES``.

        Raises:
            CaseError: These are not three whole numbers of at least one.
        """
        try:
            start, increment, samples = (int(word) for word in text.split(","))
        except ValueError:
            start = increment = samples = 0
        if min(start, increment, samples) < 1:
            raise CaseError(
                f"batch size ramp = {text!r}: must be START,INCREMENT,SAMPLES in sequences, as in "
                "32,32,1000000"
            )
        return cls(start=start, increment=increment, samples=samples)


def batch_phases(
    *, total_samples: int, global_batch_size: int, ramp: Ramp | None = None
) -> list[tuple[int, int]]:
    """Batch sizes of a run and for how many iterations each holds; at least ``total_samples``.

    Raises:
        CaseError: The ramp does not end at ``global_batch_size``.
    """
    phases: list[tuple[int, int]] = []
    consumed = 0
    for batch, until in _targets(total_samples, global_batch_size, ramp):
        iterations = max(0, -(-(min(until, total_samples) - consumed) // batch))
        if iterations:
            phases.append((batch, iterations))
            consumed += batch * iterations
    return phases


def _targets(total: int, batch: int, ramp: Ramp | None) -> list[tuple[int, int]]:
    """Batch sizes in order, each with the samples at which it ends."""
    if ramp is None or ramp.start == batch:
        return [(batch, total)]
    steps, rest = divmod(batch - ramp.start, ramp.increment)
    if steps < 1 or rest:
        raise CaseError(
            f"batch size ramp: {ramp.start} plus steps of {ramp.increment} must end at "
            f"global_batch_size ({batch})"
        )
    grown = [
        (ramp.start + ramp.increment * step, -(-ramp.samples * (step + 1) // steps))
        for step in range(steps)
    ]
    return [*grown, (batch, total)]
