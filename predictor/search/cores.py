"""Work of one kind spread over processes of this machine.

Naming and pricing launches is Python, which one interpreter runs on one core. A forked child begins
with all that is known here, in milliseconds; only its answers are sent. Where forking is not safe
(other systems than Linux, a process with threads of its own) all is done here, with the same
answers.
"""

import gc
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from math import inf
from multiprocessing import get_context
from multiprocessing.sharedctypes import RawValue
from typing import Any, Final, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")

MOST: Final = 8
"""Processes that a command takes by itself; more wait for what one alone can do."""

_work: list[tuple[Callable[[Any], Any], Sequence[Any], Any]] = []
"""Of a child: what it does, with what, and whether it should come to an end."""

_halting: list[Any] = []
"""Of a parent: what tells its children to come to an end."""


def cores() -> int:
    """Processors that this process may use, ``MOST`` at most."""
    able = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
    return min(able, MOST)


def able(processes: int) -> int:
    """So many processes, or one where children cannot be forked."""
    alone = threading.active_count() == 1 and sys.platform == "linux"
    return processes if alone else 1


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the collector of cycles: a search keeps what it makes, and there is little to find.

    Looking through all of it again and again takes a tenth of a search, and makes every child copy
    the pages that it shares.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class Limit:
    """A number that only falls, seen by this process and by children that are forked later.

    Who writes at the same time as another may undo a fall: what is read was told by someone.
    """

    def __init__(self) -> None:
        """Start without a limit."""
        self._value = RawValue("d", inf)

    @property
    def value(self) -> float:
        """The number."""
        return float(self._value.value)

    def lower(self, value: float) -> None:
        """Let it fall to a number, if it is higher."""
        self._value.value = min(self._value.value, value)


def spread(
    function: Callable[[Item], Answer], items: Sequence[Item], processes: int
) -> Generator[Answer, None, None]:
    """Answers in the order of the items; those that come next are worked at meanwhile.

    This process works too, and so knows what it learnt when children are forked anew. Who stops
    asking leaves the rest undone. An interrupt halts the children (:func:`halted`); answers so far
    still come before it is raised, unless a second one comes first. A function that answers in
    spite of an interrupt calls :func:`halt`.

    Args:
        function: Of one item; what it answers is pickled, and what it raises is raised here.
        items: What to do.
        processes: At most so many at once; 1: this one alone.
    """
    processes = min(able(processes), len(items))
    if processes < 2:  # noqa: PLR2004
        yield from map(function, items)
        return
    halting = RawValue("b", 0)
    _halting.append(halting)
    pool = ProcessPoolExecutor(
        processes - 1,
        mp_context=get_context("fork"),
        initializer=_begin,
        initargs=(function, items, halting),  # inherited, not sent
    )
    try:
        yield from _answers(pool, function, items, processes - 1)
        if halting.value:
            raise KeyboardInterrupt
    finally:
        _halting.remove(halting)
        pool.shutdown(cancel_futures=True)


def _answers(
    pool: ProcessPoolExecutor,
    function: Callable[[Item], Answer],
    items: Sequence[Item],
    children: int,
) -> Generator[Answer, None, None]:
    """Answers of children, and of this process while it would wait for them."""
    halting, waiting = _halting[-1], deque(range(len(items)))
    known: dict[int, Future[Answer]] = {}
    for place in range(len(items)):
        while not (place in known and known[place].done()):
            try:
                if halting.value:
                    waiting.clear()
                busy = sum(not each.done() for each in known.values())
                ahead = children if len(waiting) > children + 1 else 0
                if waiting and busy < children + ahead:
                    with _uninterrupted():
                        given = waiting.popleft()
                        known[given] = pool.submit(_at, given)
                elif waiting and waiting[0] <= place + 3 * children:
                    mine = waiting.popleft()
                    known[mine] = _done(function, items[mine])
                elif place in known:
                    known[place].exception()
                else:
                    break
            except KeyboardInterrupt:
                if halting.value:
                    raise
                halting.value = 1
        if place in known:
            yield known.pop(place).result()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """An interrupt waits until what was begun is noted: its answer would be lost."""
    came: list[tuple[Any, ...]] = []
    before = signal.signal(signal.SIGINT, lambda *given: came.append(given))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came and callable(before):
            before(*came[0])


def _done(function: Callable[[Item], Answer], item: Item) -> Future[Answer]:
    """What this process finds by itself."""
    found: Future[Answer] = Future()
    try:
        found.set_result(function(item))
    except Exception as error:  # noqa: BLE001 - raised in its turn
        found.set_exception(error)
    return found


def halt() -> None:
    """Let children of this process come to an end."""
    for each in _halting:
        each.value = 1


def halted() -> bool:
    """Whether this is a child whose parent was interrupted."""
    return bool(_work and _work[-1][2].value)


def _begin(function: Callable[[Any], Any], items: Sequence[Any], halt: Any) -> None:  # noqa: ANN401
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the one who asked
    _work.append((function, items, halt))


def _at(place: int) -> Any:  # noqa: ANN401
    function, items, _ = _work[-1]
    return function(items[place])
