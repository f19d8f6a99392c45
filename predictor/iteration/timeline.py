"""Order plus seconds: when every pass of every stage runs.

Each stage is a max-plus system (:mod:`predictor.iteration.maxplus`): a pass is a matrix on the
times at which its host and streams are free. Passes are joined by messages between stages. Stages
advance together, level by level of the schedule's order, so the work grows with micro-batches times
chunks, never with GPUs; several sets of seconds ("scenarios") run through one sweep.

Messages either run beside computation, one at a time on each link, or stop both ends: a stage that
sends waits until its receiver has come to receive, both resume when the message is through, and the
host waits with them (Megatron-Core's ``batch_p2p_sync``, ``p2p_communication.py`` v0.19). Schedules
with several chunks a stage send and receive in one batch, so there a sender is stopped for the
length of its message alone.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from predictor.costs.prediction import Floats, Ints
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


@frozen(eq=False)
class Timeline:
    """When passes run.

    Attributes:
        state: Times at which each stage's host and streams are free at last, by scenario.
        start: When the compute stream takes up each pass; seconds, by scenario and number.
        end: When it has done it; one more, at the end, is never.
    """

    state: Floats
    start: Floats
    end: Floats


@frozen(eq=False)
class _Level:
    """Passes of different stages that may run at once; -1 stands for none.

    Attributes:
        numbers: Their numbers.
        stages: Their stages.
        source: The pass of another stage whose message each needs.
        released_by: The pass at whose end that message leaves.
        arriving: Link of that message: direction and sending stage.
        meeting: Pass after which the receiver of the stage's last message can receive it.
        leaving: Link of the stage's last message.
        stopped: Which of them a message stops (blocking messages alone).
        messages: What leaves when these passes end, one after another on each link.
    """

    numbers: Ints
    stages: Ints
    source: Ints
    released_by: Ints
    arriving: tuple[Ints, Ints]
    meeting: Ints
    leaving: tuple[Ints, Ints]
    stopped: NDArray[np.bool_]
    messages: tuple["_Messages", ...]


@frozen(eq=False)
class _Messages:
    """Messages on different links.

    Attributes:
        places: Places in a level of the passes at whose end they leave.
        senders: Numbers of the passes whose messages they are.
        link: Direction and sending stage.
    """

    places: Ints
    senders: Ints
    link: tuple[Ints, Ints]


@lru_cache(maxsize=32)
def _levels(order: Order, *, overlapped: bool) -> tuple[_Level, ...]:
    stage = np.arange(order.kind.size) // order.passes
    target = order.target
    down = target // order.passes == (stage + 1) % order.stages
    direction = np.where(target < 0, -1, np.where(down, 0, 1))
    source = np.where(order.remote, order.source, -1)
    previous = np.arange(order.kind.size) - 1
    previous[:: order.passes] = -1
    released = np.full((2, order.kind.size), -1)  # by kind: a pass may release an F and a B
    sends = np.flatnonzero(target >= 0)
    departs = sends if order.departs is None else order.departs[sends]
    released[order.kind.ravel()[sends], departs] = sends
    result = []
    meet = not overlapped and order.chunks == 1
    for numbers in order.levels(meet=meet):
        last = previous[numbers]
        came, stages = source[numbers], stage[numbers]
        leaving = np.where(last < 0, -1, direction[last])
        arriving = np.where(came < 0, -1, direction[came])
        messages = []
        for leaving_kind in released:
            places = np.flatnonzero(leaving_kind[numbers] >= 0)
            senders = leaving_kind[numbers[places]]
            if len(places):
                link = (direction[senders], stages[places])
                messages.append(_Messages(places, senders, link))
        result.append(
            _Level(
                numbers=numbers,
                stages=stages,
                source=came,
                released_by=np.where(came < 0, -1, order.needs[numbers]),
                arriving=(arriving, stage[came]),
                meeting=np.where((last < 0) | (not meet), -1, order.meeting[last]),
                leaving=(leaving, stages),
                stopped=(arriving >= 0) | (leaving >= 0),
                messages=tuple(messages),
            )
        )
    return tuple(result)


def run(passes: Passes) -> Timeline:
    """Run every pass of every stage once, exactly."""
    order = passes.order
    scenarios, _, size, _ = passes.matrix.shape
    timeline = Timeline(
        state=np.zeros((scenarios, order.stages, size)),
        start=np.zeros((scenarios, order.kind.size)),
        end=np.full((scenarios, order.kind.size + 1), NEVER),
    )
    (_sweep_overlapped if passes.overlapped else _sweep_blocking)(passes, timeline)
    return timeline


def _advance(passes: Passes, level: _Level, now: Floats, timeline: Timeline) -> Floats:
    """Run one level from the state that its messages left; returns when each pass has ended."""
    timeline.start[:, level.numbers] = now[:, :, COMPUTE]
    matrix = passes.matrix[:, passes.which[level.numbers]]
    now = (matrix + now[:, :, None, :]).max(axis=3)
    timeline.state[:, level.stages] = now
    ended = now[:, :, COMPUTE]
    timeline.end[:, level.numbers] = ended
    return ended


def _sweep_overlapped(passes: Passes, timeline: Timeline) -> None:
    """Messages leave when a pass has ended and its link is free; only their receiver waits."""
    send = passes.send_seconds
    arrival = np.full_like(timeline.end, NEVER)
    free = np.zeros_like(send)
    shortest = np.min(passes.matrix[:, :, COMPUTE, COMPUTE])
    crowded = passes.order.departs is not None or np.max(send) > shortest
    for level in _levels(passes.order, overlapped=True):
        now = timeline.state[:, level.stages]
        np.maximum(now[:, :, COMPUTE], arrival[:, level.source], out=now[:, :, COMPUTE])
        ended = _advance(passes, level, now, timeline)
        for message in level.messages:
            direction, stages = message.link
            left = ended[:, message.places]
            if crowded:  # another may still be under way
                left = np.maximum(left, free[:, direction, stages])
                free[:, direction, stages] = left + send[:, direction, stages]
            arrival[:, message.senders] = left + send[:, direction, stages]


def _sweep_blocking(passes: Passes, timeline: Timeline) -> None:
    """Messages start when both ends have come to them and stop both until they are through."""
    never = np.full_like(passes.send_seconds[:, :1], NEVER)
    send = np.concatenate([passes.send_seconds, never], axis=1)  # direction -1: no message
    for level in _levels(passes.order, overlapped=False):
        now = timeline.state[:, level.stages]
        free = now[:, :, COMPUTE]
        come = np.maximum(free, timeline.end[:, level.released_by])
        come += send[:, level.arriving[0], level.arriving[1]]
        gone = np.maximum(free, timeline.end[:, level.meeting])
        gone += send[:, level.leaving[0], level.leaving[1]]
        free = np.maximum(free, np.maximum(come, gone))
        now[:, :, COMPUTE] = free
        host = np.maximum(now[:, :, HOST], np.where(level.stopped, free, 0.0))
        now[:, :, HOST] = host
        _advance(passes, level, now, timeline)
