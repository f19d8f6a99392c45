"""One round as it travels from the worker to the journal."""

from dataclasses import dataclass, fields, replace
from math import isfinite
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundResult:
    """Summary of the samples of one round.

    Attributes:
        seconds: Median over samples, seconds per launch.
        seconds_low: Lower end of the median's order-statistic interval.
        seconds_high: Upper end.
        mad_seconds: Median absolute deviation.
        p10_seconds: Tenth percentile.
        p90_seconds: Ninetieth percentile.
        lag1_autocorrelation: Of the samples in order.
        drift: Relative change from the first to the last samples.
        samples: Number of samples.
        launches: Launches in all samples together.
        timer: ``graph``, ``gated``, ``events``, or ``host``.
        stop_reason: Why sampling ended.
        begin_seconds: Host monotonic clock at the start of the load (or of its settled tail).
        end_seconds: The same at its end.
        sm_clock_hz: Mean SM clock in the window; None without telemetry.
        watts: Mean power in the window.
        event_reasons: Union of NVML's clock event reasons in the window.
        path: How a library says that it carries a collective out: algorithm, protocol, channels.
    """

    seconds: float
    seconds_low: float
    seconds_high: float
    mad_seconds: float = 0.0
    p10_seconds: float = 0.0
    p90_seconds: float = 0.0
    lag1_autocorrelation: float = 0.0
    drift: float = 0.0
    samples: int
    launches: int = 0
    timer: str = "host"
    stop_reason: str = "budget"
    begin_seconds: float = 0.0
    end_seconds: float = 0.0
    sm_clock_hz: float | None = None
    watts: float | None = None
    event_reasons: int = 0
    path: str = ""

    @property
    def is_sound(self) -> bool:
        """Whether the times are finite and above nothing, as a row of a table needs them."""
        return all(isfinite(t) and t > 0 for t in (self.seconds_low, self.seconds_high))

    @classmethod
    def from_native(cls, measured: Any, *, sustained: bool) -> "RoundResult":  # noqa: ANN401
        """Take over a round of the native extension; a sustained one counts from its tail on."""
        begin = measured.tail_begin_seconds if sustained else measured.wall_begin_seconds
        return cls(
            seconds=measured.median_seconds,
            seconds_low=measured.low_seconds,
            seconds_high=measured.high_seconds,
            mad_seconds=measured.mad_seconds,
            p10_seconds=measured.p10_seconds,
            p90_seconds=measured.p90_seconds,
            lag1_autocorrelation=measured.lag1_autocorrelation,
            drift=measured.drift,
            samples=len(measured.samples_seconds),
            launches=measured.launches,
            timer=measured.timer,
            stop_reason=measured.stop_reason,
            begin_seconds=begin,
            end_seconds=measured.wall_end_seconds,
        )

    def observed(
        self, *, sm_clock_hz: float | None, watts: float | None, event_reasons: int
    ) -> "RoundResult":
        """The same round with what telemetry saw."""
        return replace(self, sm_clock_hz=sm_clock_hz, watts=watts, event_reasons=event_reasons)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a journal record; what is not finite becomes None."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {
            name: None if isinstance(value, float) and not isfinite(value) else value
            for name, value in values.items()
        }
