"""Zero-bubble schedules found by search under a memory limit (Qi et al., arXiv:2401.10241, sec. 3).

The paper's heuristic, run as a greedy simulation over all stages:

- before the first B, a stage runs as many forward passes as memory allows and messages bring;
- then F and B take turns; a gap before the next of them takes a W where one fits, and a W also runs
  when memory keeps the next F from starting;
- whether a W may also run in a gap smaller than itself, and whether a stage runs one F more than it
  has time for before the first B, are tried both ways; the fastest schedule wins;
- what is left of W runs at the end.

The schedules by hand that keep the limit compete too, as the search must not do worse.

Memory of a micro-batch counts 1 from F to B and ``held`` from B to W. The limits are those of 1F1B
on its first stage (``zb-1p``) and twice that (``zb-2p``).
"""

from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import product
from math import inf

from predictor.iteration.schedules.order import B, F, Order, Pass, PassSeconds, W, straight
from predictor.iteration.schedules.zero_bubble import h1, h2
from predictor.values import frozen

EPSILON = 1e-9
TRIAL_GROUPS = 3
"""Micro-batches, in groups of the stages, on which choices are compared."""


@frozen
class _Choice:
    """How to decide what the paper leaves open."""

    squeeze: bool
    extra_forward: bool


def search(stages: int, micro_batches: int, limit: int, seconds: PassSeconds) -> Order:
    """The fastest of the schedules that the heuristic finds under a memory limit.

    Args:
        stages: Of the pipeline.
        micro_batches: Of a step.
        limit: Micro-batches whose activations a stage may hold.
        seconds: Of the passes.
    """
    choices = [_Choice(*each) for each in product((False, True), repeat=2)]
    trial = min(micro_batches, TRIAL_GROUPS * stages)
    tried = {choice: _Simulation(stages, trial, limit, seconds, choice).run() for choice in choices}
    best = min(choices, key=lambda choice: tried[choice][0])
    span, passes = tried[best]
    if trial < micro_batches:
        span, passes = _Simulation(stages, micro_batches, limit, seconds, best).run()
    found = Order.of(passes, straight(stages))
    by_hand = [h1(stages, micro_batches, 1)]
    if limit >= 2 * stages - 1:
        by_hand.append(h2(stages, micro_batches, 1))
    for order in by_hand:
        other = _span(order, seconds)
        if other < span - EPSILON:
            span, found = other, order
    return found


def _span(order: Order, seconds: PassSeconds) -> float:
    """Longest time from a stage's first pass to its last."""
    lasts = (seconds.forward, seconds.backward, seconds.weight)
    end = [0.0] * order.kind.size
    free, begun = [0.0] * order.stages, [inf] * order.stages
    source, kind, remote = order.source.tolist(), order.kind.ravel().tolist(), order.remote.tolist()
    for level in order.levels(meet=False):
        for number in level.tolist():
            stage = number // order.passes
            start = free[stage]
            if remote[number]:
                start = max(start, end[source[number]] + seconds.message)
            begun[stage] = min(begun[stage], start)
            end[number] = free[stage] = start + lasts[kind[number]]
    return max(last - first for first, last in zip(begun, free, strict=True))


@dataclass(slots=True)
class _Stage:
    """Progress of one stage."""

    passes: list[Pass] = field(default_factory=list)
    free: float = 0.0
    memory: float = 0.0
    done: list[int] = field(default_factory=lambda: [0, 0, 0])
    begun: float = inf


class _Simulation:
    """All stages in the order of time; each takes its next pass by what has arrived."""

    def __init__(
        self, stages: int, micro_batches: int, limit: float, seconds: PassSeconds, choice: _Choice
    ) -> None:
        self._count, self._limit = micro_batches, limit
        self._seconds, self._choice = seconds, choice
        self._stages = [_Stage() for _ in range(stages)]
        self._arrival = {(F, 0): [0.0] * micro_batches}
        for stage in range(stages):
            self._arrival.setdefault((F, stage), [inf] * micro_batches)
            self._arrival[B, stage] = [inf] * micro_batches

    def run(self) -> tuple[float, list[list[Pass]]]:
        """Longest span of a stage from its first pass to its last, and every stage's passes."""
        queue = [(0.0, stage) for stage in range(len(self._stages))]
        while queue:
            now, stage = heappop(queue)
            mine = self._stages[stage]
            if now < mine.free - EPSILON or min(mine.done) == self._count:
                continue
            wake = self._step(stage, now)
            for time, other in wake:
                heappush(queue, (time, other))
        spans = [mine.free - mine.begun for mine in self._stages]
        return max(spans), [mine.passes for mine in self._stages]

    def _step(self, stage: int, now: float) -> list[tuple[float, int]]:
        """Run a pass now or wait; returns when which stages have something new to decide."""
        mine = self._stages[stage]
        forward, backward = self._next(F, stage), self._next(B, stage)
        pending = mine.done[B] > mine.done[W]
        room = mine.memory + 1 <= self._limit + EPSILON
        if backward <= now + EPSILON and not self._one_more(stage, now, forward, room=room):
            return self._run(B, stage, now)
        if forward <= now + EPSILON and room and self._wanted(now, backward):
            return self._run(F, stage, now)
        coming = min(backward, forward if room else inf)
        fits = now + self._seconds.weight <= coming + EPSILON
        if pending and (fits or self._choice.squeeze):
            return self._run(W, stage, now)
        return [(coming, stage)] if now < coming < inf else []

    def _next(self, kind: int, stage: int) -> float:
        """When the input of a stage's next pass of a kind arrives; infinity if not known yet."""
        place = self._stages[stage].done[kind]
        return self._arrival[kind, stage][place] if place < self._count else inf

    def _one_more(self, stage: int, now: float, forward: float, *, room: bool) -> bool:
        """Whether an F goes before a B that is ready: keep one ahead of the next stage."""
        mine = self._stages[stage]
        if not room or forward > now + EPSILON or not mine.passes:
            return False
        ahead = mine.done[F] - mine.done[B]
        last = stage + 1 == len(self._stages)
        least = 0 if last else self._ahead(stage + 1)
        return mine.passes[-1][0] != F and ahead <= least

    def _ahead(self, stage: int) -> int:
        mine = self._stages[stage]
        return mine.done[F] - mine.done[B]

    def _wanted(self, now: float, backward: float) -> bool:
        """Whether an F may start although a B is about to come."""
        late = now + self._seconds.forward > backward + EPSILON
        return not late or self._choice.extra_forward

    def _run(self, kind: int, stage: int, now: float) -> list[tuple[float, int]]:
        mine, seconds = self._stages[stage], self._seconds
        micro_batch = mine.done[kind]
        mine.passes.append((kind, micro_batch, 0))
        mine.done[kind] += 1
        mine.begun = min(mine.begun, now)
        lasts = (seconds.forward, seconds.backward, seconds.weight)[kind]
        mine.free = end = now + lasts
        mine.memory += (1.0, seconds.held - 1.0, -seconds.held)[kind]
        woken = [(end, stage)]
        last = len(self._stages) - 1
        if kind == F:
            target, kind_there = (stage, B) if stage == last else (stage + 1, F)
        elif kind == B and stage:
            target, kind_there = stage - 1, B
        else:
            return woken
        there = end + (seconds.message if target != stage else 0.0)
        self._arrival[kind_there, target][micro_batch] = there
        return [*woken, (max(there, self._stages[target].free), target)]
