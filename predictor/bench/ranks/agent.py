"""The process of a rank other than 0: keeps a worker for rank 0 and passes requests on."""

import os
import threading
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final

from predictor.bench.budget import Budget, BudgetEnded
from predictor.bench.messages import Start
from predictor.bench.process import RequestFailed, WorkerProcess
from predictor.bench.ranks.choices import nccl_settings, settings_here
from predictor.bench.ranks.member import RankBench
from predictor.bench.ranks.rendezvous import approach
from predictor.bench.ranks.wire import Link, LinkLost, Message
from predictor.bench.ranks.world import World
from predictor.errors import BenchError

IDLE_SECONDS: Final = 1800.0
"""Longest silence of rank 0, which may be measuring single-GPU points meanwhile."""
_ENDLESS_SECONDS: Final = 1e6


def serve_agent(world: World) -> int:
    """Serve rank 0 until it says goodbye.

    Returns:
        Exit code: 0 after a goodbye, 1 where rank 0 is gone or silent.

    Raises:
        BenchError: Rank 0 cannot be reached.
    """
    agent = _Agent(approach(world), world.local_rank)
    try:
        return agent.serve()
    finally:
        agent.end()


class _Agent:
    def __init__(self, link: Link, index: int) -> None:
        self._link = link
        self._index = index
        self._worker: WorkerProcess | None = None
        self._asking: threading.Thread | None = None

    def serve(self) -> int:
        while True:
            try:
                message = self._link.receive(IDLE_SECONDS)
            except (LinkLost, TimeoutError):
                return 1
            if message.get("do") == "close":
                return 0
            if message.get("do") == "kill":
                if self._worker is not None:
                    self._worker.interrupt()
                continue
            if self._asking is not None:
                self._asking.join()
            self._asking = threading.Thread(target=self._answer, args=(message,), daemon=True)
            self._asking.start()

    def end(self) -> None:
        if self._worker is not None:
            self._worker.interrupt()
        self._link.close()

    def _answer(self, message: Message) -> None:
        try:
            reply: Message = {"value": self._carry_out(message)}
        except RequestFailed as failure:
            reply = _failure(failure.status, str(failure), lost=failure.lost)
        except (BenchError, BudgetEnded, KeyError, TypeError, ValueError) as error:
            reply = _failure("crash", f"{type(error).__name__}: {error}", lost=True)
        with suppress(LinkLost):
            self._link.send(reply | {"number": message.get("number")})

    def _carry_out(self, message: Message) -> Any:  # noqa: ANN401
        if message["do"] == "start":
            if self._worker is not None:
                self._worker.kill()
            told = nccl_settings(message["environment"])  # nothing else is taken over
            os.environ.update(settings_here(told))
            start = Start(**message["start"] | {"index": self._index})
            self._worker = WorkerProcess(start, Budget(_ENDLESS_SECONDS), RankBench)
            return asdict(self._worker.hello)
        if message["do"] != "ask" or self._worker is None:
            raise RequestFailed("crash", f"there is no worker to {message['do']}", lost=True)
        return self._worker.ask(
            message["request"],
            *message["arguments"],
            timeout_seconds=float(message["timeout_seconds"]),
            **message["named"],
        )


def _failure(status: str, message: str, *, lost: bool) -> Message:
    return {"failure": {"status": status, "message": message, "lost": lost}}
