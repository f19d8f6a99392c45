"""Order plus seconds: when every pass of every stage runs.

Each stage is a max-plus system (:mod:`predictor.iteration.maxplus`): a pass is a matrix on the
times at which its host and streams are free. Passes are joined by messages between stages. So every
time is the latest of a few earlier ones, each with some seconds added:

    time[n] = max over f of time[source[f, n]] + seconds[f, n]

and all are found in one sweep over the levels of the schedule's order: the work grows with
micro-batches times chunks, never with GPUs; several sets of seconds ("scenarios") run through it
together.

Messages either run beside computation, one at a time on each link, or stop both ends: a stage that
sends waits until its receiver has come to receive, both resume when the message is through, and the
host waits with them (Megatron-Core's ``batch_p2p_sync``, ``p2p_communication.py`` v0.19). Schedules
with several chunks a stage send and receive in one batch, so there a sender is stopped for the
length of its message alone.
"""

from bisect import bisect_right
from functools import cached_property, lru_cache

import numpy as np

from predictor.costs.prediction import Floats, Ints
from predictor.iteration.course import Course, course_of
from predictor.iteration.maxplus import COMPUTE, HOST, NEVER
from predictor.iteration.schedules.order import Order
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

    @property
    def told(self) -> tuple[Ints, ...]:
        """What tells the passes of a stage apart, by stage and place."""
        order = self.order
        return order.kind, order.micro_batch, order.chunk, self.which.reshape(order.kind.shape)


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
        return self.paths.by_number(self.paths.states(self.time)[:, COMPUTE])


def run(passes: Passes, shorter: Timeline | None = None) -> Timeline:
    """Run every pass of every stage once, exactly.

    Args:
        passes: What runs.
        shorter: The same stages with fewer micro-batches: what begins alike is taken over.
    """
    order = passes.order
    course = course_of(order, meet=not passes.overlapped and order.chunks == 1)
    paths = _Paths(passes, course)
    time = paths.longest(shorter)
    last = np.flatnonzero((course.number + 1) % order.passes == 0)
    last = last[np.argsort(course.number[last])]
    return Timeline(paths.states(time)[last].transpose(2, 0, 1), paths, time)


@frozen(eq=False)
class _Sources:
    """Where the times are that each time follows from.

    Times are the states behind all passes, place by place and stream by stream; then zeros, the
    state before the first pass of a stage; then the arrivals of messages that queue on their links.

    Attributes:
        compute: What the compute stream of each place waits for: the pass before it, messages.
        levels: For each level, where its own times are, and those that each follows from: of the
            other streams behind the pass before, then ``compute``. Scenarios lie side by side.
        arrivals: Where the arrivals of messages begin.
    """

    compute: tuple[Ints, ...]
    levels: tuple[tuple[slice, Ints], ...]
    arrivals: int


