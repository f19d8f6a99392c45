"""What the GPU says about itself while it is loaded: clock, power, event reasons, energy.

A thread of the parent polls NVML every 25 ms and never changes a setting. A round's values are
those polled inside its window on the host's monotonic clock. Without NVML, or for a quantity that
the driver does not report, values are None.
"""

import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from types import ModuleType, TracebackType
from typing import Any, Final, Self

PERIOD_SECONDS: Final = 0.025
# The energy counter steps every few hundredths of a second; below this, power readings are better.
_LEAST_ENERGY_WINDOW_SECONDS: Final = 0.5

# Clock event reasons that mean the hardware slowed itself down (nvml.h, nvmlClocksEventReason…).
# The software power cap, 0x4, is not one of them: training runs there.
HW_SLOWDOWN: Final = 0x8
SW_THERMAL_SLOWDOWN: Final = 0x20
HW_THERMAL_SLOWDOWN: Final = 0x40
HW_POWER_BRAKE: Final = 0x80
THROTTLE_REASONS: Final = HW_SLOWDOWN | SW_THERMAL_SLOWDOWN | HW_THERMAL_SLOWDOWN | HW_POWER_BRAKE
_POWER_INSTANT_FIELD: Final = 186  # NVML_FI_DEV_POWER_INSTANT


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One poll.

    Attributes:
        at_seconds: Host monotonic clock.
        sm_clock_hz: SM clock.
        watts: Power.
        joules: Energy counter since the driver was loaded.
        event_reasons: Clock event reasons, a bit mask.
    """

    at_seconds: float
    sm_clock_hz: float | None = None
    watts: float | None = None
    joules: float | None = None
    event_reasons: int = 0


class Telemetry:
    """Polls a source of readings from a thread."""

    def __init__(
        self, poll: Callable[[], Reading] | None, *, period_seconds: float = PERIOD_SECONDS
    ) -> None:
        """Take a source; None polls nothing."""
        self._poll = poll
        self._period_seconds = period_seconds
        self._readings: list[Reading] = []
        self._times: list[float] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)

    def __enter__(self) -> Self:
        if self._poll is not None:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def window(self, begin_seconds: float, end_seconds: float) -> Reading:
        """Means over the readings in a window; the nearest one or two if it holds none."""
        first = bisect_left(self._times, begin_seconds)
        last = bisect_right(self._times, end_seconds)
        inside = self._readings[first:last]
        if not inside:
            margin = 2 * self._period_seconds
            nearby = self._readings[max(0, first - 1) : first + 1]
            inside = [r for r in nearby if abs(r.at_seconds - end_seconds) <= margin]
        reasons = 0
        for reading in inside:
            reasons |= reading.event_reasons
        return Reading(
            at_seconds=begin_seconds,
            sm_clock_hz=_mean([r.sm_clock_hz for r in inside]),
            watts=_energy_watts(inside) or _mean([r.watts for r in inside]),
            event_reasons=reasons,
        )

    def _run(self) -> None:
        while self._poll is not None and not self._stopped.is_set():
            # Whatever NVML answers: telemetry is a by-product and must not end a run.
            with suppress(Exception):
                reading = self._poll()
                self._readings.append(reading)
                self._times.append(reading.at_seconds)
            self._stopped.wait(self._period_seconds)


def nvml_source(pci_bus_id: str) -> Callable[[], Reading] | None:
    """Readings of one GPU from NVML; None where NVML or the GPU is not to be had."""
    try:
        import pynvml  # noqa: PLC0415 - only where a GPU is measured

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByPciBusId(pci_bus_id.encode())
    except Exception:  # noqa: BLE001 - no NVML, no telemetry
        return None
    clock = _available(lambda: 1e6 * pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM))
    power = _available(lambda: _instant_watts(pynvml, handle)) or _available(
        lambda: 1e-3 * pynvml.nvmlDeviceGetPowerUsage(handle)
    )
    energy = _available(lambda: 1e-3 * pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))
    reasons = _available(lambda: int(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)))

    def poll() -> Reading:
        return Reading(
            at_seconds=time.monotonic(),
            sm_clock_hz=_believable(clock),
            watts=_believable(power),
            joules=_believable(energy),
            event_reasons=int(_believable(reasons) or 0),
        )

    return poll


def _believable(query: Callable[[], float] | None) -> float | None:
    """What a query answers; None where it refuses, or names a loaded GPU's clock or power zero."""
    if query is None:
        return None
    try:
        value = query()
    except Exception:  # noqa: BLE001 - one refused answer must not cost the others
        return None
    return value if isfinite(value) and value > 0 else None


def _available(query: Callable[[], float]) -> Callable[[], float] | None:
    """Keep a query that the driver answers."""
    try:
        query()
    except Exception:  # noqa: BLE001 - any refusal means that the quantity is not there
        return None
    return query


def _instant_watts(pynvml: ModuleType, handle: Any) -> float:  # noqa: ANN401
    value = pynvml.nvmlDeviceGetFieldValues(handle, [_POWER_INSTANT_FIELD])[0]
    if value.nvmlReturn != 0:
        raise pynvml.NVMLError(value.nvmlReturn)
    return 1e-3 * float(value.value.uiVal)


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _energy_watts(readings: list[Reading]) -> float | None:
    """Mean power by the energy counter, where the window is long enough for its steps."""
    known = [r for r in readings if r.joules is not None]
    if not known:
        return None
    seconds = known[-1].at_seconds - known[0].at_seconds
    joules = (known[-1].joules or 0.0) - (known[0].joules or 0.0)
    if seconds < _LEAST_ENERGY_WINDOW_SECONDS or joules <= 0:  # a counter that went back
        return None
    return joules / seconds
