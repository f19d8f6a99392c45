"""The array form: seconds and energy of every plan of a space.

Layouts are laid over their stages; the passes of their steps (:mod:`predictor.search.bodies`) are
joined with what replicas add (:mod:`predictor.search.replicas`). A lower bound of a step comes from
fewer parts: those of the layout without what only adds to it.
"""

from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final

import numpy as np

from predictor.costs import Costs
from predictor.costs.prediction import Floats, Ints
from predictor.iteration.implementations import load as load_stack
from predictor.search.bodies import LOCAL, Bodies
from predictor.search.company import Company, factors_of
from predictor.search.cuts import Cut, cut_of
from predictor.search.menu import MENUS
from predictor.search.passes import StagePasses
from predictor.search.replicas import Tails
from predictor.search.room import Layouts
from predictor.search.shapes import Shapes, distinct
from predictor.search.space import Space

FLAGS: Final = ("overlap_grad_reduce", "overlap_param_gather", "overlap_p2p")
CHEAPER: Final = {
    "recompute": {"selective": "none"},
    "sharding": {"parameters": "optimizer", "gradients": "optimizer"},
}
"""What passes cost no more with."""


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


class Least:
    """Lower bounds of the seconds of steps, by layout.

    Passes alone, without what replicas add, and with the parts of a layout that has the same
    products and less around them: no replay of attention, no parameters to gather, and one rank's
    rows of ``b`` sequences split over ``c`` ranks as those of ``b/g`` over ``c/g``. There are far
    fewer of these than layouts. Where gathers and reductions of sharded parameters take turns on
    one stream, a step takes as long as these at least.
    """

    def __init__(self, layouts: Layouts, costs: Costs) -> None:
        """Price the cheaper layouts."""
        self._bodies = bodies = Bodies(layouts_of(_cheaper(layouts.space)), costs)
        self._body = np.empty((len(layouts), bodies.clocks))
        self._busy = np.empty((len(layouts), bodies.clocks, len(LOCAL)))
        for cut, rows, passes in bodies.cuts():
            asked = layouts.space.flags["overlap_p2p"]
            found = [bodies.seconds(cut, rows, passes, each) for each in asked]
            self._body[rows] = np.min(found, axis=0)
            self._busy[rows] = bodies.busy(rows, passes)
        self._gathers = np.zeros(len(layouts))
        menu = MENUS[layouts.stack.name]
        whole = np.flatnonzero(layouts.space.is_("sharding", "parameters"))
        if menu.gathers and len(whole):
            tails = Tails(layouts.take(whole), costs)
            once = tails.in_turns(menu.gathers, menu.reductions).max(axis=1)
            self._gathers[whole] = layouts.column("num_microbatches")[whole] * once

    def seconds(self, limit: float | None = None) -> Floats:
        """What a step takes at least, if that is no more than a limit.

        A step that ends within the limit waits no longer than what its kernels leave of it, and
        its clock is no higher than that of so much waiting. Without a limit, as if nothing waited:
        the order in which to look.
        """
        most = self._body[:, 0] if limit is None else np.full(len(self._body), limit)
        more = np.maximum(most - self._body[:, 0], 0.0)
        settled = self._bodies.settled(self._body, more, self._busy).seconds
        return np.asarray(np.maximum(settled, self._gathers))


