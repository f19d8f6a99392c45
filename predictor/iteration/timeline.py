"""Order plus seconds: when every launch of a step runs on the compute stream.

The host queues launches one after another; the GPU runs them in order, each no sooner than the host
has queued it and no sooner than its predecessor has ended:

    start[i] = max(queued[i], end[i-1]) + gap,   end[i] = start[i] + duration[i]

With ``C[i]`` the running sum of ``duration + gap`` this max-plus recurrence has the closed form
``end[i] = C[i] + max over j ≤ i of (queued[j] - C[j-1])``: one cumulative sum and one running
maximum, however many launches there are.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Timeline:
    """Start and end of every launch.

    Attributes:
        start_seconds: When each launch begins on the GPU.
        end_seconds: When each launch ends.
        host_seconds: When the host has queued the last launch.
    """

    start_seconds: Floats
    end_seconds: Floats
    host_seconds: float

    @property
    def total_seconds(self) -> float:
        """From the first call on the host to the end of the last launch."""
        end = float(self.end_seconds[-1]) if self.end_seconds.size else 0.0
        return max(end, self.host_seconds)

    @property
    def busy_seconds(self) -> float:
        """Seconds in which the GPU runs a launch."""
        return float(np.sum(self.end_seconds - self.start_seconds))


def run_queue(durations: Floats, host: Floats, *, gap_seconds: float | Floats) -> Timeline:
    """Run launches through one queue.

    Args:
        durations: Seconds of each launch on the GPU.
        host: Seconds that the host spends to queue each launch.
        gap_seconds: Idle seconds of the GPU before each launch, queued long ago or just now.
    """
    queued = np.cumsum(host)
    spans = durations + gap_seconds
    done = np.cumsum(spans)
    lateness = np.maximum.accumulate(queued - (done - spans))
    end = done + lateness
    return Timeline(end - durations, end, float(queued[-1]) if queued.size else 0.0)
