"""Kernels that run beside a collective slow each other: the one place that says by how much.

A collective that another stream computes beside shares SMs, memory and power with it. Seconds of
launches come in as measured alone and leave as they are in company. Slowdowns are factors of a pair
(compute family, collective), measured (:mod:`predictor.costs.interference`).

A collective of tensor parallelism comes together with one product, and computation waits for both:
no later kernel fills what it leaves idle. On GPUs with clusters of blocks most of its time is lost
(:data:`LOST_BESIDE_A_PRODUCT`), where one among many kernels costs a quarter of its own.

Kernels of ``C`` seconds with factor ``f`` beside a collective of ``d`` seconds with factor ``g``,
each slowed while both run:

    if g·d ≤ f·C:   d' = g·d,   C' = C + g·d·(1 - 1/f)
    else:           C' = f·C,   d' = d + f·C·(1 - 1/g)
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from predictor.costs.interference import Slowdowns, load_slowdowns
from predictor.costs.prediction import Floats, Ints
from predictor.iteration.launches import Launch, Segment, Step, Wait
from predictor.operators import Gemm, SendRecv

LIKE: Final = {
    "grouped_gemm": "gemm",
    "optimizer": "memory_bound",
    "broadcast": "all_gather",
}
"""What was not measured beside anything slows and is slowed as what it resembles."""

COPIED: Final = "copied"
"""Rows that tensor ranks exchange round a ring with copy engines (Transformer Engine 2.8,
``module/base.py``: one SM, ``use_ce``): they take nothing from products."""

LOST_BESIDE_A_PRODUCT: Final = 0.7
"""What a second of a tensor-parallel collective still costs with its product beside it.

