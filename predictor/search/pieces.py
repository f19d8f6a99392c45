"""Every distinct part of a model over all layouts, priced once.

What a micro-batch costs on one stage depends on few fields: the degrees that cut a layer, the size
of a micro-batch, what is recomputed. Layouts that share them share a group; the parts of a group
(each kind of layer, the embedding, the head) are named by the stack, priced in one call and walked
together. Parts without experts are the same whatever splits experts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from predictor.case import Case
from predictor.costs import Costs
from predictor.costs.prediction import Floats, Ints
from predictor.iteration.collectives import collective_costs
from predictor.iteration.launches import FAMILIES, STREAMS, Segment
from predictor.iteration.layer import Layer
from predictor.iteration.maxplus import NEVER, chain, identity
from predictor.iteration.priced import GAP, Sheet, price
from predictor.iteration.slowest import slowest_factor
from predictor.search.groups import Group, Key, groups_of, keys_of
from predictor.search.layouts import Layouts
from predictor.search.settling import clocks_of

FORWARD, BACKWARD, REPLAYED, WEIGHT = range(4)
"""Segments of a part; a replayed backward pass runs the forward pass again before."""
LONE: Final = 4
"""From here on the same of passes with no other micro-batch beside them, but for weights."""

ENDS: Final = ("embedding", "head and loss")
SIZE: Final = len(STREAMS) + 1
"""Numbers of a state of all streams."""

AT_ONCE: Final = 300
"""Segments priced together: enough to share operators, few enough to stay near the processor."""

Chain = tuple[int, ...]


@dataclass(frozen=True)
class Pieces:
    """Parts of all groups.

    Attributes:
        group: Of each layout.
        clocks: Clocks of the scenarios, highest first, Hz.
        place: Number of a segment by group, part (kinds of layers, embedding, head) and segment.
        matrix: By segment, clock, row and column.
        families: Seconds by segment, clock and operator family.
    """

    group: Ints
    clocks: Floats
    place: Ints
    matrix: Floats
    families: Floats


class Stock:
    """Parts of layouts of one case, each named, priced and walked when first asked for."""

    def __init__(self, case: Case, costs: Costs) -> None:
        """Start with none."""
        self.case, self.costs, self.clocks = case, costs, clocks_of(costs)
        self._known: dict[Key, list[int]] = {}
        self._chains: dict[Chain, int] = {}
        self._new: dict[Segment | Chain, int] = {}
        self._matrix = np.empty((0, len(self.clocks), SIZE, SIZE))
        self._families = np.empty((0, len(self.clocks), len(FAMILIES)))

    def pieces(self, layouts: Layouts, *, least: bool = False) -> Pieces:
        """Parts of all groups of some layouts.

        Args:
            layouts: Of the case.
            least: Tell a prediction module as the layer that it has and a head: it is no less, and
                these are named already.
        """
        first, which = groups_of(layouts)
        keys = np.stack(keys_of(layouts), axis=1)[first].tolist()
        full = layouts.space.is_("recompute", "full", "selective")
        replays = np.bincount(which, full, minlength=len(first)) > 0
        groups = [
            Group(layouts, row, tuple(key), replays=again)
            for row, key, again in zip(first.tolist(), keys, replays.tolist(), strict=True)
        ]
        place = [self._of_group(group, least=least) for group in groups]
        self._extend()
        return Pieces(which, self.clocks, np.array(place), self._matrix, self._families)

    def _of_group(self, group: Group, *, least: bool) -> list[list[int]]:
        """Numbers of the segments of each part of a group."""
        found: dict[Layer | str, list[int]] = {}
        parts: list[Layer | str] = [*ENDS, *group.layers]
        for part in parts:
            within = replace(part, predicts=False) if isinstance(part, Layer) else part
            if least and within != part and within in found:
                found[part] = self._predicted(found[within], found[ENDS[1]], split=group.split)
            else:
                found[part] = self._of_part(group, part, least=least)
        return [found[part] for part in parts[len(ENDS) :] + parts[: len(ENDS)]]

    def _of_part(self, group: Group, part: Layer | str, *, least: bool) -> list[int]:
        """Numbers of the segments of a part; no bound asks for lone passes, which take no less."""
        usual = self._passes_of(group, part, lone=False)
        apart = not least and isinstance(part, Layer) and group.waits(part)
        lone = self._passes_of(group, part, lone=True) if apart else usual
        return [*usual, *lone[: LONE - 1]]

    def _passes_of(self, group: Group, part: Layer | str, *, lone: bool) -> list[int]:
        key = (lone, *group.key(part))
        numbers = self._known.get(key)
        replays = group.replays and isinstance(part, Layer)
        if numbers is None or (replays and numbers[REPLAYED] < 0):
            made = group.named(part, lone=lone)
            if numbers is None:
                there, back, late = (made[kind] for kind in (FORWARD, BACKWARD, WEIGHT))
                numbers = [self._added(there), self._added(back), -1, -1]
                numbers[WEIGHT] = self._added(late) if group.split and not lone else -1
            if replays:
                numbers[REPLAYED] = self._replay(made, numbers)
            self._known[key] = numbers
        return numbers

    def _replay(self, made: Sequence[Segment], numbers: Sequence[int]) -> int:
        """A replay and a backward pass: often no more than a forward and a backward pass.

        Hosts that meet in it have been apart for both.
        """
        backward, again = made[BACKWARD], made[REPLAYED]
        before = len(again.steps) - len(backward.steps)
        if again.meeting > 1 or again.steps[before:] != backward.steps:
            return self._added(again)
        if again.steps[:before] == made[FORWARD].steps:
            return self._chained(numbers[FORWARD], numbers[BACKWARD])
        host = again.host and again.host[: len(again.host) - len(backward.host or ())]
        alone = replace(again, steps=again.steps[:before], host=host)
        return self._chained(self._added(alone), numbers[BACKWARD])

    def _predicted(self, layer: Sequence[int], head: Sequence[int], *, split: bool) -> list[int]:
        """A layer and a head, one after the other."""
        there, back = layer[FORWARD], (head[BACKWARD], layer[BACKWARD])
        passes = [
            self._chained(there, head[FORWARD]),
            self._chained(*back),
            self._chained(there, *back),
        ]
        return [*passes, self._chained(head[WEIGHT], layer[WEIGHT]) if split else -1, *passes]

    def _chained(self, *numbers: int) -> int:
        if numbers not in self._chains:
            self._chains[numbers] = self._added(numbers)
        return self._chains[numbers]

    def _added(self, new: Segment | Chain) -> int:
        return self._new.setdefault(new, len(self._matrix) + len(self._new))

    def _extend(self) -> None:
        """Price and walk what is new."""
        new, self._new = [*self._new], {}
        begin = len(self._matrix)
        segments = {each: at for at, each in enumerate(new) if isinstance(each, Segment)}
        if not new:
            return
        matrix = np.empty((len(new), *self._matrix.shape[1:]))
        families = np.empty((len(new), *self._families.shape[1:]))
        named, places = list(segments), list(segments.values())
        for part in range(0, len(named), AT_ONCE):
            some = slice(part, part + AT_ONCE)
            matrix[places[some]], families[places[some]] = self._priced(named[some])
        self._matrix = np.concatenate([self._matrix, matrix])
        self._families = np.concatenate([self._families, families])
        chains = [(begin + at, each) for at, each in enumerate(new) if isinstance(each, tuple)]
        for length in {len(each) for _, each in chains}:
            mine = [(at, each) for at, each in chains if len(each) == length]
            ats, parts = [at for at, _ in mine], np.array([each for _, each in mine]).T
            self._matrix[ats] = chain([self._matrix[part] for part in parts])
            self._families[ats] = sum(self._families[part] for part in parts)

    def _priced(self, segments: Sequence[Segment]) -> tuple[Floats, Floats]:
        costs = self.costs
        sheet = price(segments, costs, collective_costs(self.case, costs))
        slowest = slowest_factor(self.case.cluster.num_gpus)
        settled = (sheet.settled(costs.heat, float(clock)) for clock in self.clocks)
        seconds = np.array([each.slowed(slowest).seconds for each in settled])
        small = sheet.queue.matrices(seconds, costs.host_seconds(GAP))
        kept = [0, *(1 + STREAMS.index(stream) for stream in sheet.layout.streams)]
        matrix = np.full((*small.shape[:2], SIZE, SIZE), NEVER)
        matrix[:] = identity(SIZE)
        matrix[:, :, np.array(kept)[:, None], kept] = small
        return matrix, _families(sheet, seconds)


def _families(sheet: Sheet, seconds: Floats) -> Floats:
    """Seconds of each segment by clock and family."""
    count = len(sheet.layout.segments)
    owner = np.repeat(np.arange(count), np.diff(sheet.layout.first))
    code = owner * len(FAMILIES) + sheet.family
    size = count * len(FAMILIES)
    sums = [np.bincount(code, row, minlength=size).reshape(count, -1) for row in seconds]
    return np.stack(sums, axis=1)
