"""The parent's side of a worker: start it, ask it with a time limit, end it."""

import multiprocessing
import time
from contextlib import suppress
from typing import Any, Final, Protocol

from predictor.bench.budget import Budget, BudgetEnded
from predictor.bench.messages import Answer, Failure, Hello, Start
from predictor.bench.worker import Bench, serve
from predictor.errors import BenchError, NativeMissing
from predictor.tables import Status

START_TIMEOUT_SECONDS: Final = 120.0
_STOP_SECONDS: Final = 2.0


class RequestFailed(Exception):  # noqa: N818 - carries a status, not an error of ours
    """A request brought no result.

    Attributes:
        status: What becomes of the point.
        lost: The worker is gone.
    """

    def __init__(self, status: Status, message: str, *, lost: bool) -> None:
        """Keep the parts."""
        super().__init__(message)
        self.status = status
        self.lost = lost


class Worker(Protocol):
    """A worker, or what stands for one."""

    hello: Hello

    def ask(self, request: str, *arguments: Any, timeout_seconds: float, **named: Any) -> Any:  # noqa: ANN401
        """Carry out a request; raises RequestFailed or BudgetEnded."""

    def interrupt(self) -> None:
        """End it from another thread: whoever waits for its answer learns that it died."""

    def close(self) -> None:
        """Stop it, by force if it does not listen."""

    def kill(self) -> None:
        """End it at once."""


class WorkerProcess:
    """One spawned worker; ``hello`` says what it found."""

    def __init__(self, start: Start, budget: Budget, bench: type[Bench] = Bench) -> None:
        """Spawn the worker and wait for its device.

        Args:
            start: What it needs to begin.
            budget: Of the run.
            bench: What answers its requests.

        Raises:
            BenchError: The device cannot be opened.
            NativeMissing: The native extension cannot be imported.
        """
        self._budget = budget
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, start, bench), daemon=True)
        self._process.start()
        theirs.close()
        try:
            hello = self._receive(START_TIMEOUT_SECONDS, "opening the device")
        except RequestFailed as error:
            self.close()
            text = str(error)
            if "ModuleNotFoundError" in text or "ImportError" in text:
                msg = (
                    f"the native extension cannot be imported ({text}); build it with "
                    "`pip install .` where a C++ compiler is, then try `bench-run doctor`"
                )
                raise NativeMissing(msg) from error
            msg = f"no {start.device} device can be opened: {text}; try `bench-run doctor`"
            raise BenchError(msg) from error
        self.hello: Hello = hello

    @property
    def pid(self) -> int | None:
        """Process id."""
        return self._process.pid

    def ask(self, request: str, *arguments: object, timeout_seconds: float, **named: object) -> Any:  # noqa: ANN401
        """Send a request and wait for its result.

        Raises:
            RequestFailed: It failed, hung (the worker is killed then) or the worker died.
            BudgetEnded: The deadline came first; the worker is killed.
        """
        try:
            self._connection.send((request, arguments, named))
        except OSError as error:
            raise self._died(request) from error
        return self._receive(timeout_seconds, request)

    def interrupt(self) -> None:
        """End the process from another thread: whoever waits for its answer learns that it died."""
        self._process.kill()

    def close(self) -> None:
        """Stop the worker, by force if it does not listen."""
        with suppress(OSError):
            self._connection.send(("stop", (), {}))
        self._process.join(_STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End the worker at once."""
        if self._process.is_alive():
            self._process.kill()
            self._process.join(_STOP_SECONDS)
        self._connection.close()

    def _receive(self, timeout_seconds: float, doing: str) -> Any:  # noqa: ANN401
        limit = min(timeout_seconds, max(self._budget.remaining(), 0.0))
        begin = time.monotonic()
        try:
            if not self._connection.poll(limit):
                self.kill()
                if limit < timeout_seconds:
                    raise BudgetEnded
                waited = time.monotonic() - begin
                msg = f"{doing} took more than {waited:.0f} s and was killed"
                raise RequestFailed("timeout", msg, lost=True)
            reply = self._connection.recv()
        except (EOFError, OSError) as error:  # the latter where it died in the middle of a message
            raise self._died(doing) from error
        if isinstance(reply, Answer):
            return reply.value
        if not isinstance(reply, Failure):
            msg = f"the worker answered {reply!r}"
            raise TypeError(msg)
        if reply.sticky:
            self.kill()
        raise RequestFailed(reply.status, reply.message, lost=reply.sticky)

    def _died(self, doing: str) -> RequestFailed:
        self._process.join(_STOP_SECONDS)
        code = self._process.exitcode
        self.kill()
        return RequestFailed("crash", f"the worker died with code {code} while {doing}", lost=True)


__all__ = ["RequestFailed", "Worker", "WorkerProcess"]
