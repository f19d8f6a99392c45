"""A rank in another process, as rank 0 sees it: requests and answers over a link."""

import itertools
import time
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final

from predictor.bench.messages import Hello, Start
from predictor.bench.process import RequestFailed
from predictor.bench.ranks.wire import Link, LinkLost, Message
from predictor.errors import BenchError

_ANSWER_MARGIN_SECONDS: Final = 5.0
_START_SECONDS: Final = 150.0


class RemoteRank:
    """The worker of another process; each instance is a new worker there."""

    _numbers = itertools.count()

    def __init__(self, link: Link, rank: int, start: Start, environment: dict[str, str]) -> None:
        """Have the other process start a worker.

        Raises:
            BenchError: It cannot, or the process is gone.
        """
        self._link = link
        self._rank = rank
        wanted = asdict(start)
        del wanted["index"]  # each process knows its own
        try:
            hello = self._exchange(
                {"do": "start", "start": wanted, "environment": environment}, _START_SECONDS
            )
        except RequestFailed as error:
            raise BenchError(f"rank {rank} has no device: {error}") from error
        self.hello = Hello(**hello)

    def ask(self, request: str, *arguments: Any, timeout_seconds: float, **named: Any) -> Any:  # noqa: ANN401
        """Carry out a request; raises RequestFailed."""
        message = {
            "do": "ask",
            "request": request,
            "arguments": arguments,
            "named": named,
            "timeout_seconds": timeout_seconds,
        }
        return self._exchange(message, timeout_seconds)

    def interrupt(self) -> None:
        """End the worker there."""
        with suppress(LinkLost):
            self._link.send({"do": "kill"})

    def close(self) -> None:
        """End the worker there; its process waits for the next."""
        self.interrupt()

    def kill(self) -> None:
        """End the worker there."""
        self.interrupt()

    def _exchange(self, message: Message, timeout_seconds: float) -> Any:  # noqa: ANN401
        number = next(self._numbers)
        deadline = time.monotonic() + timeout_seconds + _ANSWER_MARGIN_SECONDS
        try:
            self._link.send(message | {"number": number})
            while True:
                answer = self._link.receive(max(deadline - time.monotonic(), 0.0))
                if answer.get("number") == number:
                    break  # answers to requests that were given up may come late
        except TimeoutError as error:
            msg = f"{message['do']} took more than {timeout_seconds:.0f} s"
            raise RequestFailed("timeout", msg, lost=True) from error
        except LinkLost as error:
            raise RequestFailed("crash", f"{error}", lost=True) from error
        if "failure" in answer:
            failure = answer["failure"]
            raise RequestFailed(
                failure["status"], str(failure["message"]), lost=bool(failure["lost"])
            )
        return answer.get("value")
