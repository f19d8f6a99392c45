"""All ranks of a run, behind the interface of one worker.

A request about a single-GPU operator goes to rank 0. One about a collective goes to every rank that
takes part, at once; where one of them fails in the middle of it, the others may wait for it for
ever, so all are killed and the request counts as lost.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from predictor.bench.points import Point
from predictor.bench.process import Worker
from predictor.bench.ranks.prepared import Prepared, PreparedCollective, PreparedPair, Sampled
from predictor.bench.ranks.team import Team
from predictor.operators import Collective, Interference


class Crew:
    """Answers what a worker answers: prepare, sample, check, release and libraries."""

    def __init__(self, ranks: Sequence[Worker]) -> None:
        """Take over workers that have said hello.

        Raises:
            RequestFailed: One of them is gone already.
        """
        self._team = Team(ranks)
        self._points: dict[int, Prepared] = {}
        first = ranks[0].hello
        count = {"gpus": len(ranks), "nodes": len(set(self._team.hosts))}
        self.hello = replace(first, properties=first.properties | count)

    def ask(self, request: str, *arguments: Any, timeout_seconds: float, **named: Any) -> Any:  # noqa: ANN401
        """Carry out a request.

        Raises:
            RequestFailed: It failed; ``lost`` if the crew is gone.
            BudgetEnded: The deadline came first.
        """
        if request == "prepare" and isinstance(arguments[1].operator, Collective | Interference):
            return self._prepare(*arguments, timeout_seconds=timeout_seconds)
        if request == "sample" and arguments[0] in self._points:
            return self._sample(*arguments, timeout_seconds=timeout_seconds, **named)
        if request == "check" and arguments[0] in self._points:
            return self._points[arguments[0]].check(self._team, arguments[1], timeout_seconds)
        if request == "release":
            self._release(arguments[0], timeout_seconds)
        return self._team.ranks[0].ask(
            request, *arguments, timeout_seconds=timeout_seconds, **named
        )

    def interrupt(self) -> None:
        """End every rank's worker."""
        self._team.interrupt()

    def close(self) -> None:
        """Stop every rank's worker."""
        self._team.close()

    def kill(self) -> None:
        """End every rank's worker at once."""
        self._team.kill()

    def _prepare(self, key: int, point: Point, *, timeout_seconds: float) -> str:
        kind = PreparedPair if isinstance(point.operator, Interference) else PreparedCollective
        self._points[key] = kind(self._team, key, point, timeout_seconds=timeout_seconds)
        return str(point.operator)

    def _sample(
        self,
        key: int,
        policy: dict[str, Any],
        not_before_seconds: float,
        *,
        raw: bool,
        timeout_seconds: float,
    ) -> Sampled:
        time.sleep(max(0.0, not_before_seconds - time.monotonic()))
        limit = float(policy["timeout_seconds"])
        result, samples = self._points[key].sample(self._team, limit, timeout_seconds)
        return result, samples if raw else []

    def _release(self, keys: Sequence[int], timeout_seconds: float) -> None:
        gone = [self._points.pop(key) for key in keys if key in self._points]
        names = [name for each in gone for name in each.launches]
        members = sorted({rank for each in gone for rank in each.members})
        if names:
            self._team.ask(members, "forget", lambda _: (names,), timeout_seconds=timeout_seconds)
        self._team.trim()
