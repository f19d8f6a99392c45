"""A priced step put on its timeline: seconds by part, their interval, energy and origin."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

import numpy as np

from predictor.case import Case
from predictor.costs import Costs, Origin
from predictor.costs.prediction import Floats, Ints
from predictor.errors import NotPredictable
from predictor.iteration.communication import exposed
from predictor.iteration.costliest import OperatorShare, costliest
from predictor.iteration.interval import half_width
from predictor.iteration.ledger import Ledger
from predictor.iteration.priced import GAP, Priced, PricedStep, settled
from predictor.iteration.shape import micro_batches_of
from predictor.iteration.step import StepShape
from predictor.iteration.timeline import run_queue

UNROLLED_MICRO_BATCHES: Final = 3
WAITING: Final = frozenset({"host", "communication", "bubble"})


class Run:
    """A priced step: seconds of the iteration and everything that is said about them."""

    def __init__(
        self, case: Case, shape: StepShape, step: PricedStep, costs: Costs, *, strict: bool
    ) -> None:
        """Put a priced step on its timeline and settle its clock.

        Raises:
            NotPredictable: ``strict`` and a number would be extrapolated.
        """
        self._case, self._costs, self._shape = case, costs, shape
        self._step, self._operators = step, step.operators
        self.micro_batches = micro_batches_of(case)
        batch, accumulate, optimizer = step.micro_batch, step.accumulate, step.optimizer
        self._gap = costs.host_seconds(GAP)
        self._ledger = self._counted(batch, accumulate, optimizer)
        if strict:
            self._refuse_guesses()
        self.breakdown = self._settle(batch, accumulate, optimizer)
        self.iteration_seconds = sum(self.breakdown.values())

    def _counted(self, batch: Sequence[Priced], accumulate: Priced, optimizer: Priced) -> Ledger:
        m = self.micro_batches
        counted = [(part, part.segment.repeats * m) for part in batch]
        return Ledger.of([*counted, (accumulate, m - 1), (optimizer, 1)], self._operators)

    def _settle(
        self, batch: Sequence[Priced], accumulate: Priced, optimizer: Priced
    ) -> dict[str, float]:
        """Breakdown at the clock at which the step's own power settles."""
        clock = self._costs.heat.settled_clock_hz(
            _power_view(self._breakdown(batch, accumulate, optimizer))
        )
        batch = [settled(part, self._costs.heat, clock) for part in batch]
        accumulate, optimizer = (
            settled(p, self._costs.heat, clock) for p in (accumulate, optimizer)
        )
        self._ledger = self._counted(batch, accumulate, optimizer)
        return self._breakdown(batch, accumulate, optimizer)

    def _breakdown(
        self, batch: Sequence[Priced], accumulate: Priced, optimizer: Priced
    ) -> dict[str, float]:
        busy = {name: seconds for name, (seconds, _) in self._ledger.by_family().items()}
        total = self._queue_seconds(batch, accumulate, optimizer)
        parts = {**busy, "host": max(0.0, total - sum(busy.values()))}
        if self._case.cluster.num_gpus > 1:
            parts |= self._waits(batch, total - float(optimizer.seconds.sum()))
        return parts

    def _waits(self, batch: Sequence[Priced], compute_seconds: float) -> dict[str, float]:
        """Exposed communication, and the pipeline's bubble (Narayanan et al. 2021, section 2.2)."""
        plan, m = self._case.plan, self.micro_batches
        backward = sum(
            float(part.seconds.sum()) * part.segment.repeats
            for part in batch
            if part.segment.phase == "backward"
        )
        waits = exposed(self._case, self._shape, self._costs, backward_seconds=backward)
        per_batch = compute_seconds / m + waits.per_micro_batch
        return {
            "communication": waits.per_micro_batch * m + waits.per_step,
            "bubble": (plan.pipeline_parallel - 1) * per_batch / plan.virtual_pipeline,
        }

    def _queue_seconds(
        self, batch: Sequence[Priced], accumulate: Priced, optimizer: Priced
    ) -> float:
        """The compute stream's seconds; long accumulations repeat their steady micro-batch."""
        m = self.micro_batches
        if m <= UNROLLED_MICRO_BATCHES:
            return self._queue(batch, accumulate, optimizer, m)
        shorter, longer = (
            self._queue(batch, accumulate, optimizer, n)
            for n in (UNROLLED_MICRO_BATCHES - 1, UNROLLED_MICRO_BATCHES)
        )
        return longer + (m - UNROLLED_MICRO_BATCHES) * (longer - shorter)

    def _queue(
        self, batch: Sequence[Priced], accumulate: Priced, optimizer: Priced, m: int
    ) -> float:
        order, host = _unrolled(self._step, m)
        seconds = np.concatenate([part.seconds for part in (*batch, accumulate, optimizer)])
        return run_queue(seconds[order], host, gap_seconds=self._gap).total_seconds

    def _refuse_guesses(self) -> None:
        operator, origin = self._ledger.worst_origin()
        if origin >= Origin.EXTRAPOLATED:
            msg = (
                f"{operator} is {origin.label}; --strict refuses that "
                "(measure it with `bench-run --for CASE.toml`)"
            )
            raise NotPredictable(msg)
        if self._case.cluster.num_gpus > 1:
            msg = "communication is extrapolated from α-β curves; --strict refuses that"
            raise NotPredictable(msg)

    def half_seconds(self, *, compared: bool) -> float:
        """Half-width of the 90 % interval; ``compared``: measured steps stand behind the stack."""
        halves = {name: half for name, (_, half) in self._ledger.by_family().items()}
        return half_width(halves, self.breakdown, compared=compared)

    def origin_shares(self) -> dict[str, float]:
        """Share of the seconds by where they come from."""
        totals = self._ledger.by_origin()
        totals[Origin.FITTED.label] += self.breakdown["host"]
        for part in ("communication", "bubble"):
            totals[Origin.EXTRAPOLATED.label] += self.breakdown.get(part, 0.0)
        whole = sum(totals.values())
        return {name: seconds / whole for name, seconds in totals.items()}

    def joules(self) -> float:
        """Energy of all GPUs in one iteration."""
        one = self._costs.heat.joules(_power_view(self.breakdown))
        return one * self._case.cluster.num_gpus

    def notes(self) -> tuple[str, ...]:
        """What a reader must know to trust the numbers rightly."""
        found = []
        if self._costs.borrowed:
            found.append(
                f"{self._costs.gpu.sku} has not been measured: efficiencies of a measured GPU over "
                "its datasheet"
            )
        if self._case.cluster.num_gpus > 1:
            found.append("communication is extrapolated from α-β curves, not measured")
        return tuple(found)

    def top_operators(self) -> tuple[OperatorShare, ...]:
        """The costliest operators of a step."""
        return costliest(self._ledger, self._costs)


def _power_view(breakdown: Mapping[str, float]) -> dict[str, float]:
    idle = sum(seconds for part, seconds in breakdown.items() if part in WAITING)
    busy = {part: seconds for part, seconds in breakdown.items() if part not in WAITING}
    return {**busy, "idle": idle}


@lru_cache(maxsize=64)
def _unrolled(step: PricedStep, micro_batches: int) -> tuple[Ints, Floats]:
    """Every launch of a step in order: its place among the segments' launches, and host seconds."""
    parts = (*step.micro_batch, step.accumulate, step.optimizer)
    first = dict(
        zip(map(id, parts), np.cumsum([0, *(len(p.seconds) for p in parts)]), strict=False)
    )
    batch = list(step.micro_batch)
    sequence = batch + [*batch, step.accumulate] * (micro_batches - 1) + [step.optimizer]
    order, host = [], []
    for part in sequence:
        count = len(part.seconds)
        places = np.arange(count) + first[id(part)]
        order.append(np.tile(places, part.segment.repeats))
        share = part.host_seconds / max(count, 1)
        host.append(np.full(count * part.segment.repeats, share))
    return np.concatenate(order), np.concatenate(host)
