"""The times of a timeline as nodes of a graph: from which earlier ones each follows.

Nodes stand in rows, which are found one after another. A level of passes is a row: the states
behind them, stage by stage and stream by stream. Where messages queue on their links, arrivals of
those that leave there come in rows behind it, two if a pass may release two. The last row is
constant: the zero before the first pass of a stage, and what never comes. Where nothing runs, a
node follows from zero and is not read.
"""

from functools import cached_property, lru_cache

import numpy as np

from predictor.costs.prediction import Ints
from predictor.iteration.course import Course
from predictor.iteration.maxplus import COMPUTE
from predictor.values import frozen


@frozen
class Block:
    """Rows that repeat those before them, and may be repeated again and again.

    All that is found in them follows from rows of the block or of those before it, all that comes
    later from rows of the block or later ones; and it follows from them just as what was found one
    block before followed from rows that lay as far back.

    Attributes:
        begin: Its first row.
        end: The row behind it.
    """

    begin: int
    end: int

    @property
    def before(self) -> int:
        """First row of the block that it repeats."""
        return 2 * self.begin - self.end


@frozen(eq=False, slots=False)
class Net:
    """What each time follows from.

    Attributes:
        course: The passes.
        source: Nodes that each node follows from, by row, source and node of the row: of the other
            streams behind the pass before, then ``compute``; of an arrival, the sender and the
            arrival before it on its link.
        table: Which seconds (:mod:`predictor.iteration.timeline`) each source of a pass adds, by
            level, source and stage.
        compute: What the compute stream of each place waits for: the pass before it, messages.
        places: First node of the state behind each pass.
        messages: Node of each message's arrival; none where messages do not queue.
        spacing: Rows of a level.
    """

    course: Course
    source: Ints
    table: Ints
    compute: tuple[Ints, ...]
    places: Ints
    messages: Ints
    spacing: int

    @cached_property
    def block(self) -> Block:
        """The last block in which every stage runs as many micro-batches as there are stages.

        Raises:
            ValueError: There is none.
        """
        nearest = (self.source // self.source.shape[2]).min(axis=(1, 2))
        nearest = np.minimum.accumulate(nearest[::-1])[::-1]  # of a row and all later ones
        for begin, end in self._groups():
            block = Block(begin, end)
            if (
                block.before >= 0
                and nearest[end] >= begin
                and nearest[begin] >= block.before
                and self._repeats(block)
            ):
                return block
        raise ValueError("no group of micro-batches runs as the one before it")

    def _groups(self) -> list[tuple[int, int]]:
        """First row, and row behind the last, of levels with a group's passes; the last first."""
        ran = (self.course.number >= 0).reshape(-1, self.course.stages).sum(axis=1)
        behind = {count: level for level, count in enumerate(np.cumsum(ran).tolist(), start=1)}
        return [
            (behind[count - self.course.group] * self.spacing, level * self.spacing)
            for count, level in sorted(behind.items(), reverse=True)[1:]
            if count - self.course.group in behind
        ]

    def _repeats(self, block: Block) -> bool:
        here = self.source[block.begin : block.end]
        there = self.source[block.before : block.begin]
        rows, _, width = self.source.shape
        constant = np.maximum(here, there) >= rows * width
        moved = here - there == len(here) * width
        return bool(np.where(constant, here == there, moved).all())


@lru_cache(maxsize=32)
def net_of(course: Course, streams: int, *, overlapped: bool, queued: bool) -> Net:
    """Lay out the nodes of a course."""
    sent, stages = course.sent, course.stages
    spacing = 1 + (int(np.max(sent.second)) + 1 if queued else 0)
    rows, width = course.levels * spacing, stages * streams
    zero, never = rows * width, rows * width + 1
    level, stage = np.divmod(np.arange(len(course.number)), stages)
    places = level * spacing * width + stage * streams

    def at(found: Ints, stream: int = COMPUTE) -> Ints:
        return np.where(found < 0, zero, places[found] + stream)

    messages = np.array([], dtype=np.int64)
    if queued:
        behind = level[sent.leaves] * spacing + 1 + sent.second
        messages = behind * width + stage[sent.leaves]
        arrivals = [np.where(course.message < 0, never, messages[course.message])]
    elif overlapped:
        arrivals = [at(course.released)]
    else:
        arrivals = [at(course.released), at(course.meeting)]
    compute = (at(course.before), *arrivals)
    others = [at(course.before, stream) for stream in range(streams) if stream != COMPUTE]
    sources = np.stack([*others, *compute], axis=1).reshape(-1, stages, len(others) + len(compute))
    source = np.full((rows, sources.shape[-1], width), zero)
    by_stage = source.reshape(*source.shape[:2], stages, streams)
    by_stage[::spacing] = sources.swapaxes(1, 2)[..., None]
    if queued:
        row, node = np.divmod(messages, width)
        source[row, 0, node] = at(sent.leaves)
        source[row, 1, node] = np.where(sent.earlier < 0, never, messages[sent.earlier])
    table = _tables(course, len(others), overlapped=overlapped)
    return Net(course, source, table, compute, places, messages, spacing)


def _tables(course: Course, others: int, *, overlapped: bool) -> Ints:
    """Numbers of tables of seconds: of other streams, of the compute stream, of messages by link.

    Where messages stop both ends, there are two of the compute stream: the second where one does.
    """
    links = 2 * course.stages  # the table behind those of all links is for no message
    arriving, leaving = (
        np.where(link < 0, links, link) for link in (course.arriving, course.leaving)
    )
    found = [np.full(len(course.number), stream) for stream in range(others)]
    if overlapped:
        found += [np.full_like(arriving, others), others + 1 + arriving]
    else:
        found += [others + course.stopped, others + 2 + arriving, others + 2 + leaving]
    return np.stack(found).reshape(len(found), -1, course.stages).swapaxes(0, 1)


@lru_cache(maxsize=32)
def widened(net: Net, scenarios: int) -> Ints:
    """Where the times are that each time follows from, as those of all scenarios lie side by side.

    Returns:
        By row, source, and node and scenario.
    """
    if scenarios == 1:
        return net.source
    wide = net.source[..., None] * scenarios + np.arange(scenarios)
    return np.asarray(wide.reshape(*net.source.shape[:2], -1))
