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

from functools import cached_property

import numpy as np

from predictor.costs.prediction import Floats, Ints
from predictor.iteration.course import Course, course_of
from predictor.iteration.maxplus import COMPUTE, HOST, NEVER
from predictor.iteration.net import net_of
from predictor.iteration.schedules.order import Order
from predictor.iteration.steady import move_on
from predictor.values import frozen


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
    which: Ints
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
    last = np.flatnonzero((course.number + 1) % order.passes == 0)
    last = last[np.argsort(course.number[last])]
    return Timeline(paths.states(time, last).transpose(2, 0, 1), paths, time)


class _Paths:
    """Times of a timeline: longest paths through the passes of all stages.

    Attributes:
        streams: Numbers of a state.
    """

    def __init__(self, passes: Passes, course: Course) -> None:
        """Lay out what every pass waits for, and for how long."""
        self.passes, self._course = passes, course
        self._scenarios, _, self.streams, _ = passes.matrix.shape
        send = passes.send_seconds.reshape(self._scenarios, -1).T
        none = np.full((1, self._scenarios), NEVER)
        self._send = np.concatenate([send, none])  # by link; the last for no message
        queued = passes.overlapped and _crowded(passes)
        shape = course, self.streams, self._scenarios
        self._net = net_of(*shape, overlapped=passes.overlapped, queued=queued)
        self._waits = np.where(self._send > NEVER, 0.0, NEVER) if queued else self._send
        states = self._beside() if passes.overlapped else self._blocking()
        self._seconds = self._with_arrivals(states) if queued else states

    def _with_arrivals(self, states: Floats) -> Floats:
        """The same by node: of an arrival, the seconds of its message."""
        net = self._net
        found = np.zeros((len(states), net.nodes, self._scenarios))
        where = net.places[:, None] + np.arange(self.streams)
        found[:, where] = states.reshape(len(states), *where.shape, -1)
        found[:, net.messages] = self._send[self._course.sent.link]
        return found

    def _beside(self) -> Floats:
        """Seconds from each source on where only the receiver of a message waits."""
        course, table, which, found = self._begin()
        arrived = self._waits[:, None, None] + table[COMPUTE]  # by link and number
        np.take(table[COMPUTE], which, axis=0, out=found[-2], mode="clip")
        numbers = course.arriving * table.shape[1] + which  # without a link it is the last
        np.take(_rows(arrived), numbers, axis=0, out=found[-1], mode="wrap")
        return found.reshape(len(found), -1, self._scenarios)

    def _blocking(self) -> Floats:
        """Seconds from each source on where a message stops both ends, and their hosts.

        It starts when both ends have come to it.
        """
        course, table, which, found = self._begin()
        onward = np.stack([table[COMPUTE], np.maximum(table[COMPUTE], table[HOST])])
        passed = self._waits[:, None, None] + onward[1]
        numbers = course.stopped * table.shape[1] + which
        np.take(_rows(onward), numbers, axis=0, out=found[-3], mode="clip")
        for place, link in ((-2, course.arriving), (-1, course.leaving)):
            numbers = link * table.shape[1] + which
            np.take(_rows(passed), numbers, axis=0, out=found[place], mode="wrap")
            np.maximum(found[-3], found[place], out=found[-3])
        return found.reshape(len(found), -1, self._scenarios)

    def _begin(self) -> tuple[Course, Floats, Ints, Floats]:
        """Seconds from each source on, so far those from other streams behind the pass before."""
        table = self.passes.matrix.transpose(3, 1, 2, 0)  # by source, number, stream and scenario
        which = self.passes.which[self._course.number]
        others = [stream for stream in range(self.streams) if stream != COMPUTE]
        count = len(others)
        found = np.empty((count + len(self._net.compute), len(which), *table.shape[2:]))
        np.take(table[others], which, axis=1, out=found[:count], mode="clip")
        return self._course, table, which, found

    def longest(self, more: int) -> Floats:
        """All times, by node and scenario."""
        net = self._net
        time = np.zeros((net.nodes + 2, self._scenarios))
        time[-1] = NEVER
        if not more:
            self._sweep(time)
            return time
        block = net.block
        self._sweep(time, slice(block.last))
        pause = 1
        while more:
            moved = move_on(net, time, self._seconds, more)
            more -= moved
            pause = 1 if moved else 2 * pause
            for _ in range(min(more, pause)):
                time[block.before : block.begin] = time[block.begin : block.end]
                self._sweep(time, slice(block.first, block.last))
                more -= 1
        self._sweep(time, slice(block.last, None))
        return time

    def _sweep(self, time: Floats, steps: slice = slice(None)) -> None:
        """Find the times of some steps."""
        flat, latest = time.ravel(), np.maximum.reduce
        seconds = self._seconds.reshape(len(self._seconds), -1)
        for found, source in self._net.moves[steps]:
            reached = flat[source]
            reached += seconds[:, found]
            latest(reached, axis=0, out=flat[found])

    def states(self, time: Floats, places: Ints) -> Floats:
        """Among all times the state behind some passes, by place, stream and scenario."""
        return np.asarray(time[self._net.places[places, None] + np.arange(self.streams)])

    def by_number(self, by_place: Floats) -> Floats:
        """The same by scenario and number of the pass."""
        found = np.empty(by_place.shape[::-1])
        found[:, self._course.number] = by_place.T
        return found

    def ended(self, time: Floats) -> Floats:
        """When the compute stream has done each pass, by place and scenario."""
        return np.asarray(time[self._net.places + COMPUTE])

    def begun(self, time: Floats) -> Floats:
        """When the compute stream takes up each pass, by place and scenario."""
        begun, *messages = (time.take(source, axis=0) for source in self._net.compute)
        links = (self._course.arriving, self._course.leaving)
        delays = [self._waits[link] for link, _ in zip(links, messages, strict=False)]
        if not self.passes.overlapped:
            begun += np.maximum(np.maximum(*delays), 0.0)
        messages = [arrived + delay for arrived, delay in zip(messages, delays, strict=True)]
        for arrived in messages:
            np.maximum(begun, arrived, out=begun)
        return begun


def _rows(table: Floats) -> Floats:
    """The first two axes as one."""
    return table.reshape(-1, *table.shape[2:])


def _crowded(passes: Passes) -> bool:
    """Whether a message may have to wait for the one before it on its link."""
    ran = passes.matrix[:, np.flatnonzero(np.bincount(passes.which)), COMPUTE, COMPUTE]
    return passes.order.departs is not None or bool(np.max(passes.send_seconds) > np.min(ran))
