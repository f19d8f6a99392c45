"""Ranks that agree wait for the slowest of them: no two GPUs of a SKU clock alike under load."""

from predictor.costs.devices import PUBLISHED_DEVIATION


def slowest_factor(gpus: int) -> float:
    """Seconds of work that the clock bounds on the slowest of so many GPUs, over a typical one's.

    The expected maximum of ``gpus`` normal deviates, by Blom's plotting position and Shore's
    closed form of the normal quantile: within 0.03 deviations up to 4,096 GPUs, 0.17 too few at
    100,000.
    """
    if gpus <= 1:
        return 1.0
    above = 0.625 / (gpus + 0.25)
    deviates: float = 5.5556 * (1.0 - (above / (1.0 - above)) ** 0.1186)
    return 1.0 + PUBLISHED_DEVIATION * deviates
