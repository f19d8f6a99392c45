"""Processes as a launcher starts them, on ranks of the double."""

import os
import socket
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SECRET = "0123456789abcdef"  # noqa: S105 - of these tests

PROGRAM = """
import os, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from predictor.bench.main import run
from predictor.bench.options import Options
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
