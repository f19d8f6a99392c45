"""From one iteration to a whole run: days, GPU-hours, dollars and megawatt-hours.

A run is its iterations one after another, and every phase of a growing batch is an estimate of its
own. The interval of an iteration says how far its *mean* may lie from the truth: what a model
leaves out, or a device that differs, is the same in every iteration of the run and does not average
out. So the ends of the run's interval are the sums of the ends of its iterations', and a run is as
uncertain as one of its iterations, not less by the root of their number.

Energy is that of the GPUs at the mean power of an iteration; its interval, like that of the money,
is that of the time. Prices are taken as certain: each has a source and a date.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from predictor.errors import CaseError
from predictor.iteration import Estimate, estimate
from predictor.search.amounts import DAY_SECONDS
from predictor.search.prices import load_prices
from predictor.search.ramp import Ramp, batch_phases
from predictor.units import HOUR_SECONDS, MWH_JOULES

if TYPE_CHECKING:
    from predictor.case import Case
    from predictor.search.failures import Failures
    from predictor.search.prices import Price, PriceTable

Span = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Iterations of one batch size.

    Attributes:
        global_batch_size: Sequences of an iteration.
        iterations: How many of them.
        estimate: Of one.
    """

    global_batch_size: int
    iterations: int
    estimate: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun:
    """A whole run; all intervals are 90 %.

    Attributes:
        case: Its last phase, resolved.
        phases: In order.
        tokens: That were asked for.
        slowdown: Wall-clock seconds for a second of work: checkpoints and failures; 1 without.
        price: Of a GPU-hour; None where nobody names one.
        failures: What the slowdown follows from.
    """

    case: Case
    phases: tuple[Phase, ...]
    tokens: int
    slowdown: float = 1.0
    price: Price | None = None
    failures: Failures | None = None

    @property
    def iterations(self) -> int:
        """Of all phases."""
        return sum(phase.iterations for phase in self.phases)

    @property
    def trained_tokens(self) -> int:
        """Tokens that the whole iterations see: the asked ones, rounded up to an iteration."""
        samples = sum(phase.iterations * phase.global_batch_size for phase in self.phases)
        return samples * int(self.case.training.seq_length)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds."""
        each = (phase.iterations * phase.estimate.iteration_seconds for phase in self.phases)
        return self.slowdown * sum(each)

    @property
    def interval_seconds(self) -> Span:
        """90 % interval of the wall-clock seconds: errors are common to all iterations."""
        low, high = (
            sum(phase.iterations * phase.estimate.interval_seconds[end] for phase in self.phases)
            for end in (0, 1)
        )
        return self.slowdown * low, self.slowdown * high

    @property
    def gpu_hours(self) -> float:
        """Hours of all GPUs together."""
        return self.case.cluster.num_gpus * self.seconds / HOUR_SECONDS

    @property
    def usd(self) -> float | None:
        """Price of the GPU-hours; None without a price."""
        return None if self.price is None else self.gpu_hours * self.price.usd_per_gpu_hour

    @property
    def joules(self) -> float:
        """Energy of all GPUs; lost work is done at the power of all other work."""
        each = (phase.iterations * phase.estimate.joules_per_iteration for phase in self.phases)
        return self.slowdown * sum(each)

    @property
    def fits(self) -> bool:
        """Every phase fits the memory of its GPUs."""
        return all(phase.estimate.fits for phase in self.phases)

    def scaled_interval(self, value: float) -> Span:
        """Interval of a quantity that is proportional to the time."""
        low, high = self.interval_seconds
        return value * low / self.seconds, value * high / self.seconds

    def to_dict(self) -> dict[str, Any]:
        """Plain values (``predictor run --json``)."""
        figures: dict[str, float | None] = {
            "seconds": self.seconds,
            "days": self.seconds / DAY_SECONDS,
            "gpu_hours": self.gpu_hours,
            "usd": self.usd,
            "mwh": self.joules / MWH_JOULES,
        }
        result: dict[str, Any] = {
            "case": self.case.to_dict(),
            "tokens": self.tokens,
            "trained_tokens": self.trained_tokens,
            "iterations": self.iterations,
        }
        for name, value in figures.items():
            result[name] = value
            result[f"interval_{name}"] = (
                None if value is None else list(self.scaled_interval(value))
            )
        return {
            **result,
            "fits": self.fits,
            "slowdown": self.slowdown,
            "seconds_between_checkpoints": (
                None if self.failures is None else self.failures.work_seconds
            ),
            "usd_per_gpu_hour": None if self.price is None else self.price.usd_per_gpu_hour,
            "price_source": None if self.price is None else self.price.source,
            "price_date": None if self.price is None else self.price.date,
            "phases": [
                {
                    "global_batch_size": phase.global_batch_size,
                    "iterations": phase.iterations,
                    "iteration_seconds": phase.estimate.iteration_seconds,
                    "interval_seconds": list(phase.estimate.interval_seconds),
                }
                for phase in self.phases
            ],
            "defaults_taken": list(self.phases[-1].estimate.defaults_taken),
            "notes": list(self.phases[-1].estimate.notes),
        }


def training_run(
    case: Case,
    *,
    tokens: int,
    prices: PriceTable | None = None,
    ramp: Ramp | None = None,
    failures: Failures | None = None,
    strict: bool = False,
) -> TrainingRun:
    """Estimate a whole run of a case.

    Args:
        case: One iteration of it, at the full batch size.
        tokens: To train on, at least one.
        prices: Of GPU-hours; None: those of the datasheets, where they have one.
        ramp: A batch size that grows at first.
        failures: The user's own numbers; None: nothing fails and no checkpoint is written.
        strict: As for :func:`predictor.iteration.estimate`.

    Raises:
        CaseError: The case, the ramp or the prices are not legal for it.
        NotPredictable: As for an estimate.
    """
    if tokens < 1:
        raise CaseError(f"tokens = {tokens}: must be at least 1")
    full = estimate(case, strict=strict)
    training = full.case.training
    phases = []
    for batch, iterations in batch_phases(
        total_samples=-(-tokens // int(training.seq_length)),
        global_batch_size=int(training.global_batch_size),
        ramp=ramp,
    ):
        answer = full
        if batch != training.global_batch_size:
            smaller = full.case.replace(training={"global_batch_size": batch})
            answer = estimate(smaller, strict=strict)
        phases.append(Phase(global_batch_size=batch, iterations=iterations, estimate=answer))
    return TrainingRun(
        case=full.case,
        phases=tuple(phases),
        tokens=tokens,
        slowdown=1.0 if failures is None else failures.slowdown,
        price=_price(full.case.cluster.gpu, prices),
        failures=failures,
    )


def _price(sku: str, prices: PriceTable | None) -> Price | None:
    return load_prices().prices.get(sku) if prices is None else prices.price(sku)
