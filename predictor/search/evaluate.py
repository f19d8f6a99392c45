"""The array form: seconds, memory, energy of every plan of a space.

Layouts are laid over their stages, those that do not fit memory leave, the parts of the others are
priced once a group, composed once a cut, and joined by the closed forms of schedules and replicas.
A step's clock settles by its mix of operators, as the estimate's does.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final

import numpy as np

from predictor.case import load_gpu
from predictor.costs import Costs
from predictor.costs.fabric import domain_gpus
from predictor.costs.prediction import Floats, Ints
from predictor.iteration.collectives import collective_costs
from predictor.iteration.groups import Group, message
from predictor.iteration.implementations import load as load_stack
from predictor.iteration.launches import COMMUNICATION, FAMILIES
from predictor.iteration.schedules import SPLIT_BACKWARD
from predictor.search.cuts import Cut, cut_of
from predictor.search.passes import Composer, StagePasses
from predictor.search.pieces import pieces_of
from predictor.search.replicas import Tails
from predictor.search.room import Layouts
from predictor.search.schedule_forms import Hops, pipeline_seconds
from predictor.search.shapes import Shapes, distinct
from predictor.search.space import Space

FLAGS: Final = ("overlap_grad_reduce", "overlap_param_gather", "overlap_p2p")


@dataclass(frozen=True, slots=True)
class Plans:
    """Evaluated plans: layouts with their overlaps.

    Attributes:
        layout: Place of each plan's layout.
        flags: Values of ``overlap_grad_reduce``, ``overlap_param_gather`` and ``overlap_p2p``.
        seconds: Of an iteration.
        joules: Of an iteration, all GPUs.
    """

    layout: Ints
    flags: tuple[bool | None, ...]
    seconds: Floats
    joules: Floats


def layouts_of(space: Space) -> Layouts:
    """Lay the model over the stages of every layout."""
    stack = load_stack(str(space.case.implementation))
    names = ("pipeline_parallel", "virtual_pipeline", "schedule", "recompute")
    first, which = distinct([space.columns[name] for name in names])
    cuts = []
    for row in first:
        stages, chunks, schedule, recompute = (int(space.columns[name][row]) for name in names)
        cuts.append(
            cut_of(
                space.case,
                stages=stages,
                chunks=chunks,
                schedule=space.values["schedule"][schedule],
                recompute=space.values["recompute"][recompute],
            )
        )
    return Layouts(space, stack, Shapes(space.case, stack.vocab_multiple), tuple(cuts), which)


class Evaluation:
    """Seconds and joules of layouts that fit."""

    def __init__(self, layouts: Layouts, costs: Costs) -> None:
        """Price all parts."""
        self._layouts, self._costs = layouts, costs
        self._pieces = pieces_of(layouts, costs)
        self._tails = Tails(layouts, costs)
        self._tail = self._tails.tail()
        self._messages, self._tied = self._message_seconds()

    def plans(self) -> Iterator[Plans]:
        """Every combination of overlaps that makes a difference, one after another."""
        composer = Composer(self._pieces)
        flags = self._layouts.space.flags
        passes = [self._passes(composer, number) for number in range(len(self._layouts.cuts))]
        for chosen in product(*flags.values()):
            yield self._evaluated(passes, chosen)

    def _passes(self, composer: Composer, number: int) -> tuple[Ints, StagePasses | None]:
        """Rows of a cut, and the seconds of their passes."""
        rows = np.flatnonzero(self._layouts.cut == number)
        if not len(rows):
            return rows, None
        groups, which = np.unique(self._pieces.group[rows], return_inverse=True)
        of_groups = composer.passes(self._layouts.cuts[number], groups)
        return rows, of_groups.take(which)

    def _evaluated(
        self, passes: Sequence[tuple[Ints, StagePasses | None]], chosen: tuple[bool | None, ...]
    ) -> Plans:
        varied = self._layouts.varied(chosen)
        beside = self._tails.overlapped(chosen[0], chosen[1])
        layout, seconds, joules = [], [], []
        for number, (rows, mine) in enumerate(passes):
            kept = varied[rows]
            if mine is None or not kept.any():
                continue
            at = rows[kept]
            found = self._cut_seconds(
                number, at, mine.take(kept), (*(b[at] for b in beside), chosen[2])
            )
            layout.append(at)
            seconds.append(found[0])
            joules.append(found[1])
        if not layout:
            return Plans(np.zeros(0, dtype=np.int64), chosen, np.zeros(0), np.zeros(0))
        joined = np.concatenate(seconds), np.concatenate(joules)
        return Plans(np.concatenate(layout), chosen, *joined)

    def _cut_seconds(
        self, number: int, rows: Ints, passes: StagePasses, beside: tuple[Any, Any, Any]
    ) -> tuple[Floats, Floats]:
        """Seconds and joules of layouts of one cut under some overlaps."""
        layouts, cut = self._layouts, self._layouts.cuts[number]
        stages = slice(0, len(cut.holds))
        m = layouts.column("num_microbatches")[rows]
        more = self._tail.accumulate[rows, stages, None] * (m > 1)[:, None, None]
        passes = replace(passes, backward=passes.backward + more, period=passes.period + more)
        hops = self._hops(cut, rows, beside[2])
        body = pipeline_seconds(cut, passes, m, hops)
        seconds = body + self._around(cut, rows, passes, hops, beside)
        busiest = np.argmax(passes.period[:, :, 0], axis=1)
        families = passes.families[np.arange(len(rows)), busiest] * m[:, None, None]
        return self._settled(seconds, families)

    def _around(
        self,
        cut: Cut,
        rows: Ints,
        passes: StagePasses,
        hops: Hops,
        beside: tuple[Any, Any, Any],
    ) -> Floats:
        """What gathers, sums and updates add before and after the passes."""
        stages = slice(0, len(cut.holds))
        count = np.array([hold.count for hold in cut.holds])
        first = np.array([hold.first for hold in cut.holds])
        forward, backward = passes.forward[:, :, 0], passes.backward[:, :, 0]
        gather, reduce = self._tail.gather, self._tail.reduce
        ahead = exposed_gather(gather.seconds[rows, stages], gather.buckets[rows, stages], forward)
        begin = np.where(beside[1], (count * ahead).sum(axis=1), 0.0)
        sums = reduce.seconds[rows, stages]
        behind = exposed_sums(sums, reduce.buckets[rows, stages], backward, cut)
        late = np.where(beside[0][:, None], behind, sums)
        if not cut.schedule.startswith(("zb", "dual")):
            one = backward.mean(axis=1) / cut.chunks + hops.total / max(cut.stages - 1, 1)
            late = late - first * one[:, None]
        update = self._tail.update[rows, stages]
        update = update + np.where(beside[1][:, None], 0.0, gather.seconds[rows, stages])
        tied = self._tied[rows] if cut.stages > 1 else 0.0
        return np.asarray(begin + np.maximum(late.max(axis=1), 0.0) + tied + update.max(axis=1))[
            :, None
        ]

    def _hops(self, cut: Cut, rows: Ints, asked: bool | None) -> Hops:  # noqa: FBT001
        case = self._layouts.space.case
        node = domain_gpus(load_gpu(case.cluster.gpu), case.cluster.gpus_per_node)
        places = np.arange(cut.stages) * (case.cluster.num_gpus // cut.stages) // node
        far = places != np.roll(places, -1)
        near_seconds, far_seconds = self._messages[self._pieces.group[rows]].T
        distant = int(far[:-1].sum())
        total = distant * far_seconds + (cut.stages - 1 - distant) * near_seconds
        longest = far_seconds if distant else near_seconds
        turn = far_seconds if far[-1] else near_seconds
        return Hops(total, longest, turn, self._overlapped(cut, rows, asked))

    def _overlapped(self, cut: Cut, rows: Ints, asked: bool | None) -> bool:  # noqa: FBT001
        shape = replace(
            self._layouts.shapes.of(self._layouts.space, int(rows[0])),
            schedule=cut.schedule,
            chunks=cut.chunks,
            overlap_p2p=asked,
        )
        return cut.schedule in SPLIT_BACKWARD or self._layouts.stack.overlap_p2p(shape)

    def _message_seconds(self) -> tuple[Floats, Floats]:
        """Seconds of messages in a node and between nodes by group, and of tied sums by layout."""
        layouts = self._layouts
        first = np.unique(self._pieces.group, return_index=True)[1]
        shapes = [layouts.shapes.of(layouts.space, int(row)) for row in first]
        sizes = [layouts.stack.message_bytes(shape) for shape in shapes]
        asked: list[Any] = [
            message(size, same_node=same) for size in sizes for same in (True, False)
        ]
        if shapes[0].tied_embeddings:
            pair = Group(2, 1)
            asked += [pair.all_reduce(s.gradient_bytes * s.vocab * s.hidden) for s in shapes]
        seconds = collective_costs(layouts.space.case, self._costs)(asked).seconds
        count = 2 * len(shapes)
        tied = seconds[count:] if len(seconds) > count else np.zeros(len(shapes))
        return seconds[:count].reshape(-1, 2), tied[self._pieces.group]

    def _settled(self, seconds: Floats, families: Floats) -> tuple[Floats, Floats]:
        """Seconds and joules at the clock that the mix at the highest clock settles at."""
        heat, clocks = self._costs.heat, self._pieces.clocks
        busy = {
            name: families[:, 0, place]
            for place, name in enumerate(FAMILIES)
            if name != COMMUNICATION
        }
        idle = np.maximum(seconds[:, 0] - sum(busy.values()), 0.0)
        clock = heat.settled_clock_hz({**busy, "idle": idle})
        settled = at_clock(seconds, clocks, clock)
        parts = {
            name: at_clock(families[:, :, place], clocks, clock)
            for place, name in enumerate(FAMILIES)
            if name != COMMUNICATION
        }
        idle = np.maximum(settled - sum(parts.values()), 0.0)
        joules = heat.joules({**parts, "idle": idle}) * self._layouts.space.case.cluster.num_gpus
        return settled, np.asarray(joules)


def at_clock(values: Floats, clocks: Floats, clock: Floats) -> Floats:
    """Values at given clocks, linear in the clock's inverse between them.

    Args:
        values: By row and clock.
        clocks: Highest first.
        clock: Of each row; below the lowest, the last line goes on.
    """
    inverse, wanted = 1.0 / clocks, 1.0 / clock
    place = np.clip(np.searchsorted(inverse, wanted) - 1, 0, len(clocks) - 2)
    rows = np.arange(len(values))
    share = (wanted - inverse[place]) / (inverse[place + 1] - inverse[place])
    low, high = values[rows, place], values[rows, place + 1]
    return np.asarray(low + share * (high - low))


def exposed_gather(seconds: Floats, buckets: Floats, forward: Floats) -> Floats:
    """What gathers one bucket ahead add to the first forward pass; all of it without buckets."""
    count = np.maximum(buckets, 1)
    each, part = seconds / count, forward / count
    return np.asarray(each + (count - 1) * np.maximum(each - part, 0.0))


def exposed_sums(seconds: Floats, buckets: Floats, backward: Floats, cut: Cut) -> Floats:
    """What sums beside the last backward pass add behind it.

    Chunks' sums leave one chunk after another, the passes of ``p`` micro-batches apart; those of a
    bucket as soon as its part of the pass has ended.
    """
    chunk, part = seconds / cut.chunks, backward / cut.chunks
    count = np.maximum(buckets / cut.chunks, 1)
    each = chunk / count
    last = np.where(buckets > 0, np.maximum(each, chunk - part + part / count), chunk)
    return np.asarray(last + (cut.chunks - 1) * np.maximum(chunk - cut.stages * part, 0.0))
