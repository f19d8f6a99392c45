"""The time budget of a run, counted from the start of the process."""

import os
import re
import time
from pathlib import Path
from typing import Final

from predictor.errors import BenchError

RESERVE: Final = 0.02
"""Share of the budget kept for stopping the worker and writing the tables..."""
LEAST_RESERVE_SECONDS: Final = 1.0
"""...which take this long however short the budget is."""

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")
_OLDEST_START_SECONDS: Final = 120.0


class BudgetEnded(Exception):  # noqa: N818 - an ending, not an error
    """The deadline has come; what was measured is kept."""


class Budget:
    """A deadline on the host's monotonic clock."""

    def __init__(self, seconds: float, *, started: float | None = None) -> None:
        """Start counting at ``started`` (the process's start by default)."""
        self.seconds = seconds
        self.started = process_started() if started is None else started
        reserve = max(RESERVE * seconds, min(LEAST_RESERVE_SECONDS, seconds / 2))
        self.deadline = self.started + seconds - reserve
        self._held = 0.0

    def remaining(self) -> float:
        """Seconds to the deadline, negative after it."""
        return self.deadline - self._held - time.monotonic()

    def hold(self, seconds: float) -> None:
        """Keep so much for what comes at the end; 0 gives it free."""
        self._held = seconds

    def check(self, needed_seconds: float = 0.0) -> None:
        """Raise BudgetEnded unless ``needed_seconds`` are left."""
        if self.remaining() <= needed_seconds:
            raise BudgetEnded


def parse_duration(text: str) -> float:
    """Seconds of ``90``, ``90s``, ``10m`` or ``1h30m``.

    Raises:
        BenchError: The text is no duration above zero.
    """
    match = _DURATION.fullmatch(text.strip())
    parts = [float(part or 0) for part in match.groups()] if match else [0.0]
    seconds = sum(part * scale for part, scale in zip(parts, (3600, 60, 1), strict=False))
    if seconds <= 0:
        msg = f"--time-budget {text!r} must be a duration above zero, as 90s, 10m or 1h30m"
        raise BenchError(msg)
    return seconds


def process_started() -> float:
    """Monotonic time at which this process started; now, where the system does not say."""
    now = time.monotonic()
    try:
        # The 22nd field of stat is the start in clock ticks since boot (proc_pid_stat(5)).
        after_name = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2]
        ticks = int(after_name.split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return now
    return now - age if 0 <= age <= _OLDEST_START_SECONDS else now
