"""The times of a timeline as nodes of a graph: from which earlier ones each follows.

Nodes are the states behind all passes, place by place and stream by stream; behind those of a level
come the arrivals of the messages that leave there, where messages queue on their links. Two more
are constant: the zero before the first pass of a stage, and what never comes.
"""

from functools import cached_property, lru_cache

import numpy as np

from predictor.costs.prediction import Ints
from predictor.iteration.course import Course
from predictor.iteration.maxplus import COMPUTE
from predictor.values import frozen


@frozen
class Block:
    """Levels that repeat those before them, and may be repeated again and again.

    All that is found in them follows from nodes of the block or of those before it, all that comes
    later from nodes of the block or later ones; and it follows from them just as what was found one
    block before followed from nodes that lay as far back.

    Attributes:
        begin: Its first node.
        end: The node behind it.
        first: Its first step.
        last: The step behind it.
    """

    begin: int
    end: int
    first: int
    last: int

    @property
    def before(self) -> int:
        """First node of the block that it repeats."""
        return 2 * self.begin - self.end


@frozen(eq=False, slots=False)
class Net:
    """What each time follows from.

    Attributes:
        course: The passes.
        source: Nodes that each node follows from: of the other streams behind the pass before,
            then ``compute``; of an arrival, the sender and the arrival before it on its link.
        compute: What the compute stream of each place waits for: the pass before it, messages.
        places: First node of the state behind each pass.
        messages: Node of each message's arrival; none where messages do not queue.
        steps: Nodes that are found at once, one step after another.
        scenarios: Times of a node; they lie side by side among all times.
    """

    course: Course
    source: Ints
    compute: tuple[Ints, ...]
    places: Ints
    messages: Ints
    steps: tuple[slice, ...]
    scenarios: int

    @property
    def nodes(self) -> int:
        """All but the two that are constant."""
        return int(self.source.shape[1])

    @cached_property
    def moves(self) -> tuple[tuple[slice, Ints], ...]:
        """Of each step, which of all times it finds, and where those are that they follow from."""
        count = self.scenarios
        return tuple(
            (slice(step.start * count, step.stop * count), self._wide(self.source[:, step]))
            for step in self.steps
        )

    def _wide(self, nodes: Ints) -> Ints:
        """The same with all scenarios: where the times of nodes are, by source."""
        wide = nodes[..., None] * self.scenarios + np.arange(self.scenarios)
        return np.asarray(wide.reshape(len(nodes), -1))

    @cached_property
    def block_source(self) -> Ints:
        """Where the times are that each time of the block follows from, by source."""
        return self._wide(self.source[:, self.block.begin : self.block.end])

    @cached_property
    def block(self) -> Block:
        """The last block in which every stage runs as many micro-batches as there are stages.

        Raises:
            ValueError: There is none.
        """
        first = np.append(self.places, self.nodes)
        ends = [level.stop for level in self.course.levels]
        step_of = {part.start: number for number, part in enumerate(self.steps)}
        nearest = np.where(self.source < self.nodes, self.source, self.nodes).min(axis=0)
        nearest = np.minimum.accumulate(nearest[::-1])[::-1]  # of a node and all later ones
        whole = {end - self.course.group for end in ends}.intersection(ends)
        for begin in sorted(whole, reverse=True):
            start, stop = int(first[begin]), int(first[begin + self.course.group])
            if stop == self.nodes:
                continue
            block = Block(start, stop, step_of[start], step_of[stop])
            if (
                block.before >= 0
                and nearest[stop] >= start
                and nearest[start] >= block.before
                and self._repeats(block)
            ):
                return block
        msg = "no group of micro-batches runs as the one before it"
        raise ValueError(msg)

    def _repeats(self, block: Block) -> bool:
        here = self.source[:, block.begin : block.end]
        there = self.source[:, block.before : block.begin]
        constant = np.minimum(here, there) >= self.nodes
        moved = here - there == block.end - block.begin
        return bool(np.where(constant, here == there, moved).all())


@lru_cache(maxsize=32)
def net_of(course: Course, streams: int, scenarios: int, *, overlapped: bool, queued: bool) -> Net:
    """Lay out the nodes of a course."""
    sent = course.sent
    widths = np.array([level.stop - level.start for level in course.levels])
    leaving = np.array([len(each) and each[-1].stop - each[0].start for each in sent.levels])
    leaving = leaving if queued else np.zeros_like(widths)
    before = np.cumsum(leaving) - leaving
    places = np.arange(widths.sum()) * streams + np.repeat(before, widths)
    messages = np.arange(leaving.sum()) + np.repeat(np.cumsum(widths) * streams, leaving)
    nodes = len(places) * streams + len(messages)
    zero, never = nodes, nodes + 1

    def at(found: Ints, stream: int = COMPUTE) -> Ints:
        return np.where(found < 0, zero, places[found] + stream)

    if queued:
        arrivals = [np.where(course.message < 0, never, messages[course.message])]
    elif overlapped:
        arrivals = [at(course.released)]
    else:
        arrivals = [at(course.released), at(course.meeting)]
    compute = (at(course.before), *arrivals)
    others = [at(course.before, stream) for stream in range(streams) if stream != COMPUTE]
    source = np.full((len(others) + len(compute), nodes), never)
    source[:, places[:, None] + np.arange(streams)] = np.stack([*others, *compute])[:, :, None]
    steps = []
    for level, leave in zip(course.levels, sent.levels, strict=True):
        start = int(places[level.start])
        steps.append(slice(start, start + (level.stop - level.start) * streams))
        if queued:
            steps += [slice(int(messages[m.start]), int(messages[m.stop - 1]) + 1) for m in leave]
    if queued:
        source[0, messages] = at(sent.leaves)
        source[1, messages] = np.where(sent.earlier < 0, never, messages[sent.earlier])
    return Net(course, source, compute, places, messages, tuple(steps), scenarios)
