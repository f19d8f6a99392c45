"""Ranks on a double whose collectives wait for each other: faults, launchers, namespaces."""

import importlib
import os
import runpy
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from predictor.bench import session
from predictor.bench.main import Options, Outcome, ranks_of
from predictor.bench.points import Point
from predictor.bench.ranks import launch
from predictor.bench.ranks.choices import (
    Choices,
    choices,
    log_settings,
    nccl_settings,
    settings_here,
)
from predictor.bench.ranks.member import gpu_index
from predictor.bench.ranks.rendezvous import (
    PROTOCOL,
    _greet,
    _listener,
    approach,
    farewell,
    gather,
)
from predictor.bench.ranks.rounds import Beside
from predictor.bench.ranks.wire import Link, LinkLost
from predictor.bench.ranks.world import World, first_host, world_of
from predictor.bench.worker import Start
from predictor.errors import BenchError
from predictor.operators import (
    AllGather,
    AllReduce,
    AllToAll,
    Interference,
    SendRecv,
)
from predictor.tables import read_folder

HERE = Path(__file__).parent
FAULTS = {"killed": 70_001, "hangs": 70_002, "sticky": 70_003, "wrong": 70_004, "crowded": 70_005}
SLOW_BYTES = 70_006
SECRET = "0123456789abcdef"  # noqa: S105 - of these tests
promise = runpy.run_path(str(HERE / "faults.py"))["FAULTS"].__getitem__
SLOWED_BYTES = 3 << 20

Measure = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOUBLE_FOLDER", str(tmp_path))
    monkeypatch.setenv("PREDICTOR_BENCH_SECRET", SECRET)
    monkeypatch.setenv("NCCL_NVLS_ENABLE", "0")
    monkeypatch.setenv("NCCL_GRAPH_REGISTER", "0")


@pytest.fixture
def together(measure: Measure) -> Measure:
    """Measure points on two ranks or more."""

    def measure_together(*points: Point, **options: Any) -> Outcome:
        return measure(*points, **{"gpus": 2, "native_module": "ranks_double"} | options)

    return measure_together


def all_reduce(size: int, ranks: int = 2, **fields: Any) -> Point:
    return Point(operator=AllReduce(bytes=size, ranks=ranks, ranks_per_node=ranks, **fields))


def statuses(outcome: Outcome) -> dict[int, str]:
    return {row.operator.bytes: row.status for row in outcome.rows}


def toy_seconds(size: int, rank: int) -> float:
    """Of the double: 5 µs and 1 TB/s, a tenth slower with every rank; the middle of 0.1 % steps."""
    return (5e-6 + size / 1e12) * (1 + 0.1 * rank)


def test_seconds_are_the_slowest_ranks(together: Measure) -> None:
    outcome = together(all_reduce(1 << 20), all_reduce(1 << 30))
    assert outcome.exit_code == 0
    rows = {row.operator.bytes: row for row in outcome.rows}
    for size, row in rows.items():
        assert row.status == "ok"
        assert row.rounds == 3
        assert row.seconds == pytest.approx(toy_seconds(size, 1), rel=0.03)
        assert row.seconds > toy_seconds(size, 1)
    folder = read_folder(outcome.folder)
    device = folder.runs[outcome.run]["device"]
    assert (device["gpus"], device["nodes"]) == (2, 1)
    assert folder.runs[outcome.run]["environment"]["NCCL_NVLS_ENABLE"] == "0"
    assert folder.runs[outcome.run]["libraries"]["nccl"] == "2.28.9"


def test_four_ranks_form_groups_pairs_and_rings(together: Measure) -> None:
    points = [
        all_reduce(4096, 4),
        all_reduce(4096, 2, groups=2),
        Point(operator=AllToAll(bytes=4096, ranks=4, ranks_per_node=4, pattern="uneven")),
        Point(operator=SendRecv(bytes=4096, ranks=4, ranks_per_node=4, pattern="ring")),
        Point(operator=SendRecv(bytes=4096, ranks=2, ranks_per_node=2, source=3, destination=1)),
        Point(operator=AllGather(bytes=4096, ranks=2, ranks_per_node=2)),
    ]
    outcome = together(*points, gpus=4)
    assert [row.status for row in outcome.rows] == ["ok"] * len(points)
    slowest = {row.operator: row.seconds for row in outcome.rows}
    for point, rank in zip(points, (3, 3, 3, 3, 3, 1), strict=True):
        assert slowest[point.operator] == pytest.approx(toy_seconds(4096, rank), rel=0.05)


