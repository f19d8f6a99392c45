"""Seconds of all passes of a step, for many layouts: the parts of each group priced and composed.

Layouts of one cut are joined by the closed form of their schedule at a few clocks.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import numpy as np

from predictor.costs.prediction import Floats, Ints
from predictor.iteration.collectives import collective_costs
from predictor.iteration.groups import message
from predictor.iteration.places import Places
from predictor.iteration.schedules import SPLIT_BACKWARD
from predictor.search.cuts import Cut
from predictor.search.passes import Composer, StagePasses
from predictor.search.pieces import Stock
from predictor.search.room import Layouts
from predictor.search.schedule_forms import Hops, pipeline_seconds
from predictor.search.settling import LOCAL
from predictor.search.shapes import distinct

SENT: Final = ("tensor_parallel", "sequence_parallel", "context_parallel", "micro_batch_size")
"""What the size of a message between stages depends on."""


class Bodies:
    """Passes of the steps of some layouts.

    Attributes:
        tied: Seconds of the sum of tied tables' gradients, by layout.
    """

    def __init__(self, layouts: Layouts, stock: Stock, *, least: bool = False) -> None:
        """Price the parts of all layouts; ``least`` as :meth:`Stock.pieces` has it."""
        self._layouts, self._costs = layouts, stock.costs
        self._pieces = stock.pieces(layouts, least=least)
        self._composer = Composer(self._pieces)
        self._places = Places.of(layouts.space.case)
        stages = {cut.stages for cut in layouts.cuts}
        ways = [way for count in stages for way in self._places.messages(count)]
        hops = sorted({crossing for way in ways for crossing in way})
        self._crossings = {crossing: place for place, crossing in enumerate(hops)}
        self._messages, self.tied = self._message_seconds()

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

    def hops(self, cut: Cut, rows: Ints, asked: bool | None) -> Hops:  # noqa: FBT001
        """Messages between the stages of some layouts of a cut."""
        down, up = self._places.messages(cut.stages)
        ways = [[self._crossings[each] for each in way] for way in (down, up[1:] + up[:1])]
        priced = self._messages[rows]
        each = (priced[:, ways[0]] + priced[:, ways[1]]) / 2  # by layout and sending stage
        passed = np.full(cut.stages, cut.chunks)  # times that a micro-batch goes over each hop
        passed[-1] -= 1
        sent = passed * each
        both = sent + np.roll(sent, 1, axis=1)
        beside = [both[:, hold.first : hold.last + 1].max(axis=1) for hold in cut.holds]
        onward = each[:, :-1] if cut.stages > 1 else each
        none = np.zeros((len(rows), 1))
        ends = [np.concatenate(pair, axis=1) for pair in ((none, onward), (onward, none))]
        near = np.maximum(*ends)  # by stage; with one stage nobody asks
        beyond = [near[:, hold.first : hold.last + 1].max(axis=1) for hold in cut.holds]
        return Hops(
            total=onward.sum(axis=1) * (cut.stages > 1),
            beside=np.stack(beside, axis=1),
            beyond=np.stack(beyond, axis=1),
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
        """Seconds of messages by layout and kind of hop, and of tied sums by layout."""
        layouts = self._layouts
        first, size_of = distinct([layouts.column(name) for name in SENT])
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
        return seconds[:sent].reshape(len(shapes), -1)[size_of], tied[stages, size_of]