The product holds the SMs until its last wave; where the collective is first
(``CUDA_DEVICE_MAX_CONNECTIONS=1``), its last blocks wait instead. Traces of two steps over two
H200s have 0.58 to 0.74 both ways (docs/implementations.md); no Ampere was traced."""


def interfered(
    segments: Sequence[Segment],
    first: Ints,
    seconds: Floats,
    slowdown: Slowdowns | None = None,
    *,
    clusters: bool = True,
) -> Floats:
    """Seconds of every launch beside what runs at the same time.

    A collective meets the compute launches of its segment between itself and the wait for its
    stream; one that is not waited for before the segment ends meets the beginning of a repetition.
    Collectives that another segment leaves behind it (a bucket of gradients) meet the segments in
    whose company it is.

    Args:
        segments: Whose launches the rows are.
        first: Row of each segment's first launch.
        seconds: Of each launch, alone.
        slowdown: Factors by compute family and collective; None: as measured.
        clusters: Products run in clusters of blocks, as from Hopper on.
    """
    meetings = _Meetings(clusters=clusters)
    places = {segment: place for place, segment in enumerate(segments)}
    for place, segment in enumerate(segments):
        if segment.company or any(_sent(step) for step in segment.steps):
            meetings.of_segment(segment, first, place, places)
    factors = load_slowdowns() if slowdown is None else slowdown
    return meetings.slowed(seconds, factors) if meetings.rows else seconds


class _Meetings:
    """Every collective of some segments with the compute launches beside it.

    Attributes:
        rows: Row, kind and share of each collective; to its kind belongs whether it comes with a
            product that keeps it waiting.
        beside: Places in ``compute`` between which its partners are, and which collective.
        compute: Row and operator of every compute launch of these segments, in order.
        clusters: Products run in clusters of blocks.
    """

    def __init__(self, *, clusters: bool) -> None:
        """Start with none."""
        self.clusters = clusters
        self.rows: list[tuple[int, tuple[str, bool], float]] = []
        self.beside: list[tuple[int, int, int]] = []
        self.compute: list[tuple[int, str]] = []

    def of_segment(
        self, segment: Segment, first: Ints, place: int, places: Mapping[Segment, int]
    ) -> None:
        """Add what meets in one segment, and what others leave behind them in its company."""
        compute, row = self.compute, int(first[place]) - 1
        begin = len(compute)
        under_way: dict[str, list[tuple[int, int]]] = {}
        waited: dict[str, int] = {}
        for step in segment.steps:
            if isinstance(step, Launch):
                row += 1
                if step.stream == "compute":
                    compute.append((row, step.operator.name))
                else:
                    meeting = self._collective(step, row, 1.0)
                    under_way.setdefault(step.stream, []).append((meeting, len(compute)))
            elif isinstance(step, Wait):
                waited.setdefault(step.stream, len(compute))
                for meeting, since in under_way.pop(step.stream, ()):
                    self.beside.append((since, len(compute), meeting))
        end = len(compute)
        for stream, pairs in under_way.items():  # they meet the beginning of a repetition
            for meeting, since in pairs:
                again = min(since, waited.get(stream, since))
                self.beside += [(since, end, meeting), (begin, again, meeting)]
        for other, share in segment.company:
            behind = int(first[places[other]])
            for at, launch in _under_way(other):
                self.beside.append((begin, end, self._collective(launch, behind + at, share)))

    def _collective(self, launch: Launch, row: int, share: float) -> int:
        kind = LIKE.get(launch.operator.name, launch.operator.name)
        tensor = launch.stream == "tensor"
        if tensor and kind == SendRecv.name:
            kind = COPIED
        self.rows.append((row, (kind, tensor and self.clusters), share))
        return len(self.rows) - 1

    def slowed(self, seconds: Floats, factors: Slowdowns) -> Floats:
        """Seconds of all launches, each longer by what it meets."""
        rows, kinds, shares = zip(*self.rows, strict=True)
        begin, end, meeting = np.array(self.beside, dtype=np.int64).T
        length = end - begin
        meeting = np.repeat(meeting, length)
        partner = np.arange(len(meeting)) + np.repeat(begin - (np.cumsum(length) - length), length)
        row = np.array([each for each, _ in self.compute], dtype=np.int64)[partner]
        pairs, kind, family = _table(kinds, [name for _, name in self.compute], factors)
        mine, its = pairs[kind[meeting], family[partner]].T
        alone = seconds[list(rows)] * shares

        def summed(weight: Floats | float) -> Floats:
            sums = np.bincount(meeting, weight * seconds[row], minlength=len(rows))
            return sums.astype(np.float64, copy=False)

        mine, its = _met(summed(1.0), alone, summed(mine), summed(its))
        result = seconds.copy()
        np.multiply.at(result, row, mine[meeting])
        np.multiply.at(result, list(rows), its ** np.array(shares))
        return result


def _sent(step: Step) -> bool:
    """Whether a step runs beside the compute stream."""
    return isinstance(step, Launch) and step.stream != "compute"


def _under_way(segment: Segment) -> Iterator[tuple[int, Launch]]:
    """Collectives that a segment leaves behind it, with their places: none that it waits for."""
    waited = {
        step.stream: place for place, step in enumerate(segment.steps) if isinstance(step, Wait)
    }
    launch = -1
    for place, step in enumerate(segment.steps):
        if isinstance(step, Launch):
            launch += 1
            if place > waited.get(step.stream, -1):
                yield launch, step


def _table(
    kinds: Sequence[tuple[str, bool]], families: Sequence[str], factors: Slowdowns
) -> tuple[Floats, Ints, Ints]:
    """Factors by kind and family of what is there, and the place of each in them."""
    known, words = dict.fromkeys(kinds), dict.fromkeys(families)
    pairs = [
        [_pair(factors, LIKE.get(word, word), kind, waited=waited) for word in words]
        for kind, waited in known
    ]
    place = {kind: at for at, kind in enumerate(known)}
    column = {word: at for at, word in enumerate(words)}
    return (
        np.array(pairs, dtype=float).reshape(len(known), len(words), 2),
        np.array([place[kind] for kind in kinds], dtype=np.int64),
        np.array([column[word] for word in families], dtype=np.int64),
    )


def _pair(factors: Slowdowns, family: str, kind: str, *, waited: bool) -> tuple[float, float]:
    """Factors of a compute family and a collective; ``waited``: it comes with one product."""
    mine, its = factors.get((family, kind), (1.0, 1.0))
    if waited and family == Gemm.name and (family, kind) in factors:
        mine = its / (its - LOST_BESIDE_A_PRODUCT)  # of eq. 23: loss = g · (1 - 1/f)
    return mine, its


def _met(whole: Floats, alone: Floats, mine: Floats, its: Floats) -> tuple[Floats, Floats]:
    """By how much compute launches and the collectives beside them grow.

    Args:
        whole: Seconds of the launches beside each collective.
        alone: Seconds of the collective.
        mine: Seconds of these launches, each times its factor.
        its: The same, times the collective's factor beside each.
    """
    meets = (whole > 0) & (alone > 0)
    whole, alone = np.where(meets, whole, 1.0), np.where(meets, alone, 1.0)
    mine, its = mine / whole, its / whole
    short = its * alone <= mine * whole
    with np.errstate(divide="ignore", invalid="ignore"):  # of pairs that do not meet
        compute = np.where(short, 1.0 + its * alone * (1.0 - 1.0 / mine) / whole, mine)
        collective = np.where(short, its, 1.0 + mine * whole * (1.0 - 1.0 / its) / alone)
    return np.where(meets, compute, 1.0), np.where(meets, collective, 1.0)
