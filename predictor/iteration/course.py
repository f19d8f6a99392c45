"""The sequence in which a schedule's passes are computed, and what each of them waits for.

Passes are put level by level: those of a level belong to different stages and need nothing of one
another, so each level is one step on arrays. Places count passes in that sequence; ``-1`` stands
for none and reads the last row of a table, which holds what stands for nothing.
"""

from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from predictor.costs.prediction import Ints
from predictor.iteration.schedules.order import Order
from predictor.values import frozen


@frozen(eq=False)
class Course:
    """Passes in the sequence in which they are computed; tables by place.

    Attributes:
        number: Number of the pass.
        levels: Places of each level.
        before: Place of the pass that its stage runs before.
        released: Place of the pass at whose end the message leaves that it needs.
        message: That message.
        arriving: Link of that message.
        meeting: Place of the pass after which the receiver of the stage's last message can receive
            it; none where stages do not wait for that.
        leaving: Link of the stage's last message.
        sent: All messages, in the order in which they leave.
        group: Passes of all stages, of as many micro-batches as there are stages.
    """

    number: Ints
    levels: tuple[slice, ...]
    before: Ints
    released: Ints
    message: Ints
    arriving: Ints
    meeting: Ints
    leaving: Ints
    sent: "Messages"
    group: int

    @property
    def stopped(self) -> NDArray[np.bool_]:
        """Passes before which a message stops their stage, where messages do."""
        return np.maximum(self.arriving, self.leaving) >= 0


@frozen(eq=False)
class Messages:
    """Messages between stages, in the order in which they leave.

    Attributes:
        leaves: Place of the pass at whose end each leaves.
        link: Its link: direction times stages plus sending stage.
        earlier: The message before it on its link.
        levels: For each level, those that leave at its end: one after another on each link.
    """

    leaves: Ints
    link: Ints
    earlier: Ints
    levels: tuple[tuple[slice, ...], ...]


@lru_cache(maxsize=32)
def course_of(order: Order, *, meet: bool) -> Course:
    """Lay out an order; with ``meet``, both ends of a message come to it first."""
    levels = order.levels(meet=meet)
    number = np.concatenate(levels)
    ends = np.cumsum([len(level) for level in levels])
    place = np.empty(len(number) + 1, dtype=np.int64)
    place[number], place[-1] = np.arange(len(number)), -1
    source = np.where(order.remote, order.source, -1)[number]
    last = np.where(number % order.passes == 0, -1, number - 1)
    link = np.append(_links(order), -1)
    senders, sent = _messages(order, place, ends, link)
    message = np.full(len(number) + 1, -1)
    message[senders] = np.arange(len(senders))
    meeting = np.append(order.meeting, -1) if meet else np.full(len(number) + 1, -1)
    return Course(
        number=number,
        levels=_slices(ends),
        before=place[last],
        released=place[np.where(source < 0, -1, order.needs[number])],
        message=message[source],
        arriving=link[source],
        meeting=place[meeting[last]],
        leaving=link[last],
        sent=sent,
        group=order.kind.size // len(order.route_of) * order.stages,
    )


def _links(order: Order) -> Ints:
    """Link of the message of each pass, by number: those to the next stage first."""
    stage = np.arange(order.kind.size) // order.passes
    down = order.target // order.passes == (stage + 1) % order.stages
    link = np.where(down, stage, order.stages + stage)
    return np.where(order.target < 0, -1, link)


def _messages(order: Order, place: Ints, ends: Ints, link: Ints) -> tuple[Ints, Messages]:
    """Numbers of the passes that send, and their messages, as they leave."""
    senders = np.flatnonzero(order.target >= 0)
    leaves = place[senders if order.departs is None else order.departs[senders]]
    level = np.searchsorted(ends, leaves, side="right")
    kind = np.zeros_like(senders)
    if order.departs is not None:  # a pass may release the message of an F and that of a B
        kind = order.kind.ravel()[senders]
    sequence = np.lexsort((leaves, kind, level))
    senders, leaves, level, kind = (each[sequence] for each in (senders, leaves, level, kind))
    links = link[senders]
    by_link = np.argsort(links, kind="stable")
    follows = np.flatnonzero(np.diff(links[by_link]) == 0)
    earlier = np.full(len(senders), -1)
    earlier[by_link[follows + 1]] = by_link[follows]
    groups: list[list[slice]] = [[] for _ in ends]
    for part in _slices(np.append(np.flatnonzero(np.diff(2 * level + kind)) + 1, len(senders))):
        if part.stop > part.start:
            groups[level[part.start]].append(part)
    return senders, Messages(leaves, links, earlier, tuple(tuple(each) for each in groups))


def _slices(ends: Ints) -> tuple[slice, ...]:
    """Parts between one end and the next."""
    bounds = [0, *ends.tolist()]
    return tuple(slice(begin, end) for begin, end in pairwise(bounds))
