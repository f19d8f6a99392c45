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


def run(passes: Passes) -> Timeline:
    """Run every pass of every stage once, exactly."""
    order = passes.order
    course = course_of(order, meet=not passes.overlapped and order.chunks == 1)
    paths = _Paths(passes, course)
    time = paths.longest()
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
        self._course = course
        self._scenarios, _, self.streams, _ = passes.matrix.shape
        send = passes.send_seconds.reshape(self._scenarios, -1).T
        none = np.full((1, self._scenarios), NEVER)
        self._send = np.concatenate([send, none])  # by link; the last for no message
        self._queued = passes.overlapped and _crowded(passes)
        shape = course, self.streams, self._scenarios
        self._sources = _sources(*shape, overlapped=passes.overlapped, queued=self._queued)
        self._delays = self._beside() if passes.overlapped else self._blocking()
        self._seconds = self._steps(passes)

    def _beside(self) -> list[Floats]:
        """Seconds of a message beside computation: only its receiver waits."""
        course, nothing = self._course, np.zeros((1, self._scenarios))
        if self._queued:  # they are in its arrival
            return [nothing, np.where(course.message[:, None] < 0, NEVER, 0.0)]
        return [nothing, self._send[course.arriving]]

    def _blocking(self) -> list[Floats]:
        """A blocking message starts when both ends have come to it, and stops both."""
        arriving, leaving = self._send[self._course.arriving], self._send[self._course.leaving]
        return [np.maximum(np.maximum(arriving, leaving), 0.0), arriving, leaving]

    def _steps(self, passes: Passes) -> Floats:
        """Seconds from each source on: delays and the pass itself.

        A message that stops a stage stops its host too.
        """
        table = passes.matrix.transpose(3, 1, 2, 0)  # by source, number, stream and scenario
        which = passes.which[self._course.number]
        others = [stream for stream in range(self.streams) if stream != COMPUTE]
        count = len(others)
        found = np.empty((count + len(self._delays), len(which), *table.shape[2:]))
        np.take(table[others], which, axis=1, out=found[:count], mode="clip")
        onward = table[COMPUTE].take(which, axis=0)
        if not passes.overlapped:
            stopped = self._course.stopped[:, None, None]
            np.maximum(onward, np.where(stopped, found[others.index(HOST)], NEVER), out=onward)
        for index, delay in enumerate(self._delays, start=count):
            np.add(onward, delay[:, None], out=found[index])
        return found.reshape(len(found), -1)

    def longest(self) -> Floats:
        """All times, by scenario."""
        sent = self._course.sent
        arrivals = len(sent.link) if self._queued else 0
        time = np.zeros((self._sources.arrivals + arrivals) * self._scenarios)
        by_scenario = time.reshape(-1, self._scenarios)
        for (part, source), leaving in zip(self._sources.levels, sent.levels, strict=True):
            reached = time[source]
            reached += self._seconds[:, part]
            np.maximum.reduce(reached, axis=0, out=time[part])
            if self._queued:
                for messages in leaving:
                    self._leave(messages, by_scenario)
        return by_scenario

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
        begun, *messages = (
            time.take(source, axis=0) + delay
            for source, delay in zip(self._sources.compute, self._delays, strict=True)
        )
        for arrived in messages:
            np.maximum(begun, arrived, out=begun)
        return begun


def _crowded(passes: Passes) -> bool:
    """Whether a message may have to wait for the one before it on its link."""
    ran = passes.matrix[:, np.flatnonzero(np.bincount(passes.which)), COMPUTE, COMPUTE]
    return passes.order.departs is not None or bool(np.max(passes.send_seconds) > np.min(ran))
