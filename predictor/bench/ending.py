"""How a run can end, with which exit code, and what may interrupt it."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, Literal

Ending = Literal["done", "device lost", "cannot write", "interrupted", "terminated"]

EXIT_CODES: Final = {
    "done": 0,
    "failures": 3,
    "device lost": 4,
    "cannot write": 5,
    "interrupted": 130,
    "terminated": 143,
}
"""Of a run that began; bad input is 2, a fault of ours 1. ``failures``: points crashed or hung."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a run as Ctrl-C does."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM end a run as Ctrl-C does: tables are written."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread: whoever started it handles signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back Ctrl-C and SIGTERM while tables are written."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
