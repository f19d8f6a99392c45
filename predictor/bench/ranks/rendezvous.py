"""How the processes of a launcher find each other: rank 0 listens, the others come to it."""

import socket
import time
from contextlib import suppress
from typing import Any, Final

from predictor.bench.ranks.wire import Link, LinkLost
from predictor.bench.ranks.world import World
from predictor.errors import BenchError

MEET_SECONDS: Final = 120.0
PROTOCOL: Final = "predictor-bench 1"
_RETRY_SECONDS: Final = 0.2
_GREETING_SECONDS: Final = 10.0
_STORE_KEY: Final = "predictor-bench-port"


def gather(world: World, *, timeout_seconds: float = MEET_SECONDS) -> dict[int, Link]:
    """Rank 0: wait until every other rank has come; links by rank.

    Raises:
        BenchError: The port is taken, or a rank did not come in time.
    """
    deadline = time.monotonic() + timeout_seconds
    links: dict[int, Link] = {}
    with _listener(world) as listener:
        if world.store:
            _store(world, timeout_seconds).set(_STORE_KEY, str(listener.getsockname()[1]))
        while len(links) < world.size - 1:
            missing = sorted(set(range(1, world.size)) - set(links))
            listener.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                connection, _ = listener.accept()
            except TimeoutError as error:
                raise BenchError(
                    f"ranks {missing} did not reach rank 0 at {world.address} port {world.port} "
                    f"in {timeout_seconds:.0f} s; see whether they run and the port is open"
                ) from error
            _greet(Link(connection), world, links)
    return links


def approach(world: World, *, timeout_seconds: float = MEET_SECONDS) -> Link:
    """Another rank: connect to rank 0, as soon as it listens.

    Raises:
        BenchError: It does not listen in time, or is of another run.
    """
    deadline = time.monotonic() + timeout_seconds
    port = world.port
    if world.store:
        port = int(_store(world, timeout_seconds).get(_STORE_KEY))
    last: Exception | None = None
    while time.monotonic() < deadline:
        try:
            connection = socket.create_connection((world.address, port), _GREETING_SECONDS)
            link = Link(connection)
            link.send({"protocol": PROTOCOL, "rank": world.rank, "size": world.size})
            answer = link.receive(_GREETING_SECONDS)
        except (OSError, LinkLost) as error:
            last = error
            time.sleep(_RETRY_SECONDS)
            continue
        if answer.get("protocol") != PROTOCOL:
            raise BenchError(f"rank {world.rank}: {answer.get('refused', 'refused by rank 0')}")
        return link
    raise BenchError(
        f"rank {world.rank} did not reach rank 0 at {world.address} port {port} in "
        f"{timeout_seconds:.0f} s ({last}); see whether rank 0 runs and the port is open"
    )


def _listener(world: World) -> socket.socket:
    port = 0 if world.store else world.port
    try:
        family, _, _, _, place = socket.getaddrinfo(
            world.address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(world.size)
    except OSError as error:
        raise BenchError(
            f"rank 0 cannot listen at {world.address} port {port}: {error}; set MASTER_ADDR to an "
            "address of rank 0's host and MASTER_PORT to a free port"
        ) from error
    return listener


def _greet(link: Link, world: World, links: dict[int, Link]) -> None:
    """Take a rank in; whoever else knocks is sent away."""
    try:
        greeting = link.receive(_GREETING_SECONDS)
        rank = greeting.get("rank")
        fault = _fault(greeting, world, links)
        link.send({"refused": fault} if fault else {"protocol": PROTOCOL})
    except (LinkLost, TimeoutError):
        fault = "silent"
    if fault or not isinstance(rank, int):
        link.close()
        return
    links[rank] = link


def _fault(greeting: dict[str, Any], world: World, links: dict[int, Link]) -> str:
    rank = greeting.get("rank")
    if greeting.get("protocol") != PROTOCOL:
        return f"rank 0 speaks {PROTOCOL!r}"
    if greeting.get("size") != world.size:
        return f"rank 0 is one of {world.size} ranks, not of {greeting.get('size')}"
    if not isinstance(rank, int) or rank not in range(1, world.size) or rank in links:
        return f"rank {rank!r} is not missing"
    return ""


def _store(world: World, timeout_seconds: float) -> Any:  # noqa: ANN401 - torch's store
    """The store of torchrun's agent, which is there where torchrun is."""
    from datetime import timedelta  # noqa: PLC0415

    from torch.distributed import TCPStore  # noqa: PLC0415 - only under torchrun

    return TCPStore(
        world.address,
        world.port,
        world.size,
        is_master=False,
        timeout=timedelta(seconds=timeout_seconds),
        wait_for_workers=False,
    )


def farewell(links: dict[int, Link]) -> None:
    """Let the other ranks end."""
    for link in links.values():
        with suppress(LinkLost):
            link.send({"do": "close"})
        link.close()
