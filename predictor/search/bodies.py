"""Seconds of all passes of a step, for many layouts: the parts of each group priced and composed.

Layouts of one cut are joined by the closed form of their schedule at a few clocks; a step's clock
settles by its mix of operators, as the estimate's does.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from predictor.costs import Costs
from predictor.costs.power import Heat
from predictor.costs.prediction import Floats, Ints
from predictor.iteration.collectives import collective_costs
from predictor.iteration.groups import message
from predictor.iteration.launches import COMMUNICATION, FAMILIES
from predictor.iteration.places import Places
from predictor.iteration.schedules import SPLIT_BACKWARD
from predictor.search.cuts import Cut
from predictor.search.passes import Composer, StagePasses
from predictor.search.pieces import pieces_of
from predictor.search.room import Layouts
from predictor.search.schedule_forms import Hops, pipeline_seconds

LOCAL_NAMES: Final = tuple(name for name in FAMILIES if name != COMMUNICATION)
LOCAL: Final = [FAMILIES.index(name) for name in LOCAL_NAMES]


class Bodies:
    """Passes of the steps of some layouts.

    Attributes:
        tied: Seconds of the sum of tied tables' gradients, by layout.
        clocks: At how many clocks passes are known.
    """

    def __init__(self, layouts: Layouts, costs: Costs) -> None:
        """Price the parts of all layouts."""
        self._layouts, self._costs = layouts, costs
        self._pieces = pieces_of(layouts, costs)
        self._composer = Composer(self._pieces)
        self._places = Places.of(layouts.space.case)
        stages = {cut.stages for cut in layouts.cuts}
        ways = [way for count in stages for way in self._places.messages(count)]
        hops = sorted({crossing for way in ways for crossing in way})
        self._crossings = {crossing: place for place, crossing in enumerate(hops)}
        self._messages, self.tied = self._message_seconds()
        self.clocks = len(self._pieces.clocks)

    def cuts(self) -> Iterator[tuple[Cut, Ints, StagePasses]]:
        """Every cut that has layouts, with their rows and the seconds of their passes."""
        order = np.argsort(self._layouts.cut, kind="stable")
        bounds = np.searchsorted(self._layouts.cut[order], np.arange(len(self._layouts.cuts) + 1))
        for number, cut in enumerate(self._layouts.cuts):
            rows = order[bounds[number] : bounds[number + 1]]
            if len(rows):
                groups, which = np.unique(self._pieces.group[rows], return_inverse=True)
                yield cut, rows, self._composer.passes(cut, groups).take(which)

    def seconds(
        self,
        cut: Cut,
        rows: Ints,
        passes: StagePasses,
        asked: bool | None,  # noqa: FBT001
    ) -> Floats:
        """Seconds of all passes of a step, by layout and clock."""
        batches = self._layouts.column("num_microbatches")[rows]
        return pipeline_seconds(cut, passes, batches, self.hops(cut, rows, asked))

    def busy(self, rows: Ints, passes: StagePasses) -> Floats:
        """Seconds of the kernels of the busiest stage in a step, by layout, clock and family."""
        batches = self._layouts.column("num_microbatches")[rows]
        busiest = np.argmax(passes.period[:, :, 0], axis=1)
        families = passes.families[np.arange(len(rows)), busiest] * batches[:, None, None]
        return np.asarray(families[:, :, LOCAL])

    def settled(self, body: Floats, more: Floats, busy: Floats) -> "Settled":
        """The passes at the clock that the mix at the highest clock settles at.

        Args:
            body: Seconds of the passes, by layout and clock.
            more: Seconds of a step beside them.
            busy: As :meth:`busy` has them.
        """
        heat, clocks = self._costs.heat, self._pieces.clocks
        mix = dict(zip(LOCAL_NAMES, busy[:, 0].T, strict=True))
        mix["idle"] = np.maximum(body[:, 0] + more - busy[:, 0].sum(axis=1), 0.0)
        clock = heat.settled_clock_hz(mix)
        table = at_clock(np.concatenate([body[:, :, None], busy], 2), clocks, clock)
        watts = (heat.power(name, clock) for name in LOCAL_NAMES)
        drawn = sum(part * power for part, power in zip(table[:, 1:].T, watts, strict=True))
        return Settled(table[:, 0], table[:, 1:].sum(axis=1), np.asarray(drawn))

    def hops(self, cut: Cut, rows: Ints, asked: bool | None) -> Hops:  # noqa: FBT001
        """Messages between the stages of some layouts of a cut."""
        down, up = self._places.messages(cut.stages)
        ways = [[self._crossings[each] for each in way] for way in (down, up[1:] + up[:1])]
        priced = self._messages[self._pieces.group[rows]]
        each = (priced[:, ways[0]] + priced[:, ways[1]]) / 2  # by layout and sending stage
        passed = np.full(cut.stages, cut.chunks)  # times that a micro-batch goes over each hop
        passed[-1] -= 1
        sent = passed * each
        both = sent + np.roll(sent, 1, axis=1)
        beside = [both[:, hold.first : hold.last + 1].max(axis=1) for hold in cut.holds]
        onward = each[:, :-1] if cut.stages > 1 else each
        return Hops(
            total=onward.sum(axis=1) * (cut.stages > 1),
            beside=np.stack(beside, axis=1),
            longest=onward.max(axis=1),
            turn=each[:, -1],
            overlapped=self._overlapped(cut, rows, asked),
        )

    def _overlapped(self, cut: Cut, rows: Ints, asked: bool | None) -> bool:  # noqa: FBT001
        shape = replace(
            self._layouts.shapes.of(self._layouts.space, int(rows[0])),
            schedule=cut.schedule,
            chunks=cut.chunks,
            overlap_p2p=asked,
        )
        return cut.schedule in SPLIT_BACKWARD or self._layouts.stack.overlap_p2p(shape)

    def _message_seconds(self) -> tuple[Floats, Floats]:
        """Seconds of messages by group and kind of hop, and of tied sums by layout."""
        layouts = self._layouts
        first = np.unique(self._pieces.group, return_index=True)[1]
        shapes = [layouts.shapes.of(layouts.space, int(row)) for row in first]
        sizes = [layouts.stack.message_bytes(shape) for shape in shapes]
        asked: list[Any] = [
            message(size, same_node=same, slower=slower)
            for size in sizes
            for same, slower in self._crossings
        ]
        counts, stages = np.unique(layouts.column("pipeline_parallel"), return_inverse=True)
        tied = np.zeros((len(counts), len(shapes)))
        if shapes[0].tied_embeddings:
            ends = [self._places.ends(int(count)) for count in counts]
            tables = [shape.gradient_bytes * shape.vocab * shape.hidden for shape in shapes]
            asked += [pair.all_reduce(size) for pair in ends for size in tables]
        seconds = collective_costs(layouts.space.case, self._costs)(asked).seconds
        sent = len(self._crossings) * len(shapes)
        if len(seconds) > sent:
            tied = seconds[sent:].reshape(tied.shape)
        return seconds[:sent].reshape(len(shapes), -1), tied[stages, self._pieces.group]


@dataclass(frozen=True, slots=True)
class Settled:
    """Passes at their settled clock, by layout.

    Attributes:
        seconds: Of all passes.
        busy: Of the kernels of the busiest stage.
        drawn: Joules of these kernels on one GPU.
    """

    seconds: Floats
    busy: Floats
    drawn: Floats

    def joules(self, seconds: Floats, heat: Heat) -> Floats:
        """Energy of one GPU in a step of some seconds."""
        idle = np.maximum(seconds - self.busy, 0.0) * heat.idle_watts
        return np.asarray(np.minimum(self.drawn + idle, heat.cap_watts * seconds))


def at_clock(values: Floats, clocks: Floats, clock: Floats) -> Floats:
    """Values at given clocks, linear in the clock's inverse between them.

    Args:
        values: By row and clock, and any further axis.
        clocks: Highest first.
        clock: Of each row; below the lowest, the last line goes on.
    """
    inverse, wanted = 1.0 / clocks, 1.0 / clock
    place = np.clip(np.searchsorted(inverse, wanted) - 1, 0, len(clocks) - 2)
    rows = np.arange(len(values))
    share = (wanted - inverse[place]) / (inverse[place + 1] - inverse[place])
    low, high = values[rows, place], values[rows, place + 1]
    return np.asarray(low + share.reshape(-1, *[1] * (values.ndim - 2)) * (high - low))
