"""Every distinct part of a model over all layouts, priced once.

What a micro-batch costs on one stage depends on few fields: the degrees that cut a layer, the size
of a micro-batch, what is recomputed. Layouts that share them share a group; the parts of all groups
(each kind of layer, the embedding, the head) are named by the stack, priced in one call and walked
together.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from predictor.costs import Costs
from predictor.costs.prediction import Floats, Ints
from predictor.iteration.collectives import collective_costs
from predictor.iteration.launches import FAMILIES, Segment
from predictor.iteration.maxplus import then
from predictor.iteration.priced import GAP, Sheet, price
from predictor.iteration.programs import Builder
from predictor.iteration.schedules import SPLIT_BACKWARD
from predictor.iteration.slowest import slowest_factor
from predictor.search.menu import MENUS
from predictor.search.room import DEGREES, Layouts
from predictor.search.shapes import distinct
from predictor.search.walk import segment_matrices

FORWARD, BACKWARD, REPLAYED, WEIGHT = range(4)
"""Segments of a part; a replayed backward pass runs the forward pass again before."""

COOLER: Final = (0.75, 0.5)
"""Clocks, as shares of the highest, at which a step is evaluated beside the highest and that of
bursts; between them its seconds are linear in the clock's inverse."""

GROUPED: Final = (
    *DEGREES,
    "sequence_parallel",
    "context_parallel",
    "micro_batch_size",
    "tp_overlap",
)


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


def clocks_of(costs: Costs) -> Floats:
    """Clocks at which steps are evaluated, highest first."""
    heat = costs.heat
    burst = [known.burst_clock_hz for name, known in heat.families.items() if name == "gemm"]
    lower = [min(clock, heat.max_clock_hz) for clock in burst]
    lower += [share * heat.max_clock_hz for share in COOLER]
    return np.array(sorted({heat.max_clock_hz, *lower}, reverse=True))


def groups_of(layouts: Layouts) -> tuple[Ints, Ints]:
    """First layout of each group, and the group of each layout."""
    space = layouts.space
    selective = space.is_("recompute", "selective")
    split = space.is_("schedule", *SPLIT_BACKWARD)
    whole = space.is_("sharding", "parameters", "gradients")
    stages, sharding = layouts.column("pipeline_parallel"), layouts.column("sharding")
    ranks = np.where(whole, stages * (1 + sharding), 0)
    apart = MENUS[layouts.stack.name].apart & (stages > 1)
    keys = [*(layouts.column(name) for name in GROUPED), selective, split, ranks, apart]
    return distinct(keys)


def pieces_of(layouts: Layouts, costs: Costs) -> Pieces:
    """Name, price and walk the parts of all layouts."""
    space = layouts.space
    first, which = groups_of(layouts)
    split = space.is_("schedule", *SPLIT_BACKWARD)
    full = space.is_("recompute", "full", "selective")
    replays = np.bincount(which, full, minlength=len(first)) > 0
    segments: list[Segment] = []
    parts = len(layouts.kinds(0)) + 2
    place = np.full((len(first), parts, 4), -1)
    for group, row in enumerate(first):
        made = _parts(layouts, int(row), split=bool(split[row]), replays=bool(replays[group]))
        for part, mine in enumerate(made):
            for kind, segment in enumerate(mine):
                if segment is not None:
                    place[group, part, kind] = len(segments)
                    segments.append(segment)
    sheet = price(segments, costs, collective_costs(space.case, costs))
    clocks = clocks_of(costs)
    slowest = slowest_factor(space.case.cluster.num_gpus)
    settled = [sheet.settled(costs.heat, float(clock)).slowed(slowest) for clock in clocks]
    seconds = np.array([each.seconds for each in settled])
    gap = costs.host_seconds(GAP)
    host = (sheet.host_seconds, gap, sheet.queue_seconds)
    matrix = segment_matrices(sheet.layout, seconds, *host)
    return _replayed(Pieces(which, clocks, place, matrix, _families(sheet, seconds)))


def _parts(
    layouts: Layouts, row: int, *, split: bool, replays: bool
) -> list[tuple[Segment | None, ...]]:
    """Forward, backward, replayed and deferred segments of each part of a group."""
    shape = layouts.shapes.of(layouts.space, row)
    builder = Builder(layouts.stack, shape, split_backward=split)
    made: list[tuple[Segment | None, ...]] = []
    for layer in layouts.kinds(row):
        plain = builder.piece("layer", layer)
        again = builder.piece("layer", layer, replayed=True).backward if replays else None
        if again is not None and again.steps == plain.forward.steps + plain.backward.steps:
            again = None  # the forward pass and then the backward pass
        made.append((plain.forward, plain.backward, again, plain.weight if split else None))
    for label in ("embedding", "head and loss"):
        piece = builder.piece(label)
        made.append((piece.forward, piece.backward, None, piece.weight if split else None))
    return made


def _replayed(pieces: Pieces) -> Pieces:
    """Add the replays that are no more than a forward and a backward pass."""
    place = pieces.place.copy()
    missing = place[:, :-2, REPLAYED] < 0
    forward, backward = (place[:, :-2, kind][missing] for kind in (FORWARD, BACKWARD))
    place[:, :-2, REPLAYED][missing] = len(pieces.matrix) + np.arange(len(forward))
    matrix = then(pieces.matrix[forward], pieces.matrix[backward])
    families = pieces.families[forward] + pieces.families[backward]
    return replace(
        pieces,
        place=place,
        matrix=np.concatenate([pieces.matrix, matrix]),
        families=np.concatenate([pieces.families, families]),
    )


def _families(sheet: Sheet, seconds: Floats) -> Floats:
    """Seconds of each segment by clock and family."""
    count = len(sheet.layout.segments)
    owner = np.repeat(np.arange(count), np.diff(sheet.layout.first))
    code = owner * len(FAMILIES) + sheet.family
    size = count * len(FAMILIES)
    sums = [np.bincount(code, row, minlength=size).reshape(count, -1) for row in seconds]
    return np.stack(sums, axis=1)
