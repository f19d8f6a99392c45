"""Ranks that carry out requests together, and the groups they have formed."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any, Final

from predictor.bench.process import RequestFailed, Worker

MOST_GROUPS: Final = 12
"""Groups kept open at once: a communicator holds device memory."""
_SHORT_SECONDS: Final = 20.0
_ALIGNER_BYTES: Final = 256


class Team:
    """The ranks of a run."""

    def __init__(self, ranks: Sequence[Worker]) -> None:
        """Take over workers that have said hello.

        Raises:
            RequestFailed: One of them is gone already.
        """
        self.ranks = tuple(ranks)
        self._threads = ThreadPoolExecutor(len(ranks), thread_name_prefix="rank")
        self._groups: OrderedDict[str, tuple[int, ...]] = OrderedDict()
        places = self.ask(range(len(ranks)), "place", timeout_seconds=_SHORT_SECONDS)
        self.hosts = [str(place["host"]) for place in places]

    def ask(
        self,
        members: Sequence[int],
        request: str,
        arguments: Callable[[int], tuple[Any, ...]] = lambda _: (),
        *,
        timeout_seconds: float,
        meets: bool = False,
    ) -> list[Any]:
        """Have every member carry out a request at once.

        Args:
            members: Ranks.
            request: Its name.
            arguments: Of each rank.
            timeout_seconds: For the slowest.
            meets: The members wait for each other in it, so that one's failure is everyone's loss.

        Returns:
            Answers in the order of the members.

        Raises:
            RequestFailed: The first failure, with its rank; after a loss all ranks are gone.
            BudgetEnded: The deadline came first.
        """
        asked = [
            self._threads.submit(
                self.ranks[rank].ask, request, *arguments(rank), timeout_seconds=timeout_seconds
            )
            for rank in members
        ]
        done, waiting = wait(asked, return_when=FIRST_EXCEPTION)
        first = next((error for each in done if (error := each.exception())), None)
        if first is None:
            return [each.result() for each in asked]
        lost = meets or not isinstance(first, RequestFailed) or first.lost
        if lost:
            self.interrupt()
        wait(waiting)
        if not isinstance(first, RequestFailed):
            raise first
        rank = next(
            rank
            for rank, each in zip(members, asked, strict=True)
            if each.done() and each.exception() is first
        )
        raise RequestFailed(first.status, f"rank {rank}: {first}", lost=lost)

    def group(self, members: tuple[int, ...], ctas: int, *, timeout_seconds: float) -> str:
        """Name of the group of these members, which they join if they have not yet."""
        name = f"{'-'.join(map(str, members))} ctas={ctas}"
        if name in self._groups:
            self._groups.move_to_end(name)
            return name
        (group_id,) = self.ask(members[:1], "new_group_id", timeout_seconds=_SHORT_SECONDS)
        self.ask(
            members,
            "join",
            lambda rank: (name, group_id, len(members), members.index(rank), ctas),
            timeout_seconds=timeout_seconds,
            meets=True,
        )
        launch = {
            "operator": "all_reduce",
            "fields": {"bytes": _ALIGNER_BYTES, "dtype": "fp32", "in_place": True, "group": name},
            "flops": 0.0,
            "bytes": float(_ALIGNER_BYTES),
            "working_set_bytes": float(_ALIGNER_BYTES),
            "cache": "warm",
        }
        self.ask(
            members, "prepare_launch", lambda _: (name, launch), timeout_seconds=_SHORT_SECONDS
        )
        self._groups[name] = members
        return name

    def trim(self) -> None:
        """Leave the groups that were used least lately."""
        while len(self._groups) > MOST_GROUPS:
            name, members = self._groups.popitem(last=False)
            self.ask(members, "forget", lambda _: ([name],), timeout_seconds=_SHORT_SECONDS)  # noqa: B023
            self.ask(members, "leave", lambda _: (name,), timeout_seconds=_SHORT_SECONDS)  # noqa: B023

    def interrupt(self) -> None:
        """End every rank's worker."""
        for rank in self.ranks:
            rank.interrupt()

    def close(self) -> None:
        """Stop every rank's worker."""
        with ThreadPoolExecutor(len(self.ranks)) as threads:
            wait([threads.submit(rank.close) for rank in self.ranks])
        self._threads.shutdown()

    def kill(self) -> None:
        """End every rank's worker at once."""
        for rank in self.ranks:
            rank.kill()
        self._threads.shutdown(wait=False, cancel_futures=True)
