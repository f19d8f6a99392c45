"""Processes of torchrun, mpirun and srun measure together, on one host and on two namespaces."""

import os
import runpy
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from launchers import HERE, PROGRAM, free_port, mpirun, srun, start, torchrun
from ranks_double import FAULTS, toy_seconds

from predictor.tables import read_folder

pytestmark = pytest.mark.usefixtures("ranks_environment")
promise = runpy.run_path(str(Path(__file__).with_name("faults.py")))["FAULTS"].__getitem__


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM.format(here=str(HERE)))
    return path


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
