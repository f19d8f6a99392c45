"""Who ranks of a launcher are, whom rank 0 lets in, and what messages between them are."""

import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from launchers import SECRET, free_port, mpirun, srun, tcp_pair, torchrun

from predictor.bench.ranks.choices import (
    nccl_settings,
)
from predictor.bench.ranks.rendezvous import (
    PROTOCOL,
    _greet,
    _listener,
    approach,
    farewell,
    gather,
)
from predictor.bench.ranks.wire import Link, LinkLost
from predictor.bench.ranks.world import World, first_host, world_of
from predictor.errors import BenchError


@pytest.mark.parametrize(
    ("missing", "environment", "words"),
    [
        ("MASTER_PORT", mpirun(0, 2, 1), "-x MASTER_PORT=29500"),
        ("MASTER_ADDR", mpirun(0, 2, 1), "-x MASTER_ADDR=host"),
        ("SLURM_STEP_RESV_PORTS", srun(0, 2, 1), "--resv-ports=1"),
        ("LOCAL_RANK", torchrun(0, 2, 1), "LOCAL_RANK is not set"),
        ("PREDICTOR_BENCH_SECRET", mpirun(0, 2, 1), "mpirun -x PREDICTOR_BENCH_SECRET"),
    ],
)
def test_what_a_launcher_leaves_open_is_named_not_guessed(
    missing: str, environment: dict[str, str], words: str
) -> None:
    del environment[missing]
    with pytest.raises(BenchError, match=words):
        world_of(environment)


def test_a_lone_process_is_no_world() -> None:
    assert world_of({}) is None
    assert world_of(torchrun(0, 1, 1)) is None
    # A batch script of Slurm is no task of a step.
    assert world_of({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}) is None
    with pytest.raises(BenchError, match="from 0 to 1"):
        world_of(torchrun(2, 2, 1))


@pytest.mark.parametrize(
    ("nodes", "host"),
    [("node7", "node7"), ("node[07-09,12],other", "node07"), ("a-[3,5]", "a-3"), ("x,y", "x")],
)
def test_the_first_host_of_a_node_list(nodes: str, host: str) -> None:
    assert first_host(nodes) == host


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("!I", 1 << 30),  # too long
        struct.pack("!I", 3) + b"[1]",  # no object
        struct.pack("!I", 2) + b"{(",  # no JSON
        b"",  # gone
    ],
)
def test_what_is_no_message_ends_the_link(data: bytes) -> None:
    ours, theirs = tcp_pair()
    theirs.sendall(data)
    theirs.close()
    with pytest.raises(LinkLost):
        Link(ours).receive(5.0)
    ours.close()


def test_messages_arrive_whole_or_not_in_time() -> None:
    ours, theirs = tcp_pair()
    link = Link(ours)
    Link(theirs).send({"a": [1.5, "ü"]})
    assert link.receive(5.0) == {"a": [1.5, "ü"]}
    theirs.sendall(struct.pack("!I", 8) + b'{"b"')
    with pytest.raises(TimeoutError):
        link.receive(0.05)
    theirs.sendall(b": 2}")
    assert link.receive(5.0) == {"b": 2}  # what had come was kept
    with pytest.raises(ValueError, match="exceeds"):
        link.send({"a": "x" * (5 << 20)})
    ours.close()
    theirs.close()


def world(rank: int, port: int, **changes: Any) -> World:
    found = world_of(mpirun(rank, 2, port))
    assert found is not None
    return replace(found, **changes)


def meeting(first: World, other: World) -> tuple[list[int] | str, str]:
    """Ranks that rank 0 takes in, and what becomes of the other."""

    def gathered() -> list[int] | str:
        try:
            links = gather(first, timeout_seconds=2.0)
        except BenchError as error:
            return str(error)
        farewell(links)
        return sorted(links)

    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(gathered)
        try:
            approach(other, timeout_seconds=2.0).close()
        except BenchError as error:
            return waiting.result(), str(error)
        return waiting.result(), "taken in"


def test_only_who_knows_the_secret_is_taken_in() -> None:
    port = free_port()
    assert meeting(world(0, port), world(1, port)) == ([1], "taken in")
    found, said = meeting(world(0, port), world(1, port, secret=SECRET[::-1]))
    assert "ranks [1] did not reach rank 0" in str(found)
    assert "does not know the run's secret" in said
    with pytest.raises(BenchError, match="has 5 characters"):
        world_of(mpirun(0, 2, port) | {"PREDICTOR_BENCH_SECRET": "short"})
    assert SECRET not in repr(world(0, port))


@pytest.mark.parametrize("proof", ["", "back", None])
def test_a_stranger_who_says_anything_but_the_proof_is_sent_away(proof: str | None) -> None:
    first = world(0, free_port())
    links: dict[int, Link] = {}
    ours, theirs = tcp_pair()
    with ThreadPoolExecutor(1) as threads:
        greeted = threads.submit(_greet, Link(ours), first, links)
        stranger = Link(theirs)
        stranger.send({"protocol": PROTOCOL, "rank": 1, "size": 2, "nonce": "mine"})
        answer = stranger.receive(5.0)
        stranger.send({"proof": answer["proof"] if proof == "back" else proof})
        assert stranger.receive(5.0) == {"refused": "rank 0 was told another secret"}
        greeted.result()
    stranger.close()
    assert links == {}


def test_rank_0_listens_at_its_address_alone() -> None:
    with _listener(world(0, free_port())) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_rank_0_may_set_nothing_but_nccls_variables() -> None:
    told = {"LD_PRELOAD": "/evil.so", "NCCL_ALGO": "Ring", "PYTHONPATH": "/evil"}
    assert nccl_settings(told) == {"NCCL_ALGO": "Ring"}
