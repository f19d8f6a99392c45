"""Order plus seconds: when every pass of every stage runs.

Each stage is a max-plus system (:mod:`predictor.iteration.maxplus`): a pass is a matrix on the
times at which its host and streams are free. Passes are joined by messages between stages. So every
time is the latest of a few earlier ones, each with some seconds added:

    time[n] = max over f of time[source[f, n]] + seconds[f, n]

and all are found in one sweep over the levels of the schedule's order; several sets of seconds
("scenarios") run through it together. Where groups of micro-batches repeat each other, they are
swept only until they add the same again (:mod:`predictor.iteration.steady`): the work grows with
stages times chunks, never with GPUs.

Messages either run beside computation, one at a time on each link, or stop both ends: a stage that
sends waits until its receiver has come to receive, both resume when the message is through, and the
host waits with them (Megatron-Core's ``batch_p2p_sync``, ``p2p_communication.py`` v0.19). Schedules
with several chunks a stage send and receive in one batch, so there a sender is stopped for the
length of its message alone.
"""

from functools import cached_property, lru_cache

import numpy as np

from predictor.costs.prediction import Floats, Ints
from predictor.iteration.course import Course, course_of
from predictor.iteration.maxplus import COMPUTE, HOST, NEVER
from predictor.iteration.net import Net, net_of, widened
from predictor.iteration.schedules.order import Order
from predictor.iteration.steady import move_on
from predictor.values import frozen


@frozen(eq=False)
class Which:
    """Numbers of the matrices that passes use, by number of the pass.

    What follows from them is kept with this object: passes that use the same should share it.
    """

    number: Ints


@frozen(eq=False)
class Passes:
    """Seconds of a pipeline's passes.

    Attributes:
        order: Which pass follows which.
        matrix: Matrices that passes use, by scenario and number.
        which: Number of each pass's matrix.
        send_seconds: Seconds of a message by scenario, direction (0: to the next stage, 1: to the
            one before, round the ring) and sending stage.
        overlapped: Messages run beside computation.
    """

    order: Order
    matrix: Floats
    which: Which
    send_seconds: Floats
    overlapped: bool


@frozen(eq=False, slots=False)
class Timeline:
    """When passes run.

    Attributes:
        state: Times at which each stage's host and streams are free at last, by scenario.
        paths: What the times follow from.
        time: All of them.
    """

    state: Floats
    paths: "_Paths"
    time: Floats

    @cached_property
    def start(self) -> Floats:
        """When the compute stream takes up each pass; seconds, by scenario and number."""
        return self.paths.by_number(self.paths.begun(self.time))

    @cached_property
    def end(self) -> Floats:
        """When it has done it."""
        return self.paths.by_number(self.paths.ended(self.time))


def run(passes: Passes, more: int = 0) -> Timeline:
    """Run every pass of every stage once, exactly.

    Args:
        passes: What runs.
        more: Groups of as many micro-batches as there are stages that run besides, each as one in
            the middle of the order; times of what follows them are those behind all groups.

    Raises:
        ValueError: There are ``more``, and no group runs as the one before it.
    """
    order = passes.order
    course = course_of(order, meet=not passes.overlapped and order.chunks == 1)
    paths = _Paths(passes, course)
    time = paths.longest(more)
    last = course.place[order.passes - 1 :: order.passes]
    return Timeline(paths.states(time, last), paths, time)


