"""The array form: seconds, memory, energy of every plan of a space.

Layouts are laid over their stages, those that do not fit memory leave, the parts of the others are
priced once a group, composed once a cut, and joined by the closed forms of schedules and replicas.
A step's clock settles by its mix of operators, as the estimate's does.
"""

from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final

import numpy as np

from predictor.case import load_gpu
from predictor.costs import Costs
from predictor.costs.fabric import domain_gpus
from predictor.costs.power import Heat
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

LOCAL_NAMES: Final = tuple(name for name in FAMILIES if name != COMMUNICATION)
LOCAL: Final = [FAMILIES.index(name) for name in LOCAL_NAMES]
FLAGS: Final = ("overlap_grad_reduce", "overlap_param_gather", "overlap_p2p")


@dataclass(frozen=True, slots=True)
class Plans:
    """Evaluated plans: layouts with their overlaps.

    Attributes:
        layout: Place of each plan's layout.
        seconds: Of an iteration.
        joules: Of an iteration, all GPUs.
        flags: Values of ``overlap_grad_reduce``, ``overlap_param_gather`` and ``overlap_p2p``.
    """

    layout: Ints
    seconds: Floats
    joules: Floats
    flags: tuple[bool | None, ...]


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
        self._gpus = layouts.space.case.cluster.num_gpus
        self._messages, self._tied = self._message_seconds()

    def plans(self) -> list[Plans]:
        """Every plan: each combination of overlaps that makes a difference, in one table."""
        composer, layouts = Composer(self._pieces), self._layouts
        flags = list(product(*layouts.space.flags.values()))
        beside = {flag[:2]: self._tails.overlapped(*flag[:2]) for flag in flags}
        varied = {flag: layouts.varied(flag) for flag in flags}
        found: dict[tuple[bool | None, ...], list[tuple[Ints, Floats, Floats]]] = {}
        for number, cut in enumerate(layouts.cuts):
            rows, passes = self._passes(composer, number)
            if passes is None:
                continue
            around = self._around(cut, rows, passes)
            for asked in layouts.space.flags["overlap_p2p"]:
                body = self._body(cut, rows, passes, asked)
                settled = None
                for flag in (each for each in flags if each[2] == asked):
                    kept = varied[flag][rows]
                    if not kept.any():
                        continue
                    more = around.seconds(*(each[rows] for each in beside[flag[:2]]))
                    settled = settled or self._settled(body, more, rows, passes)
                    seconds = settled.seconds + more
                    joules = settled.joules(seconds, self._costs.heat)
                    entry = (rows[kept], seconds[kept], joules[kept] * self._gpus)
                    found.setdefault(flag, []).append(entry)
        plans = []
        for flag, parts in found.items():
            layout, seconds, joules = (np.concatenate(each) for each in zip(*parts, strict=True))
            plans.append(Plans(layout=layout, seconds=seconds, joules=joules, flags=flag))
        return plans

    def _passes(self, composer: Composer, number: int) -> tuple[Ints, StagePasses | None]:
        """Rows of a cut, and the seconds of their passes."""
        rows = np.flatnonzero(self._layouts.cut == number)
        if not len(rows):
            return rows, None
        groups, which = np.unique(self._pieces.group[rows], return_inverse=True)
        passes = composer.passes(self._layouts.cuts[number], groups).take(which)
        several = self._layouts.column("num_microbatches")[rows] > 1
        stages = slice(0, len(self._layouts.cuts[number].holds))
        more = self._tail.accumulate[rows, stages] * several[:, None, None]
        return rows, passes.accumulating(more[..., 0], more[..., 1])

    def _body(
        self,
        cut: Cut,
        rows: Ints,
        passes: StagePasses,
        asked: bool | None,  # noqa: FBT001
    ) -> Floats:
        """Seconds of all passes of a step, by layout and clock."""
        batches = self._layouts.column("num_microbatches")[rows]
        return pipeline_seconds(cut, passes, batches, self._hops(cut, rows, asked))

    def _around(self, cut: Cut, rows: Ints, passes: StagePasses) -> "_Around":
        """What gathers, sums and updates add before and after the passes."""
        stages = slice(0, len(cut.holds))
        count = np.array([hold.count for hold in cut.holds])
        first = np.array([hold.first for hold in cut.holds])
        forward, backward = passes.forward[:, :, 0], passes.backward[:, :, 0]
        gather, reduce = self._tail.gather, self._tail.reduce
        fetched, sums = gather.seconds[rows, stages], reduce.seconds[rows, stages]
        ahead = exposed_gather(fetched, gather.buckets[rows, stages], forward)
        behind = exposed_sums(sums, reduce.buckets[rows, stages], backward, cut)
        drain = np.zeros_like(sums)
        if not cut.schedule.startswith(("zb", "dual")):
            hop = self._hops(cut, rows, None).total / max(cut.stages - 1, 1)
            drain = first * (backward.mean(axis=1) / cut.chunks + hop)[:, None]
        update = self._tail.update[rows, stages]
        tied = self._tied[rows] if cut.stages > 1 else np.zeros(len(rows))
        return _Around(
            begin=(count * ahead).sum(axis=1),
            gathered=(update + fetched).max(axis=1) + tied,
            updated=update.max(axis=1) + tied,
            behind=np.maximum((behind - drain).max(axis=1), 0.0),
            after=np.maximum((self._tail.blocking[rows, stages] - drain).max(axis=1), 0.0),
        )

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
        passed = np.full(cut.stages, cut.chunks)  # times that a micro-batch goes over each hop
        passed[-1] -= 1
        before = np.roll(np.arange(cut.stages), 1)
        distant_hops = passed * far + (passed * far)[before]
        hops = passed + passed[before]
        worst = [
            int(np.argmax(distant_hops[hold.first : hold.last + 1])) + hold.first
            for hold in cut.holds
        ]
        beside = np.outer(far_seconds, distant_hops[worst])
        beside += np.outer(near_seconds, (hops - distant_hops)[worst])
        return Hops(total, beside, longest, turn, self._overlapped(cut, rows, asked))

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

    def _settled(self, body: Floats, more: Floats, rows: Ints, passes: StagePasses) -> "_Settled":
        """The passes at the clock that the mix at the highest clock settles at."""
        heat, clocks = self._costs.heat, self._pieces.clocks
        batches = self._layouts.column("num_microbatches")[rows]
        busiest = np.argmax(passes.period[:, :, 0], axis=1)
        families = passes.families[np.arange(len(rows)), busiest] * batches[:, None, None]
        busy = families[:, 0, LOCAL]
        mix = dict(zip(LOCAL_NAMES, busy.T, strict=True))
        mix["idle"] = np.maximum(body[:, 0] + more - busy.sum(axis=1), 0.0)
        clock = heat.settled_clock_hz(mix)
        table = at_clock(
            np.concatenate([body[:, :, None], families[:, :, LOCAL]], 2), clocks, clock
        )
        busy = table[:, 1:]
        watts = (heat.power(name, clock) for name in LOCAL_NAMES)
        drawn = sum(part * power for part, power in zip(busy.T, watts, strict=True))
        return _Settled(table[:, 0], busy.sum(axis=1), np.asarray(drawn))


@dataclass(frozen=True, slots=True)
class _Around:
    """Seconds before and after the passes, by layout.

    Attributes:
        begin: Gathers that the first forward passes wait for, beside them.
        gathered: Updates and gathers one after another.
        updated: Updates alone.
        behind: What is left of sums beside the last backward passes.
        after: Sums behind them.
    """

    begin: Floats
    gathered: Floats
    updated: Floats
    behind: Floats
    after: Floats

    def seconds(self, reduced: Any, gathered: Any) -> Floats:  # noqa: ANN401 - masks
        """All of it, where sums and gathers run beside passes or not."""
        end = np.where(reduced, self.behind, self.after)
        return np.asarray(end + np.where(gathered, self.begin + self.updated, self.gathered))


@dataclass(frozen=True, slots=True)
class _Settled:
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
