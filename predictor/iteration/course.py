"""The sequence in which a schedule's passes are computed, and what each of them waits for.

Passes are put level by level: those of a level belong to different stages and need nothing of one
another, so each level is one step on arrays. Every stage has a place in every level, and leaves it
empty where it has to wait: place ``level·stages + stage``. ``-1`` stands for none.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from predictor.costs.prediction import Ints
from predictor.iteration.schedules.order import F, Order
from predictor.values import frozen


@frozen(eq=False)
class Course:
    """Passes in the sequence in which they are computed; tables by place.

    Attributes:
        stages: Stages of the pipeline.
        place: Place of each pass, by number.
        number: Number of the pass.
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

    stages: int
    place: Ints
    number: Ints
    before: Ints
    released: Ints
    message: Ints
    arriving: Ints
    meeting: Ints
    leaving: Ints
    sent: "Messages"
    group: int

    @property
    def levels(self) -> int:
        """How many there are."""
        return len(self.number) // self.stages

    @property
    def stopped(self) -> NDArray[np.bool_]:
        """Passes before which a message stops their stage, where messages do."""
        return np.maximum(self.arriving, self.leaving) >= 0


@frozen(eq=False)
class Messages:
    """Messages between stages, in the order in which they leave.

    Attributes:
        leaves: Place of the pass at whose end each leaves.
        second: 1 where the pass may release another one before it; else 0.
        link: Its link: direction times stages plus sending stage.
        earlier: The message before it on its link.
    """

    leaves: Ints
    second: Ints
    link: Ints
    earlier: Ints


@lru_cache(maxsize=32)
def course_of(order: Order, *, meet: bool) -> Course:
    """Lay out an order; with ``meet``, both ends of a message come to it first."""
    levels = order.levels(meet=meet)
    passes = order.kind.size
    number = np.full(len(levels) * order.stages, -1)
    place = np.full(passes + 1, -1)  # the last for none
    level = np.repeat(np.arange(len(levels)), [len(each) for each in levels])
    sequence = np.concatenate(levels)
    place[sequence] = level * order.stages + sequence // order.passes
    number[place[:-1]] = np.arange(passes)
    source = np.append(np.where(order.remote, order.source, -1), -1)[number]
    last = np.where(number % order.passes == 0, -1, number - 1)
    last = np.where(number < 0, -1, last)
    link = np.append(_links(order), -1)
    senders, sent = _messages(order, place, link)
    message = np.full(passes + 1, -1)
    message[senders] = np.arange(len(senders))
    meeting = np.append(order.meeting, -1) if meet else np.full(passes + 1, -1)
    return Course(
        stages=order.stages,
        place=place[:-1],
        number=number,
        before=place[last],
        released=place[np.where(source < 0, -1, order.needs[number])],
        message=message[source],
        arriving=link[source],
        meeting=place[meeting[last]],
        leaving=link[last],
        sent=sent,
        group=passes // len(order.route_of) * order.stages,
    )


def _links(order: Order) -> Ints:
    """Link of the message of each pass, by number: those to the next stage first."""
    stage = np.arange(order.kind.size) // order.passes
    down = order.target // order.passes == (stage + 1) % order.stages
    link = np.where(down, stage, order.stages + stage)
    return np.where(order.target < 0, -1, link)


def _messages(order: Order, place: Ints, link: Ints) -> tuple[Ints, Messages]:
    """Numbers of the passes that send, and their messages, as they leave."""
    senders = np.flatnonzero(order.target >= 0)
    leaves = place[senders if order.departs is None else order.departs[senders]]
    second = np.zeros_like(senders)
    if order.departs is not None:  # a pass may release the message of an F and that of a B
        second = (order.kind.ravel()[senders] != F).astype(np.int64)
    sequence = np.lexsort((second, leaves // order.stages))
    senders, leaves, second = (each[sequence] for each in (senders, leaves, second))
    links = link[senders]
    by_link = np.argsort(links, kind="stable")
    follows = np.flatnonzero(np.diff(links[by_link]) == 0)
    earlier = np.full(len(senders), -1)
    earlier[by_link[follows + 1]] = by_link[follows]
    return senders, Messages(leaves, second, links, earlier)
