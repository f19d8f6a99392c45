"""A priced step put on its timeline: seconds by part, their interval, energy and origin."""

from collections.abc import Mapping
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
from predictor.iteration.priced import GAP, PricedStep, settled
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
        self._step = step
        self.micro_batches = micro_batches_of(case)
        self._gap = costs.host_seconds(GAP)
        self._ledger = self._counted(step)
        if strict:
            self._refuse_guesses()
        self.breakdown = self._settle(step)
        self.iteration_seconds = sum(self.breakdown.values())

    def _counted(self, step: PricedStep) -> Ledger:
        m = self.micro_batches
        counted = [(part, part.segment.repeats * m) for part in step.micro_batch]
        return Ledger.of([*counted, (step.accumulate, m - 1), (step.optimizer, 1)], step.operators)

    def _settle(self, step: PricedStep) -> dict[str, float]:
        """Breakdown at the clock at which the step's own power settles."""
        clock = self._costs.heat.settled_clock_hz(_power_view(self._breakdown(step)))
        step = settled(step, self._costs.heat, clock)
        self._ledger = self._counted(step)
        return self._breakdown(step)

    def _breakdown(self, step: PricedStep) -> dict[str, float]:
        busy = {name: seconds for name, (seconds, _) in self._ledger.by_family().items()}
        total = self._queue_seconds(step)
        parts = {**busy, "host": max(0.0, total - sum(busy.values()))}
        if self._case.cluster.num_gpus > 1:
            parts |= self._waits(step, total - float(step.optimizer.seconds.sum()))
        return parts

    def _waits(self, step: PricedStep, compute_seconds: float) -> dict[str, float]:
        """Exposed communication, and the pipeline's bubble (Narayanan et al. 2021, section 2.2)."""
        plan, m = self._case.plan, self.micro_batches
        backward = sum(
            float(part.seconds.sum()) * part.segment.repeats
            for part in step.micro_batch
            if part.segment.phase == "backward"
        )
        waits = exposed(self._case, self._shape, self._costs, backward_seconds=backward)
        per_batch = compute_seconds / m + waits.per_micro_batch
        return {
            "communication": waits.per_micro_batch * m + waits.per_step,
            "bubble": (plan.pipeline_parallel - 1) * per_batch / plan.virtual_pipeline,
        }

    def _queue_seconds(self, step: PricedStep) -> float:
        """The compute stream's seconds; long accumulations repeat their steady micro-batch."""
        m = self.micro_batches
        if m <= UNROLLED_MICRO_BATCHES:
            return self._queue(step, m)
        shorter, longer = (
            self._queue(step, n) for n in (UNROLLED_MICRO_BATCHES - 1, UNROLLED_MICRO_BATCHES)
        )
        return longer + (m - UNROLLED_MICRO_BATCHES) * (longer - shorter)

    def _queue(self, step: PricedStep, m: int) -> float:
        order, host = _unrolled(self._step, m)  # the same at every clock
        seconds = np.concatenate([part.seconds for part in step.parts])
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
    ends = np.cumsum([len(part.seconds) for part in step.parts])
    batch = list(range(len(step.micro_batch)))
    accumulate, optimizer = len(batch), len(batch) + 1
    sequence = batch + [*batch, accumulate] * (micro_batches - 1) + [optimizer]
    order, host = [], []
    for index in sequence:
        part = step.parts[index]
        count = len(part.seconds)
        places = np.arange(ends[index] - count, ends[index])
        order.append(np.tile(places, part.segment.repeats))
        share = part.host_seconds / max(count, 1)
        host.append(np.full(count * part.segment.repeats, share))
    return np.concatenate(order), np.concatenate(host)