def test_what_cannot_be_placed_is_unsupported(together: Measure) -> None:
    outcome = together(
        all_reduce(1024, 4),
        Point(operator=AllReduce(bytes=2048, ranks=2, ranks_per_node=1)),
        all_reduce(4096),
    )
    assert statuses(outcome) == {1024: "unsupported", 2048: "unsupported", 4096: "ok"}


def test_each_side_of_a_pair_is_slower_beside_the_other(together: Measure) -> None:
    shape = "m=8192 n=4096 k=4096"
    sides = [
        Interference(
            compute="gemm",
            shape=shape,
            collective="all_gather",
            bytes=1 << 24,
            ranks=2,
            ranks_per_node=2,
            side=side,
            concurrent=concurrent,
        )
        for side in ("compute", "collective")
        for concurrent in (False, True)
    ]
    outcome = together(*(Point(operator=side) for side in sides))
    seconds = {(r.operator.side, r.operator.concurrent): r.seconds or 0 for r in outcome.rows}
    assert seconds["compute", True] / seconds["compute", False] == pytest.approx(1.1)
    assert seconds["collective", True] / seconds["collective", False] == pytest.approx(1.5)
    assert {row.samples for row in outcome.rows if row.operator.side == "compute"} == {3 * 24}
    assert {row.samples for row in outcome.rows if row.operator.side == "collective"} == {3 * 23}


def test_a_collective_that_waits_for_kernels_is_counted_in_shorter_intervals(
    together: Measure,
) -> None:
    side = Interference(
        compute="gemm",
        shape="m=8192 n=4096 k=4096",
        collective="all_gather",
        bytes=SLOWED_BYTES,
        ranks=2,
        ranks_per_node=2,
        side="collective",
        concurrent=True,
    )
    (row,) = together(Point(operator=side)).rows
    assert row.status == "ok"
    assert row.samples == 3 * 23


@pytest.mark.parametrize(
    ("seconds", "counts"),
    [
        ((300e-6, 200e-6), (3, 4, 24)),  # 24 windows of 833 µs
        ((2.5e-3, 20e-6), (1, 20, 24)),  # a short collective may come to wait for a kernel
        ((20e-6, 10e-3), (500, 1, 24)),  # a long one is given as many kernels as it lasts
        ((5e-6, 10e-3), (20, 1, 24)),  # but none that the host launches more slowly than they run
        ((20e-3, 0.4), (20, 1, 6)),  # and a few suffice
    ],
)
def test_both_sides_of_a_pair_are_kept_busy_alike(
    seconds: tuple[float, float], counts: tuple[int, int, int]
) -> None:
    plan = Beside.plan(*seconds)
    assert (plan.compute_calls, plan.collective_calls, plan.intervals) == counts


def test_a_rank_that_fails_costs_its_point(together: Measure) -> None:
    expected = {"killed": "crash", "sticky": "crash", "wrong": "crash", "crowded": "oom"}
    begin = time.monotonic()
    bad = [all_reduce(FAULTS[name]) for name in ("killed", "wrong", "crowded")]
    other = Point(operator=AllGather(bytes=FAULTS["sticky"], ranks=2, ranks_per_node=2))
    outcome = together(all_reduce(1024), *bad, other)
    assert time.monotonic() - begin < 50  # those who waited for it did not wait for ever
    assert statuses(outcome) == {1024: "ok"} | {FAULTS[n]: s for n, s in expected.items()}
    assert outcome.exit_code in promise("rank dead").exit_codes
    notes = read_folder(outcome.folder).runs[outcome.run]["failures"]
    assert sum("rank 1" in note for note in notes) == 3
    assert sum("wrong result" in note for note in notes) == 1


