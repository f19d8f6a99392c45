"""Points that a team holds: a collective in lockstep, or one side of a pair."""

import time
from collections.abc import Sequence
from typing import Any, Final, Protocol

from predictor.bench.points import Point
from predictor.bench.ranks.placement import groups_for
from predictor.bench.ranks.rounds import Beside, Lockstep, round_of, slowest
from predictor.bench.ranks.team import Team
from predictor.bench.rounds import RoundResult
from predictor.operators import AllToAll, Collective, Interference, Operator, column_fields

_PROBES: Final = 8
_PROBES_OF_LARGE: Final = 2
_LARGE_BYTES: Final = 64 << 20


class Prepared(Protocol):
    """A point that the ranks can sample.

    Attributes:
        members: Ranks that take part.
        launches: Names of what each of them has built.
        aligner: Name of the launch that lines them up.
    """

    members: tuple[int, ...]
    launches: list[str]
    aligner: str

    def sample(self, team: Team, limit_seconds: float, timeout_seconds: float) -> "Sampled":
        """One round."""

    def check(self, team: Team, seed: int, timeout_seconds: float) -> float:
        """Largest relative error over the ranks."""


Sampled = tuple[RoundResult, list[float]]


class PreparedCollective:
    """A collective on one or more groups."""

    def __init__(self, team: Team, key: int, point: Point, *, timeout_seconds: float) -> None:
        """Place it, form its groups, build its launches and agree on counts.

        Raises:
            RequestFailed: It cannot be placed, a rank has no room, or a rank was lost.
        """
        operator = point.operator
        if not isinstance(operator, Collective):
            raise TypeError(operator)
        groups = [tuple(group) for group in groups_for(operator, team.hosts)]
        self.members = tuple(sorted(rank for group in groups for rank in group))
        everyone = groups[0] if len(groups) == 1 else self.members
        self.aligner = team.group(everyone, 0, timeout_seconds=timeout_seconds)
        self.launches = [f"point {key}"]
        group_of = _groups(team, groups, 0, timeout_seconds)
        sets = team.ask(
            self.members,
            "prepare_launch",
            lambda rank: (self.launches[0], _collective_launch(operator, point, group_of[rank])),
            timeout_seconds=timeout_seconds,
        )
        seconds = _probe(team, self, self.launches[0], operator.bytes, timeout_seconds)
        (self._path,) = team.ask(self.members[:1], "choice", timeout_seconds=timeout_seconds)
        self._plan = Lockstep.plan(
            seconds, buffer_sets=max(sets), round_seconds=point.round_seconds
        )

    def sample(self, team: Team, limit_seconds: float, timeout_seconds: float) -> Sampled:
        """One round; raises RequestFailed."""
        plan = self._plan.arguments(limit_seconds)
        asked = time.monotonic()
        found = team.ask(
            self.members,
            "lockstep",
            lambda _: (self.launches[0], self.aligner, plan),
            timeout_seconds=timeout_seconds,
            meets=True,
        )
        samples = slowest([each["samples"] for each in found])
        result = round_of(
            samples,
            window=_window(self.members, found, asked),
            timer="graph" if self._plan.graph else "gated",
            launches=int(found[0]["launches"]),
            stop_reason="gate" if any(each["gate_expired"] for each in found) else "count",
            path=self._path,
        )
        return result, samples

    def check(self, team: Team, seed: int, timeout_seconds: float) -> float:
        """0 where every element on every rank is exact; raises RequestFailed."""
        errors = team.ask(
            self.members,
            "check_launch",
            lambda _: (self.launches[0], seed),
            timeout_seconds=timeout_seconds,
            meets=True,
        )
        return max(float(error) for error in errors)