def _cheaper(space: Space) -> Space:
    columns = dict(space.columns)
    for name, changes in CHEAPER.items():
        values = space.values[name]
        for costly, cheap in changes.items():
            if costly in values and cheap in values:
                places = values.index(costly), values.index(cheap)
                columns[name] = np.where(columns[name] == places[0], places[1], columns[name])
    names = ("micro_batch_size", "context_parallel")
    shared = np.gcd(*(columns[name] for name in names))
    columns |= {name: columns[name] // shared for name in names}
    return replace(space, columns=columns)


class Evaluation:
    """Seconds and joules of layouts that fit."""

    def __init__(self, layouts: Layouts, costs: Costs) -> None:
        """Price all parts."""
        self._layouts, self._costs = layouts, costs
        self._bodies = Bodies(layouts, costs)
        self._tails = Tails(layouts, costs)
        self._tail = self._tails.tail()
        self._gpus = layouts.space.case.cluster.num_gpus

    def plans(self) -> list[Plans]:
        """Every plan: each combination of overlaps that makes a difference, in one table."""
        layouts, bodies = self._layouts, self._bodies
        flags = list(product(*layouts.space.flags.values()))
        beside = {flag[:2]: self._tails.overlapped(*flag[:2]) for flag in flags}
        varied = {flag: layouts.varied(flag) for flag in flags}
        found: dict[tuple[bool | None, ...], list[tuple[Ints, Floats, Floats]]] = {}
        for cut, rows, alone in bodies.cuts():
            passes = self._accumulating(cut, rows, alone)
            around = self._around(cut, rows, passes)
            busy = bodies.busy(rows, passes)
            for asked in layouts.space.flags["overlap_p2p"]:
                body = bodies.seconds(cut, rows, passes, asked)
                for flag in (each for each in flags if each[2] == asked):
                    kept = varied[flag][rows]
                    if not kept.any():
                        continue
                    more = around.seconds(*(each[rows] for each in beside[flag[:2]]))
                    settled = bodies.settled(body, more, busy)
                    seconds = settled.seconds + more
                    joules = settled.joules(seconds, self._costs.heat)
                    entry = (rows[kept], seconds[kept], joules[kept] * self._gpus)
                    found.setdefault(flag, []).append(entry)
        plans = []
        for flag, parts in found.items():
            layout, seconds, joules = (np.concatenate(each) for each in zip(*parts, strict=True))
            plans.append(Plans(layout=layout, seconds=seconds, joules=joules, flags=flag))
        return plans

    def _accumulating(self, cut: Cut, rows: Ints, passes: StagePasses) -> StagePasses:
        """Passes with what sums gradients of micro-batches."""
        several = self._layouts.column("num_microbatches")[rows] > 1
        more = self._tail.accumulate[rows, : len(cut.holds)] * several[:, None, None]
        return passes.accumulating(more[..., 0], more[..., 1])

    def _around(self, cut: Cut, rows: Ints, passes: StagePasses) -> "_Around":
        """What gathers, sums and updates add before and after the passes."""
        stages = slice(0, len(cut.holds))
        count = np.array([hold.count for hold in cut.holds])
        first = np.array([hold.first for hold in cut.holds])
        forward, backward = passes.forward[:, :, 0], passes.backward[:, :, 0]
        mix = passes.families[:, :, 0]
        gather, reduce = self._tail.gather, self._tail.reduce
        fetched, sums = gather.seconds[rows, stages], reduce.seconds[rows, stages]
        v = cut.chunks
        arriving = Company.of(
            fetched / v,
            gather.buckets[rows, stages] / v,
            forward / v,
            mix,
            factors_of("all_gather"),
        )
        whole = self._layouts.space.is_("sharding", "none")[rows, None, None]
        kind = np.where(whole, factors_of("all_reduce"), factors_of("reduce_scatter"))
        leaving = Company.of(sums / v, reduce.buckets[rows, stages] / v, backward / v, mix, kind)
        grown, left = leaving.summed()
        # chunks' sums leave one chunk after another, the passes of ``p`` micro-batches apart
        queue = np.maximum(sums / v - cut.stages * backward / v, 0.0)
        behind = v * grown + left + (v - 1) * queue
        drain = np.zeros_like(sums)
        if not cut.schedule.startswith(("zb", "dual")):
            hop = self._bodies.hops(cut, rows, None).total / max(cut.stages - 1, 1)
            drain = first * (backward.mean(axis=1) / v + hop)[:, None]
        update = self._tail.update[rows, stages]
        tied = self._bodies.tied[rows] if cut.stages > 1 else np.zeros(len(rows))
        return _Around(
            begin=(count * v * arriving.gathered()).sum(axis=1),
            gathered=(update + fetched).max(axis=1) + tied,
            updated=update.max(axis=1) + tied,
            behind=np.maximum((behind - drain).max(axis=1), 0.0),
            after=np.maximum((self._tail.blocking[rows, stages] - drain).max(axis=1), 0.0),
        )


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
