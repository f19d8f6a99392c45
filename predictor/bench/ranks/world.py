"""This process among those that a launcher started: torchrun, mpirun or srun.

Nothing is guessed: a launcher says rank and size, and the address and port at which rank 0 waits
come from ``MASTER_ADDR`` and ``MASTER_PORT`` (or, under srun, from the step's node list and
reserved ports). Where one is missing, the error says what to set.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from predictor.errors import BenchError

PORTS = range(1, 1 << 16)
SECRET_VARIABLE: Final = "PREDICTOR_BENCH_SECRET"  # noqa: S105 - its name
LEAST_SECRET_CHARACTERS: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One process a GPU.

    Attributes:
        launcher: ``torchrun``, ``mpirun``, ``mpich`` or ``srun``.
        rank: Of this process.
        size: Number of processes.
        local_rank: Among those of this node; also the number of its GPU.
        local_size: Processes of this node.
        address: At which rank 0 listens.
        port: At which rank 0 listens; where ``store`` is set, of the launcher's own store.
        store: The launcher keeps a key-value store at the port (torchrun's agent), through which
            rank 0 says its port.
        secret: That all processes of the run know, and no one else.
    """

    launcher: str
    rank: int
    size: int
    local_rank: int
    local_size: int
    address: str
    port: int
    store: bool = False
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Names:
    """A launcher's variables for rank, size, and rank and size on the node."""

    launcher: str
    rank: str
    size: str
    local_rank: str
    local_size: str


_TORCHRUN = _Names("torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_LAUNCHERS = (
    _Names(
        "mpirun",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ),
    _Names("mpich", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    # SLURM_STEP_NUM_TASKS is there in the tasks of a step, but not in a batch script. Tasks a node
    # may read "8(x4)".
    _Names(
        "srun",
        "SLURM_PROCID",
        "SLURM_STEP_NUM_TASKS",
        "SLURM_LOCALID",
        "SLURM_STEP_TASKS_PER_NODE",
    ),
    _TORCHRUN,
)


def world_of(environment: Mapping[str, str]) -> World | None:
    """This process's place; None where no launcher started it, or started it alone.

    Raises:
        BenchError: A variable is missing or makes no sense.
    """
    names = _TORCHRUN
    if "TORCHELASTIC_RUN_ID" not in environment:
        found = [each for each in _LAUNCHERS if {each.rank, each.size} <= set(environment)]
        if not found:
            return None
        names = found[0]
    size = _whole(environment, names.size, range(1, 1 << 20))
    if size == 1:
        return None
    return World(
        launcher=names.launcher,
        rank=_whole(environment, names.rank, range(size)),
        size=size,
        local_rank=_whole(environment, names.local_rank, range(size)),
        local_size=_whole(environment, names.local_size, range(1, size + 1)),
        address=_address(environment, names.launcher),
        port=_port(environment, names.launcher),
        store=environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        secret=_secret(environment, names.launcher),
    )


def first_host(node_list: str) -> str:
    """First host of a Slurm node list: ``node[07-09,12],other`` gives ``node07``."""
    match = re.match(r"([^,\[]+)(?:\[([^,\]-]+))?", node_list)
    if match is None:
        raise BenchError(f"SLURM_STEP_NODELIST={node_list!r} names no host; set MASTER_ADDR")
    return match[1] + (match[2] or "")


def _address(environment: Mapping[str, str], launcher: str) -> str:
    if address := environment.get("MASTER_ADDR"):
        return address
    if launcher == "srun" and (nodes := environment.get("SLURM_STEP_NODELIST")):
        return first_host(nodes)
    raise BenchError(
        f"{launcher} started this process, but MASTER_ADDR is not set: set it to the host of "
        f"rank 0 for every rank{_HOW_TO_SET.get(launcher, '')}"
    )


def _port(environment: Mapping[str, str], launcher: str) -> int:
    if "MASTER_PORT" in environment:
        return _whole(environment, "MASTER_PORT", PORTS)
    reserved = environment.get("SLURM_STEP_RESV_PORTS", "")
    if launcher == "srun" and (match := re.match(r"\d+", reserved)):
        return int(match[0])
    raise BenchError(
        f"{launcher} started this process, but MASTER_PORT is not set: set it to a free port of "
        f"rank 0's host for every rank{_HOW_TO_SET.get(launcher, '')}"
    )


def _secret(environment: Mapping[str, str], launcher: str) -> str:
    secret = environment.get(SECRET_VARIABLE, "")
    if len(secret) < LEAST_SECRET_CHARACTERS:
        wrong = f"has {len(secret)} characters" if secret else "is not set"
        raise BenchError(
            f"{launcher} started this process, but {SECRET_VARIABLE} {wrong}: give every rank the "
            f"same random text of at least {LEAST_SECRET_CHARACTERS} characters, by which they "
            f"know each other: `export {SECRET_VARIABLE}=$(openssl rand -hex 16)`"
            + (f" and `mpirun -x {SECRET_VARIABLE}`" if launcher == "mpirun" else "")
        )
    return secret


_HOW_TO_SET = {
    "mpirun": ", as in `mpirun -x MASTER_ADDR=host -x MASTER_PORT=29500 bench-run …`",
    "mpich": ", as in `mpiexec -genv MASTER_ADDR host -genv MASTER_PORT 29500 bench-run …`",
    "srun": ", as in `MASTER_PORT=29500 srun bench-run …`, or reserve one: `srun --resv-ports=1`",
}


def _whole(environment: Mapping[str, str], name: str, allowed: range) -> int:
    text = environment.get(name)
    if text is not None and name == "SLURM_STEP_TASKS_PER_NODE":
        text = re.split(r"[(,]", text)[0]
    if text is None:
        raise BenchError(f"{name} is not set, though its launcher's other variables are")
    if not text.isdecimal() or int(text) not in allowed:
        raise BenchError(
            f"{name}={text!r} must be a whole number from {allowed.start} to {allowed.stop - 1}"
        )
    return int(text)