class PreparedPair:
    """One side of a pair of compute and collective, alone or beside the other."""

    def __init__(self, team: Team, key: int, point: Point, *, timeout_seconds: float) -> None:
        """Build both sides' launches on every rank and agree on counts.

        Raises:
            RequestFailed: It cannot be placed, a rank has no room, or a rank was lost.
        """
        pair = point.operator
        if not isinstance(pair, Interference):
            raise TypeError(pair)
        self._side = pair.side
        self._concurrent = pair.concurrent
        collective = pair.collective_operator
        (group,) = groups_for(collective, team.hosts)
        self.members = tuple(group)
        self.aligner = team.group(self.members, pair.ctas, timeout_seconds=timeout_seconds)
        self.launches = [f"point {key} compute", f"point {key} collective"]
        compute = launch_of(pair.compute_operator, point.cache)
        team.ask(
            self.members,
            "prepare_launch",
            lambda _: (self.launches[0], compute),
            timeout_seconds=timeout_seconds,
        )
        team.ask(
            self.members,
            "prepare_launch",
            lambda _: (self.launches[1], _collective_launch(collective, point, self.aligner)),
            timeout_seconds=timeout_seconds,
        )
        self._plan = Beside.plan(
            *(_probe(team, self, name, pair.bytes, timeout_seconds) for name in self.launches)
        )

    def sample(self, team: Team, limit_seconds: float, timeout_seconds: float) -> Sampled:
        """One round; raises RequestFailed."""
        asked = time.monotonic()
        found, samples = self._round(team, limit_seconds, timeout_seconds)
        while not samples:
            self._plan = self._plan.finer(self._side)
            found, samples = self._round(team, limit_seconds, timeout_seconds)
        result = round_of(
            samples,
            window=_window(self.members, found, asked),
            timer="gated",
            launches=self._plan.calls(self._side) * self._plan.intervals,
            stop_reason="count",
        )
        return result, samples

    def _round(
        self, team: Team, limit_seconds: float, timeout_seconds: float
    ) -> tuple[list[dict[str, Any]], list[float]]:
        """What each rank found, and the slowest rank's samples of this side."""
        only = "" if self._concurrent else self._side
        plan = self._plan.arguments(limit_seconds, only=only)
        found = team.ask(
            self.members,
            "beside",
            lambda _: (*self.launches, self.aligner, plan),
            timeout_seconds=timeout_seconds,
            meets=True,
        )
        return found, slowest([each[self._side] for each in found])

    def check(self, team: Team, seed: int, timeout_seconds: float) -> float:
        """Nothing: each side is checked where it is measured by itself."""
        del team, seed, timeout_seconds
        return 0.0


def _window(
    members: Sequence[int], found: Sequence[dict[str, Any]], asked: float
) -> tuple[float, float]:
    """When the ranks were loaded, on this host's clock: as rank 0 says, if it took part."""
    if 0 in members:
        mine = found[members.index(0)]
        return float(mine["begin"]), float(mine["end"])
    return asked, time.monotonic()


def launch_of(operator: Operator, cache: str, **more: object) -> dict[str, Any]:
    """A request for a rank's device, in plain values."""
    given = {each.name: getattr(operator, each.name) for each in column_fields(operator)}
    return {
        "operator": operator.name,
        "fields": given | more,
        "flops": float(operator.flops),
        "bytes": float(operator.bytes),
        "working_set_bytes": float(operator.working_set_bytes),
        "cache": cache,
    }


def _collective_launch(operator: Collective, point: Point, group: str) -> dict[str, Any]:
    """A collective's request, with its group and, of an all-to-all, what each rank sends where."""
    more: dict[str, object] = {"group": group}
    if isinstance(operator, AllToAll):
        more["parts"] = [operator.part_elements(rank) for rank in range(operator.ranks)]
    return launch_of(operator, point.cache, **more)


def _groups(
    team: Team, groups: Sequence[tuple[int, ...]], ctas: int, timeout_seconds: float
) -> dict[int, str]:
    """Name of each member's group."""
    return {
        rank: team.group(group, ctas, timeout_seconds=timeout_seconds)
        for group in groups
        for rank in group
    }


def _probe(
    team: Team,
    prepared: Prepared,
    name: str,
    size_bytes: int,
    timeout_seconds: float,
) -> float:
    """Seconds of one launch on the slowest member."""
    probes = _PROBES if size_bytes < _LARGE_BYTES else _PROBES_OF_LARGE
    limit = timeout_seconds / 2
    found = team.ask(
        prepared.members,
        "probe",
        lambda _: (name, prepared.aligner, probes, limit),
        timeout_seconds=timeout_seconds,
        meets=True,
    )
    return max(float(seconds) for seconds in found)
