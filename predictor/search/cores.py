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
from multiprocessing import get_context
from typing import Any, Final, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")

MOST: Final = 8
"""Processes that a command takes by itself; more wait for what one alone can do."""

_work: list[tuple[Callable[[Any], Any], Sequence[Any]]] = []
"""Of a child: what it does, and with what."""


def cores() -> int:
    """Processors that this process may use, ``MOST`` at most."""
    able = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
    return min(able, MOST)


def able(processes: int) -> int:
    """So many processes, or one where children cannot be forked."""
    alone = threading.active_count() == 1 and sys.platform == "linux"
    return processes if alone else 1


def spread(
    function: Callable[[Item], Answer], items: Sequence[Item], processes: int
) -> Generator[Answer, None, None]:
    """Answers in the order of the items; those that come next are worked at meanwhile.

    Who stops asking (or interrupts) leaves the rest undone.

    Args:
        function: Of one item; its answer is pickled, and what it raises is raised here.
        items: What to do.
        processes: At most so many at once; 1: here.
    """
    processes = min(able(processes), len(items))
    if processes < 2:  # noqa: PLR2004
        yield from map(function, items)
        return
    pool = ProcessPoolExecutor(
        processes,
        mp_context=get_context("fork"),
        initializer=_begin,
        initargs=(function, items),  # inherited, not sent
    )
    under_way: deque[Future[Answer]] = deque()
    try:
        for place in range(len(items)):
            under_way.append(pool.submit(_at, place))
            if len(under_way) == processes:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(function: Callable[[Any], Any], items: Sequence[Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the one who asked
    _work.append((function, items))


def _at(place: int) -> Any:  # noqa: ANN401
    function, items = _work[-1]
    return function(items[place])