def test_a_rank_that_hangs_is_killed_with_those_that_wait_for_it(
    together: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_SAMPLE_MARGIN_SECONDS", -9.0)
    outcome = together(all_reduce(1024), all_reduce(FAULTS["hangs"]), all_reduce(4096))
    assert statuses(outcome) == {1024: "ok", FAULTS["hangs"]: "timeout", 4096: "ok"}
    assert outcome.exit_code in promise("rank silent").exit_codes


def test_a_slow_rank_is_waited_for_and_its_own_clock_counts(together: Measure) -> None:
    outcome = together(all_reduce(SLOW_BYTES))
    assert outcome.exit_code in promise("rank slow").exit_codes
    (row,) = outcome.rows
    assert row.status == "ok"
    assert row.seconds == pytest.approx(toy_seconds(SLOW_BYTES, 1), rel=0.03)


def test_curves_of_other_settings_are_not_mixed(
    together: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    together(all_reduce(1024))
    monkeypatch.setenv("NCCL_ALGO", "Tree")
    with pytest.raises(BenchError, match="nccl_environment was"):
        together(all_reduce(1024), all_reduce(2048), resume=True)
    monkeypatch.delenv("NCCL_ALGO")
    monkeypatch.setenv("DOUBLE_NCCL", "2.29.1")
    with pytest.raises(BenchError, match="libraries was"):
        together(all_reduce(1024), all_reduce(2048), resume=True)


def test_the_number_of_ranks_is_all_gpus_or_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "visible_gpus", lambda _: 4)
    everything = ranks_of(Options(), None)
    assert everything is not None
    assert (everything.gpus, everything.gpus_per_node, everything.nvls) == (4, 4, False)
    assert ranks_of(Options(operators=("gemm",)), None) is None
    with pytest.raises(BenchError, match="CUDA sees 4"):
        ranks_of(Options(gpus=8), None)
    with pytest.raises(BenchError, match="all_reduce needs two GPUs or more"):
        ranks_of(Options(gpus=1, operators=("gemm", "all_reduce")), None)
    with pytest.raises(BenchError, match="unset it"):
        ranks_of(Options(nvls=True), None)


def test_the_librarys_choices_are_read_as_its_log_grows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = f"nccl.{socket.gethostname().partition('.')[0]}.{os.getpid()}.log"
    monkeypatch.setenv("NCCL_DEBUG_FILE", log_settings(str(tmp_path), {})["NCCL_DEBUG_FILE"])
    words = "host:1:2 [0] NCCL INFO AllReduce: 1048576 Bytes -> Algo {} proto {} channel"
    with (tmp_path / name).open("w") as log:
        reader = Choices()
        assert reader.latest() == ""
        log.write(words.format("RING", "LL") + "{Lo..Hi}={0..0}\n")
        log.write(words.format("TREE", "LL128") + "{Lo..Hi}={0..15}\n")
        log.flush()
        assert reader.latest() == "TREE LL128 16"
        assert reader.latest() == ""
        log.write(words.format("RING", "SIMPLE") + "{Lo..Hi}={0..23}\n")
        log.flush()
        assert reader.latest() == "RING SIMPLE 24"
    assert log_settings(str(tmp_path), {"NCCL_DEBUG": "WARN"}) == {}
    elsewhere = {"NCCL_DEBUG_FILE": "/nowhere/log", "NCCL_DEBUG": "INFO", "NCCL_ALGO": "Ring"}
    assert settings_here(elsewhere) == {"NCCL_ALGO": "Ring"}


def test_choices_are_told_by_the_size_from_which_they_hold() -> None:
    paths = {1024: "RING LL 1", 2048: "RING LL 1", 4096: "RING LL128 4", 8192: ""}
    records = [
        {
            "operator": "all_reduce",
            "fields": {"bytes": size, "ranks": 2},
            "rounds": [{"path": path}],
        }
        for size, path in reversed(paths.items())
    ]
    assert choices(records) == {
        "all_reduce": [
            "ranks=2: from 1024 bytes RING LL 1",
            "ranks=2: from 4096 bytes RING LL128 4",
        ]
    }


def test_a_launcher_may_show_each_rank_its_own_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    native = importlib.import_module("ranks_double")
    for count, index in ((1, 0), (8, 3)):
        monkeypatch.setattr(native, "cuda_device_count", lambda count=count: count)
        assert gpu_index(Start(device="cuda", index=3, native_module="ranks_double")) == index


# --- processes that a launcher started -----------------------------------------------------------

PROGRAM = """
import os, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from predictor.bench.main import Options, run
from predictor.bench.points import Point
from predictor.bench.ranks import serve_agent, world_of
from predictor.operators import AllReduce

if __name__ == "__main__":
    world = world_of(os.environ)
    if world.rank > 0:
        sys.exit(serve_agent(world))
    per_node = int(sys.argv[2])
    sizes = [int(size) for size in sys.argv[3:]]
    points = tuple(
        Point(operator=AllReduce(bytes=size, ranks=world.size, ranks_per_node=per_node))
        for size in sizes
    )
    options = Options(
        device="mock", native_module="ranks_double", out=Path(sys.argv[1]), points=points,
        time_budget_seconds=60.0,
    )
    sys.exit(run(options).exit_code)
"""


def torchrun(rank: int, size: int, port: int) -> dict[str, str]:
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "none",
        "PREDICTOR_BENCH_SECRET": SECRET,
    }


