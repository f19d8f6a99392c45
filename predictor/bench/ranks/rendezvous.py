"""How the processes of a launcher find each other: rank 0 listens, the others come to it.

Rank 0 listens at its address alone. Each side proves to the other that it knows the run's secret,
by a keyed hash of what both have drawn at random, before either believes anything.
"""

import hashlib
import hmac
import secrets
import socket
import time
from contextlib import suppress
from typing import Any, Final

from predictor.bench.ranks.wire import Link, LinkLost
from predictor.bench.ranks.world import World
from predictor.errors import BenchError

MEET_SECONDS: Final = 120.0
PROTOCOL: Final = "predictor-bench 2"
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
            fault = _introduce(link, world)
        except (OSError, LinkLost) as error:
            last = error
            time.sleep(_RETRY_SECONDS)
            continue
        if fault:
            link.close()
            raise BenchError(f"rank {world.rank}: {fault}")
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


def _introduce(link: Link, world: World) -> str:
    """Another rank's side of the greeting; why it is not to go on, or nothing."""
    mine = secrets.token_hex()
    greeting = {"protocol": PROTOCOL, "rank": world.rank, "size": world.size, "nonce": mine}
    link.send(greeting)
    answer = link.receive(_GREETING_SECONDS)
    if "refused" in answer:
        return str(answer["refused"])
    theirs = str(answer.get("nonce"))
    if not _is_proof(answer.get("proof"), world, "rank 0", mine, theirs):
        return f"what listens at {world.address} does not know the run's secret"
    link.send({"proof": _proof(world, f"rank {world.rank}", mine, theirs)})
    return str(link.receive(_GREETING_SECONDS).get("refused", ""))


def _greet(link: Link, world: World, links: dict[int, Link]) -> None:
    """Take a rank in; whoever else knocks is sent away."""
    try:
        greeting = link.receive(_GREETING_SECONDS)
        rank = greeting.get("rank")
        fault = _fault(greeting, world, links) or _stranger(link, world, greeting)
        link.send({"refused": fault} if fault else {"protocol": PROTOCOL})
    except (LinkLost, TimeoutError):
        fault = "silent"
    if fault or not isinstance(rank, int):
        link.close()
        return
    links[rank] = link


def _stranger(link: Link, world: World, greeting: dict[str, Any]) -> str:
    """Rank 0 proves itself and asks for the same; why the other is sent away, or nothing."""
    mine, theirs = secrets.token_hex(), str(greeting.get("nonce"))
    link.send({"nonce": mine, "proof": _proof(world, "rank 0", theirs, mine)})
    given = link.receive(_GREETING_SECONDS).get("proof")
    known = _is_proof(given, world, f"rank {greeting['rank']}", theirs, mine)
    return "" if known else "rank 0 was told another secret"


def _proof(world: World, who: str, theirs: str, mine: str) -> str:
    """What only one who knows the secret can say; ``who`` keeps it from being said back."""
    said = f"{PROTOCOL} {who} of {world.size} {theirs} {mine}"
    return hmac.new(world.secret.encode(), said.encode(), hashlib.sha256).hexdigest()


def _is_proof(given: object, world: World, who: str, theirs: str, mine: str) -> bool:
    return hmac.compare_digest(str(given).encode(), _proof(world, who, theirs, mine).encode())


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
