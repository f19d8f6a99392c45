"""A pipeline at the seconds of a SKU: seconds by part, their interval, energy and origin."""

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from predictor.case import Case
from predictor.costs import Costs, Origin
from predictor.costs.devices import device_half_seconds
from predictor.costs.prediction import Floats
from predictor.errors import NotPredictable
from predictor.iteration.costliest import TOP_OPERATORS, OperatorShare, costliest
from predictor.iteration.interval import half_width, half_width_terms
from predictor.iteration.launches import COMMUNICATION
from predictor.iteration.ledger import Ledger, repetitions
from predictor.iteration.links import Links
from predictor.iteration.mix import averaged, local_seconds
from predictor.iteration.pipeline import Pipeline
from predictor.iteration.priced import GAP, Sheet
from predictor.iteration.slowest import slowest_factor
from predictor.operators import Collective

if TYPE_CHECKING:
    from predictor.iteration.playback import Playback

LEAST_SHARE: Final = 0.005
"""Of the time in collectives; less is not worth a word."""

WAITING: Final = frozenset({"host", COMMUNICATION, "bubble"})


class Run:
    """A priced step: seconds of the iteration and everything that is said about them.

    The breakdown is that of the busiest stage; what it adds up to is the whole iteration.

    Attributes:
        pipeline: What runs.
        sheet: Seconds of every launch at the settled clock on a typical GPU.
        links: Messages between stages.
        gap_seconds: Idle seconds of the compute stream before each launch.
        clock_hz: At which the step settles.
        breakdown: Seconds by part.
        iteration_seconds: All of them.
    """

    def __init__(
        self,
        case: Case,
        pipeline: Pipeline,
        sheet: Sheet,
        links: Links,
        costs: Costs,
        *,
        strict: bool,
    ) -> None:
        """Put a priced step on its timeline and settle its clock.

        Raises:
            NotPredictable: ``strict`` and a number would be extrapolated.
        """
        self._case, self._costs, self.links = case, costs, links
        self.gap_seconds = costs.host_seconds(GAP)
        words = pipeline.numbering.words(sheet.layout)
        programs = words.products(sheet.matrices(self.gap_seconds, silent=False))
        self.pipeline = pipeline = pipeline.tuned(programs, float(np.max(links.messages)))
        self._communicates = sheet.communicates or case.plan.pipeline_parallel > 1
        self._stage = self._busiest(sheet)
        self._ledger = Ledger.of(pipeline.counted(self._stage), sheet)
        if strict:
            self._refuse_guesses()
        self.clock_hz = costs.heat.settled_clock_hz(
            averaged(
                pipeline,
                self._stage,
                sheet,
                programs,
                local_seconds(self._ledger),
                float(self._seconds(programs)[0]),
            )
        )
        self.sheet = sheet.settled(costs.heat, self.clock_hz)
        self._ledger = self._ledger.settled(self.sheet)
        matrices = self.sheet.matrices(
            self.gap_seconds,
            silent=self._communicates,
            slowest=slowest_factor(case.cluster.num_gpus),
        )
        self.breakdown = self._breakdown(words.products(matrices))
        self.iteration_seconds = sum(self.breakdown.values())

    @cached_property
    def slowest_sheet(self) -> Sheet:
        """The sheet of the slowest GPU, for which all wait."""
        return self.sheet.slowed(slowest_factor(self._case.cluster.num_gpus))

    def _busiest(self, sheet: Sheet) -> int:
        stages = self.pipeline.stages
        if len(stages) == 1:
            return 0
        layout = sheet.layout
        numbers = [stages.index(stage) for stage in dict.fromkeys(stages)]
        counted = [repetitions(self.pipeline.counted(number), layout) for number in numbers]
        owner = np.repeat(np.arange(len(layout.counts)), layout.counts)
        busy = np.array(counted) @ np.bincount(owner, sheet.seconds, len(layout.counts))
        return numbers[int(np.argmax(busy))]

    def _seconds(self, programs: Floats) -> Floats:
        """Seconds of the step by scenario; in the second, messages and collectives are silent."""
        loud = np.array([1.0, 0.0])[: programs.shape[1]]
        links = self.links
        messages = loud[:, None, None] * links.messages
        return self.pipeline.seconds(programs, messages, loud * links.tied_seconds)

    def _breakdown(self, programs: Floats) -> dict[str, float]:
        """Seconds by part.

        What a stage that hears no messages and whose collectives take no time would need beyond
        its kernels is the host's; what the pipeline then adds is bubble; the rest is communication,
        of which some is waiting for the slowest GPU (:mod:`predictor.iteration.slowest`). Without a
        scenario of silent collectives, communication is not told from bubble.
        """
        seconds, busy = self._seconds(programs), local_seconds(self._ledger)
        worked = sum(busy.values())
        quiet = float(seconds[-1])
        alone = quiet
        if len(self.pipeline.stages) > 1:
            alone = min(float(self.pipeline.alone(self._stage, programs[:, -1:])[0]), quiet)
        parts = {**busy, "host": max(0.0, alone - worked)}
        if self._case.cluster.num_gpus > 1:
            parts[COMMUNICATION] = max(0.0, float(seconds[0]) - quiet)
            parts["bubble"] = max(0.0, quiet - max(alone, worked))
        return parts

    def playback(self) -> "Playback":
        """The step launch by launch, at its settled clock."""
        from predictor.iteration.playback import Playback  # noqa: PLC0415 - traces alone

        return Playback(
            self.pipeline,
            self.slowest_sheet,
            self.gap_seconds,
            self.links.messages,
            self.links.tied_seconds,
        )

    def _refuse_guesses(self) -> None:
        operator, origin = self._ledger.worst_origin()
        if isinstance(operator, Collective):
            raise NotPredictable("communication is extrapolated; --strict refuses that")
        if origin >= Origin.EXTRAPOLATED:
            raise NotPredictable(
                f"{operator} is {origin.label}; --strict refuses that "
                "(measure it with `bench-run --for CASE.toml`)"
            )

    def half_seconds(self, *, compared: bool) -> float:
        """Half-width of the 90 % interval; ``compared``: measured steps stand behind the stack."""
        return half_width(self.uncertainties(compared=compared), self.breakdown)

    def uncertainties(self, *, compared: bool) -> dict[str, float]:
        """Half-widths of the interval's independent terms, seconds."""
        return half_width_terms(
            self._halves(),
            self.breakdown,
            device_half_seconds=device_half_seconds(self._costs.devices, self.breakdown),
            compared=compared,
            experts=self._case.model.moe is not None,
        )

    def _halves(self) -> dict[str, float]:
        families = self._ledger.by_family().items()
        return {name: half for name, (_, half) in families if name != COMMUNICATION}

    def origin_shares(self) -> dict[str, float]:
        """Share of the seconds by where they come from; exposed communication as collectives."""
        totals = self._ledger.by_origin()
        totals[Origin.FITTED.label] += self.breakdown["host"]
        totals[Origin.EXTRAPOLATED.label] += self.breakdown.get("bubble", 0.0)
        exposed = self.breakdown.get(COMMUNICATION, 0.0)
        for name, share in self._collectives().items():
            totals[name] += share * exposed
        whole = sum(totals.values())
        return {name: seconds / whole for name, seconds in totals.items()}

    def _collectives(self) -> dict[str, float]:
        """Share of the collectives' seconds by where they come from; messages are extrapolated."""
        seconds = self._ledger.by_origin(communication=True)
        whole = sum(seconds.values())
        if not whole:
            return {Origin.EXTRAPOLATED.label: 1.0}
        return {name: each / whole for name, each in seconds.items()}

    def joules(self) -> float:
        """Energy of all GPUs in one iteration."""
        one: float = self._costs.heat.joules(_power_view(self.breakdown), self.clock_hz)
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
            found.append(self._word_on_communication())
        return tuple(found)

    def _word_on_communication(self) -> str:
        shares = self._collectives()
        known = sum(shares.get(each.label, 0.0) for each in (Origin.MEASURED, Origin.FITTED))
        extrapolated = "extrapolated from fitted levels of links, not measured"
        if known < LEAST_SHARE:
            return f"communication is {extrapolated}"
        groups = f"groups that were measured on {self._costs.gpu.sku}"
        if known > 1.0 - LEAST_SHARE:
            return f"collectives are of {groups}"
        share = f"{100 * known:.0f} %"
        return f"{share} of the time in collectives is of {groups}; the rest is {extrapolated}"

    def top_operators(self, count: int = TOP_OPERATORS) -> tuple[OperatorShare, ...]:
        """The costliest operators of the busiest stage."""
        network = self._case.cluster.inter_node_bytes_per_second_per_gpu
        return costliest(self._ledger, self._costs, network_bytes_per_second=network, count=count)


def _power_view(breakdown: Mapping[str, float]) -> dict[str, float]:
    idle = sum(seconds for part, seconds in breakdown.items() if part in WAITING)
    busy = {part: seconds for part, seconds in breakdown.items() if part not in WAITING}
    return {**busy, "idle": idle}
