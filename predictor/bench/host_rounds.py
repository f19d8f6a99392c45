"""Rounds of quantities that are taken on the host's clock, several from the same steps."""

import time
from collections.abc import Callable
from typing import Final

from predictor.bench.rounds import RoundResult

# An intercept or a gap may be nothing; it cannot be told from zero below the event timer's half
# microsecond over a chain of hundreds.
_RESOLUTION_SECONDS: Final = 1e-9
_MAY_VANISH: Final = frozenset({"fixed", "gap", "graph_launch_node", "stream_hop"})

Quantities = dict[tuple[str, str], float]
"""Seconds by phase and quantity."""


class HostWorkload:
    """A quantity measured on the host's clock, one value a round."""

    def __init__(self, description: str, measure: Callable[[int], RoundResult]) -> None:
        """Take the function from a round's number to its result."""
        self.description = description
        self._measure = measure
        self._rounds = 0

    def round(self) -> RoundResult:
        """Measure the next round."""
        result = self._measure(self._rounds)
        self._rounds += 1
        return result


class Group:
    """Rounds of quantities that are measured together."""

    def __init__(self, measure: Callable[[], Quantities], *, samples: int) -> None:
        """Take what measures one round, and of how many samples its values are medians."""
        self._measure = measure
        self._samples = samples
        self._rounds: list[tuple[Quantities, float, float]] = []

    def workload(self, description: str, quantity: tuple[str, str]) -> HostWorkload:
        """One quantity as something to sample round by round."""
        return HostWorkload(description, lambda number: self.result(number, quantity))

    def result(self, number: int, quantity: tuple[str, str]) -> RoundResult:
        """One quantity of a round, measuring the round if it is the first to ask.

        Raises:
            NotImplementedError: The group does not measure the quantity.
        """
        while len(self._rounds) <= number:
            begin = time.monotonic()
            values = self._measure()
            self._rounds.append((values, begin, time.monotonic()))
        values, begin, end = self._rounds[number]
        if quantity not in values:
            raise NotImplementedError(f"no host quantity {quantity}; known: {sorted(values)}")
        seconds = values[quantity]
        if quantity[1] in _MAY_VANISH:
            seconds = max(seconds, _RESOLUTION_SECONDS)
        if seconds <= 0:
            raise RuntimeError(f"{quantity} is lost in noise: {values}")
        return RoundResult(
            seconds=seconds,
            seconds_low=seconds,
            seconds_high=seconds,
            samples=self._samples,
            begin_seconds=begin,
            end_seconds=end,
        )