class _Paths:
    """Times of a timeline: longest paths through the passes of all stages."""

    def __init__(self, passes: Passes, course: Course) -> None:
        """Lay out what every pass waits for, and for how long."""
        self.passes, self._course = passes, course
        self._scenarios, _, self._streams, _ = passes.matrix.shape
        send = passes.send_seconds.reshape(self._scenarios, -1).T
        none = np.full((1, self._scenarios), NEVER)
        self._send = np.concatenate([send, none])  # by link; the last for no message
        queued = passes.overlapped and _crowded(passes)
        self._net = net_of(course, self._streams, overlapped=passes.overlapped, queued=queued)
        self._source = widened(self._net, self._scenarios)
        self._waits = np.where(self._send > NEVER, 0.0, NEVER) if queued else self._send
        states = self._behind_passes()
        self._seconds = self._with_arrivals(states) if queued else states

    def _behind_passes(self) -> Floats:
        """Seconds from each source of a pass on, by level, source, and node and scenario.

        Of messages that stop both ends, one starts when both have come to it, and the hosts wait.
        """
        table = self.passes.matrix.transpose(3, 1, 2, 0)  # by source, number, stream and scenario
        others = [stream for stream in range(self._streams) if stream != COMPUTE]
        onward = table[COMPUTE, None]
        if not self.passes.overlapped:
            onward = np.stack([table[COMPUTE], np.maximum(table[COMPUTE], table[HOST])])
        tables = [table[others], onward, self._waits[:, None, None] + onward[-1]]
        rows = np.concatenate(tables).reshape(-1, self._streams * self._scenarios)
        found = rows.take(_rows(self._net, self.passes.which, table.shape[1]), axis=0)
        if not self.passes.overlapped:
            np.maximum.reduce(found[:, -3:], axis=1, out=found[:, -3])
        return np.asarray(found.reshape(*found.shape[:2], -1))

    def _with_arrivals(self, states: Floats) -> Floats:
        """The same by row: to an arrival, the seconds of its message."""
        net = self._net
        found = np.zeros(self._source.shape)
        found[:: net.spacing] = states
        row, node = np.divmod(net.messages, net.source.shape[2])
        by_node = found.reshape(*net.source.shape, -1)
        by_node[row, :, node] = self._send[self._course.sent.link][:, None]
        return found

    def longest(self, more: int) -> Floats:
        """All times, by row, and node and scenario."""
        rows, _, width = self._source.shape
        time = np.zeros((rows + 1, width))
        time[-1, self._scenarios :] = NEVER
        if not more:
            self._sweep(time, slice(rows))
            return time
        block = self._net.block
        self._sweep(time, slice(block.end))
        pause = 1
        while more:
            moved = move_on(self._net, time, self._seconds, more)
            more -= moved
            pause = 1 if moved else 2 * pause
            for _ in range(min(more, pause)):
                time[block.before : block.begin] = time[block.begin : block.end]
                self._sweep(time, slice(block.begin, block.end))
                more -= 1
        self._sweep(time, slice(block.end, rows))
        return time

    def _sweep(self, time: Floats, rows: slice) -> None:
        """Find the times of some rows."""
        every, latest = time.ravel(), np.maximum.reduce
        steps = zip(time[rows], self._source[rows], self._seconds[rows], strict=True)
        for found, source, seconds in steps:
            reached = every[source]
            reached += seconds
            latest(reached, axis=0, out=found)

    def states(self, time: Floats, places: Ints) -> Floats:
        """Among all times the state behind some passes, by scenario, place and stream."""
        nodes = self._net.places[places, None] + np.arange(self._streams)
        return np.moveaxis(self._by_node(time)[nodes], -1, 0)

    def by_number(self, by_place: Floats) -> Floats:
        """The same by scenario and number of the pass."""
        return np.ascontiguousarray(by_place[self._course.place].T)

    def _by_node(self, time: Floats) -> Floats:
        return time.reshape(-1, self._scenarios)

    def ended(self, time: Floats) -> Floats:
        """When the compute stream has done each pass, by place and scenario."""
        return np.asarray(self._by_node(time)[self._net.places + COMPUTE])

    def begun(self, time: Floats) -> Floats:
        """When the compute stream takes up each pass, by place and scenario."""
        times = self._by_node(time)
        begun, *messages = (times.take(source, axis=0) for source in self._net.compute)
        links = (self._course.arriving, self._course.leaving)
        delays = [self._waits[link] for link, _ in zip(links, messages, strict=False)]
        if not self.passes.overlapped:
            begun += np.maximum(np.maximum(*delays), 0.0)
        messages = [arrived + delay for arrived, delay in zip(messages, delays, strict=True)]
        for arrived in messages:
            np.maximum(begun, arrived, out=begun)
        return begun


@lru_cache(maxsize=32)
def _rows(net: Net, which: Which, matrices: int) -> Ints:
    """Where the seconds of each source of a pass are, among tables of so many matrices each."""
    number = which.number[net.course.number].reshape(-1, 1, net.course.stages)
    return np.asarray(net.table * matrices + number)


def _crowded(passes: Passes) -> bool:
    """Whether a message may have to wait for the one before it on its link."""
    ran = passes.matrix[:, np.flatnonzero(np.bincount(passes.which.number)), COMPUTE, COMPUTE]
    return passes.order.departs is not None or bool(np.max(passes.send_seconds) > np.min(ran))