@lru_cache(maxsize=32)
def _sources(
    course: Course, streams: int, scenarios: int, *, overlapped: bool, queued: bool
) -> _Sources:
    places = len(course.number)
    arrivals = (places + 1) * streams

    def at(places_: Ints, stream: int = COMPUTE) -> Ints:
        return np.where(places_ < 0, places, places_) * streams + stream

    if queued:
        messages = [np.maximum(course.message, 0) + arrivals]
    elif overlapped:
        messages = [at(course.released)]
    else:
        messages = [at(course.released), at(course.meeting)]
    compute = (at(course.before), *messages)
    others = [at(course.before, stream) for stream in range(streams) if stream != COMPUTE]
    source = np.stack([*others, *compute])[:, :, None, None] * scenarios + np.arange(scenarios)
    source = np.repeat(source, streams, axis=2).reshape(len(source), -1)
    width = streams * scenarios
    parts = [slice(part.start * width, part.stop * width) for part in course.levels]
    levels = tuple((part, np.ascontiguousarray(source[:, part])) for part in parts)
    return _Sources(compute, levels, arrivals)


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
        self._queued = passes.overlapped and _crowded(passes)
        shape = course, self.streams, self._scenarios
        self._sources = _sources(*shape, overlapped=passes.overlapped, queued=self._queued)
        self._waits = np.where(self._send > NEVER, 0.0, NEVER) if self._queued else self._send
        self._seconds = self._beside() if passes.overlapped else self._blocking()

    def _beside(self) -> Floats:
        """Seconds from each source on where only the receiver of a message waits."""
        course, table, which, found = self._begin()
        arrived = self._waits[:, None, None] + table[COMPUTE]  # by link and number
        np.take(table[COMPUTE], which, axis=0, out=found[-2], mode="clip")
        numbers = course.arriving * table.shape[1] + which  # without a link it is the last
        np.take(_rows(arrived), numbers, axis=0, out=found[-1], mode="wrap")
        return found.reshape(len(found), -1)

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
        return found.reshape(len(found), -1)

    def _begin(self) -> tuple[Course, Floats, Ints, Floats]:
        """Seconds from each source on, so far those from other streams behind the pass before."""
        table = self.passes.matrix.transpose(3, 1, 2, 0)  # by source, number, stream and scenario
        which = self.passes.which[self._course.number]
        others = [stream for stream in range(self.streams) if stream != COMPUTE]
        count = len(others)
        found = np.empty((count + len(self._sources.compute), len(which), *table.shape[2:]))
        np.take(table[others], which, axis=1, out=found[:count], mode="clip")
        return self._course, table, which, found

    def longest(self, shorter: Timeline | None = None) -> Floats:
        """All times, by scenario."""
        sent = self._course.sent
        arrivals = len(sent.link) if self._queued else 0
        time = np.zeros((self._sources.arrivals + arrivals) * self._scenarios)
        by_scenario = time.reshape(-1, self._scenarios)
        known = 0 if shorter is None or self._queued else self._alike(shorter.paths)
        levels = self._sources.levels
        if known and shorter is not None:
            end = levels[known - 1][0].stop
            time[:end] = shorter.time.ravel()[:end]
        seconds, latest = self._seconds, np.maximum.reduce
        for (part, source), leaving in zip(levels[known:], sent.levels[known:], strict=True):
            reached = time[source]
            reached += seconds[:, part]
            latest(reached, axis=0, out=time[part])
            if self._queued:
                for messages in leaving:
                    self._leave(messages, by_scenario)
        return by_scenario

    def _alike(self, shorter: "_Paths") -> int:
        """Levels that come before any pass in which another order of the same stages differs.

        What they wait for has come before them, so they are levels of the other too.
        """
        mine, other = self.passes.told, shorter.passes.told
        count = min(mine[0].shape[1], other[0].shape[1])
        alike = np.ones(mine[0].shape, dtype=bool)
        alike[:, count:] = False
        for here, there in zip(mine, other, strict=True):
            alike[:, :count] &= here[:, :count] == there[:, :count]
        np.logical_and.accumulate(alike, axis=1, out=alike)
        differs = ~alike.ravel()[self._course.number]
        if not differs.any():
            return len(self._course.levels)
        first = int(np.argmax(differs))
        return bisect_right(self._course.levels, first, key=lambda level: level.stop)

    def _leave(self, part: slice, time: Floats) -> None:
        """Some messages leave, each when its link is free."""
        sent, arrival = self._course.sent, time[self._sources.arrivals :]
        left = time.take(sent.leaves[part] * self.streams + COMPUTE, axis=0)
        earlier = sent.earlier[part]
        free = np.where(earlier[:, None] < 0, NEVER, arrival.take(earlier, axis=0))
        arrival[part] = np.maximum(left, free) + self._send[sent.link[part]]

    def states(self, time: Floats) -> Floats:
        """Among all times the state behind each pass, by place, stream and scenario."""
        places = len(self._course.number)
        return time[: places * self.streams].reshape(places, self.streams, -1)

    def by_number(self, by_place: Floats) -> Floats:
        """The same by scenario and number of the pass."""
        found = np.empty(by_place.shape[::-1])
        found[:, self._course.number] = by_place.T
        return found

    def begun(self, time: Floats) -> Floats:
        """When the compute stream takes up each pass, by place and scenario."""
        begun, *messages = (time.take(source, axis=0) for source in self._sources.compute)
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