def mpirun(rank: int, size: int, port: int) -> dict[str, str]:
    return {
        "OMPI_COMM_WORLD_RANK": str(rank),
        "OMPI_COMM_WORLD_SIZE": str(size),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(rank),
        "OMPI_COMM_WORLD_LOCAL_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "PREDICTOR_BENCH_SECRET": SECRET,
    }


def srun(rank: int, size: int, port: int) -> dict[str, str]:
    return {
        "SLURM_PROCID": str(rank),
        "SLURM_STEP_NUM_TASKS": str(size),
        "SLURM_LOCALID": str(rank),
        "SLURM_STEP_TASKS_PER_NODE": f"{size}",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_RESV_PORTS": f"{port}-{port + 1}",
        "PREDICTOR_BENCH_SECRET": SECRET,
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        return ours, server.accept()[0]


def start(
    program: Path, environment: dict[str, str], *arguments: object, prefix: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*prefix, sys.executable, str(program), *map(str, arguments)],
        env=os.environ | environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM.format(here=str(HERE)))
    return path


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


# --- who is let in --------------------------------------------------------------------------------


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


@pytest.mark.parametrize(("launcher", "size"), [(torchrun, 2), (mpirun, 3), (srun, 2)])
def test_processes_of_a_launcher_measure_together(
    program: Path, tmp_path: Path, launcher: Callable[..., dict[str, str]], size: int
) -> None:
    port = free_port()
    ranks = [
        start(program, launcher(rank, size, port), tmp_path / "out", size, 1024, 1 << 20)
        for rank in range(size)
    ]
    errors = [rank.communicate(timeout=60)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * size, errors
    folder = read_folder(tmp_path / "out")
    rows = {row.operator.bytes: row for row in folder.tables["all_reduce"].rows}
    assert {row.status for row in rows.values()} == {"ok"}
    assert rows[1 << 20].seconds == pytest.approx(toy_seconds(1 << 20, size - 1), rel=0.03)
    (provenance,) = folder.runs.values()
    assert provenance["device"]["gpus"] == size


def test_torchrun_tells_the_port_through_its_store(program: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch, and torchrun with it, is not installed")
    words = ("--standalone", "--nproc-per-node", "2", program, tmp_path / "out", 2, 4096)
    found = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *map(str, words)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    rows = read_folder(tmp_path / "out").tables["all_reduce"].rows
    assert [row.status for row in rows] == ["ok"]


@pytest.mark.skipif(shutil.which("mpirun") is None, reason="mpirun is not installed")
def test_mpirun_really(program: Path, tmp_path: Path) -> None:
    words = ["mpirun", "--oversubscribe", "--allow-run-as-root", "-n", "2"]
    words += ["-x", "MASTER_ADDR=127.0.0.1", "-x", f"MASTER_PORT={free_port()}"]
    words += [sys.executable, str(program), str(tmp_path / "out"), "2", "4096"]
    found = subprocess.run(
        words,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert read_folder(tmp_path / "out").tables["all_reduce"].rows[0].status == "ok"


def test_a_worker_that_dies_elsewhere_is_replaced(program: Path, tmp_path: Path) -> None:
    port = free_port()
    sizes = (1024, FAULTS["killed"], 4096)
    ranks = [
        start(program, mpirun(rank, 2, port), tmp_path / "out", 2, *sizes) for rank in range(2)
    ]
    errors = [rank.communicate(timeout=60)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [3, 0], errors
    rows = read_folder(tmp_path / "out").tables["all_reduce"].rows
    assert {row.operator.bytes: row.status for row in rows} == {
        1024: "ok",
        FAULTS["killed"]: "crash",
        4096: "ok",
    }


def test_a_process_that_is_gone_ends_the_run_with_what_was_measured(
    program: Path, tmp_path: Path
) -> None:
    port = free_port()
    ranks = [
        start(program, mpirun(rank, 2, port), tmp_path / "out", 2, 1024, FAULTS["hangs"])
        for rank in range(2)
    ]
    journal = tmp_path / "out" / "journal.jsonl"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not (
        journal.exists() and "samples" in journal.read_text() and time.sleep(1.0) is None
    ):
        time.sleep(0.05)
    ranks[1].kill()
    errors = [rank.communicate(timeout=60)[1] for rank in ranks]
    assert ranks[0].returncode in promise("host gone").exit_codes, errors
    rows = read_folder(tmp_path / "out").tables["all_reduce"].rows
    assert {row.operator.bytes: row.status for row in rows}[FAULTS["hangs"]] == "crash"


def test_rank_0_that_is_gone_ends_the_others(program: Path, tmp_path: Path) -> None:
    port = free_port()
    ranks = [
        start(program, mpirun(rank, 2, port), tmp_path / "out", 2, FAULTS["hangs"])
        for rank in range(2)
    ]
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not (tmp_path / "out" / "journal.jsonl").exists():
        time.sleep(0.05)
    ranks[0].kill()
    ranks[0].communicate(timeout=60)
    ranks[1].communicate(timeout=60)
    assert ranks[1].returncode == 1


# --- two hosts, as far as the network is concerned -----------------------------------------------


def command(*words: str) -> int:
    return subprocess.run(words, check=False, capture_output=True).returncode


@pytest.fixture
def namespaces() -> Iterator[tuple[str, str]]:
    """Two network namespaces joined by a cable; 10.213.0.1 and .2."""
    if shutil.which("ip") is None:
        pytest.skip("two network namespaces: iproute2 is not installed")
    names = (f"bench-{os.getpid()}-a", f"bench-{os.getpid()}-b")
    made = [command("ip", "netns", "add", name) for name in names]
    cable = command("ip", "link", "add", "bench-a", "netns", names[0], "type", "veth", "peer",
                    "name", "bench-b", "netns", names[1])  # fmt: skip
    try:
        if any(made) or cable:
            pytest.skip("two network namespaces: this user may not create them")
        for name, interface, address in zip(
            names, ("bench-a", "bench-b"), ("10.213.0.1/24", "10.213.0.2/24"), strict=True
        ):
            inside = ("ip", "netns", "exec", name, "ip")
            command(*inside, "addr", "add", address, "dev", interface)
            command(*inside, "link", "set", interface, "up")
        yield names
    finally:
        for name in names:
            command("ip", "netns", "del", name)


def test_ranks_in_two_network_namespaces_measure_together(
    namespaces: tuple[str, str], program: Path, tmp_path: Path
) -> None:
    ranks = []
    for rank, name in enumerate(namespaces):
        environment = mpirun(rank, 2, 29_517) | {
            "MASTER_ADDR": "10.213.0.1",
            "OMPI_COMM_WORLD_LOCAL_RANK": "0",
            "OMPI_COMM_WORLD_LOCAL_SIZE": "1",
        }
        # Another host name, as on another host.
        inside = ("ip", "netns", "exec", name, "unshare", "--uts", "sh", "-c")
        words = f'hostname host-{rank} && exec "$@"'
        ranks.append(
            start(program, environment, tmp_path / "out", 1, 4096, prefix=(*inside, words, "sh"))
        )
    errors = [rank.communicate(timeout=60)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], errors
    folder = read_folder(tmp_path / "out")
    assert [row.status for row in folder.tables["all_reduce"].rows] == ["ok"]
    (provenance,) = folder.runs.values()
    assert provenance["device"]["nodes"] == 2
