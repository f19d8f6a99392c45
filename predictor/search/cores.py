"""Work of one kind spread over processes of this machine.

Naming and pricing launches is Python, which one interpreter runs on one core. A forked child begins
with all that is known here, in milliseconds; only its answers are sent. Where forking is not safe
(other systems than Linux, a process with threads of its own) all is done here, with the same
answers.
"""

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
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


def cores() -> int:
    """Processors that this process may use, ``MOST`` at most."""
    able = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
    return min(able, MOST)


def able(processes: int) -> int:
    """So many processes, or one where children cannot be forked."""
    alone = threading.active_count() == 1 and sys.platform == "linux"
    return processes if alone else 1


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

    Who stops asking leaves the rest undone. An interrupt halts the children (:func:`halted`); their
    answers so far still come before it is raised, unless a second one comes first.

    Args:
        function: Of one item; its answer is pickled, and what it raises is raised here.
        items: What to do.
        processes: At most so many at once; 1: here.
    """
    processes = min(able(processes), len(items))
    if processes < 2:  # noqa: PLR2004
        yield from map(function, items)
        return
    context = get_context("fork")
    halt = RawValue("b", 0)
    pool = ProcessPoolExecutor(
        processes,
        mp_context=context,
        initializer=_begin,
        initargs=(function, items, halt),  # inherited, not sent
    )
    under_way: deque[Future[Answer]] = deque()
    waiting = deque(range(len(items)))
    try:
        while waiting or under_way:
            while waiting and len(under_way) < processes:
                under_way.append(pool.submit(_at, waiting.popleft()))
            try:
                answer = under_way[0].result()
            except KeyboardInterrupt:
                if halt.value:
                    raise
                halt.value = 1
                waiting.clear()
                continue
            under_way.popleft()
            yield answer
        if halt.value:
            raise KeyboardInterrupt
    finally:
        pool.shutdown(cancel_futures=True)


def halted() -> bool:
    """Whether this is a child whose parent was interrupted."""
    return bool(_work and _work[-1][2].value)


def _begin(function: Callable[[Any], Any], items: Sequence[Any], halt: Any) -> None:  # noqa: ANN401
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the one who asked
    _work.append((function, items, halt))


def _at(place: int) -> Any:  # noqa: ANN401
    function, items, _ = _work[-1]
    return function(items[place])
