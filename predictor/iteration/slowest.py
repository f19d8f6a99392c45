"""Ranks that meet wait for the slowest of them.

No two GPUs of a SKU clock alike under load, and no two hosts queue the same launches in the same
time.
"""

from math import sqrt
from typing import Final

from predictor.costs.devices import PUBLISHED_DEVIATION

WANDERING_SECONDS: Final = 0.24e-3
"""Variance of the time that a host takes to queue something over that time, as of a random walk.
Host seconds between collectives on both ranks of traced steps with experts on two H200s: 0.15 to
0.59 ms, 0.24 in the middle of four traces."""


def slowest_factor(gpus: int) -> float:
    """Seconds of work that the clock bounds on the slowest of so many GPUs, over a typical one's.

    Args:
        gpus: That run the same work.
    """
    return 1.0 + PUBLISHED_DEVIATION * _largest_deviate(gpus)


def latest_host_factor(ranks: int, seconds: float) -> float:
    """Seconds of the last of so many hosts over a typical one's.

    Args:
        ranks: That have met before, and meet again behind.
        seconds: Of a typical host in between.
    """
    if ranks <= 1 or not seconds:
        return 1.0
    return 1.0 + sqrt(WANDERING_SECONDS / seconds) * _largest_deviate(ranks)


def _largest_deviate(count: int) -> float:
    """Expected maximum of so many normal deviates.

    By Blom's plotting position and Shore's closed form of the normal quantile: within 0.03
    deviations up to 4,096, 0.17 too few at 100,000.
    """
    if count <= 1:
        return 0.0
    above = 0.625 / (count + 0.25)
    deviates: float = 5.5556 * (1.0 - (above / (1.0 - above)) ** 0.1186)
    return deviates
