"""Crews of a run: local workers of this process, or one in each process of a launcher."""

import importlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Final

from predictor.bench.budget import Budget
from predictor.bench.messages import Start
from predictor.bench.process import RequestFailed, Worker, WorkerProcess
from predictor.bench.ranks.choices import log_settings, nccl_settings
from predictor.bench.ranks.crew import Crew
from predictor.bench.ranks.member import RankBench
from predictor.bench.ranks.remote import RemoteRank
from predictor.bench.ranks.rendezvous import farewell, gather
from predictor.bench.ranks.wire import Link
from predictor.bench.ranks.world import World
from predictor.bench.sweep import Ranks
from predictor.errors import BenchError

NVLS_VARIABLE: Final = "NCCL_NVLS_ENABLE"
REGISTER_VARIABLE: Final = "NCCL_GRAPH_REGISTER"
"""By default NCCL registers the buffers of captured collectives, which frameworks do not capture:
replays would then take another path than the launches that they stand for."""


def visible_gpus(native_module: str) -> int:
    """GPUs that CUDA sees; 0 without the native extension."""
    try:
        return int(importlib.import_module(native_module).cuda_device_count())
    except ImportError:
        return 0


def gpus_of(world: World | None, *, wanted: int | None, device: str, native_module: str) -> int:
    """Number of ranks of a run: the launcher's, what the user asks for, or all GPUs there are.

    Raises:
        BenchError: More are wanted than there are.
    """
    if world is not None:
        if wanted not in {None, world.size}:
            raise BenchError(
                f"--gpus {wanted}: {world.launcher} started {world.size} processes, one a GPU; "
                "leave --gpus out"
            )
        return world.size
    if device != "cuda":
        return wanted or 1
    there = visible_gpus(native_module)
    if wanted is not None and wanted > there:
        raise BenchError(f"--gpus {wanted}: CUDA sees {there} on this host")
    return wanted or max(there, 1)


def nvls_of(*, wanted: bool) -> bool:
    """Whether NCCL may use NVLink SHARP: as the environment says, else as the user wants.

    Raises:
        BenchError: The two contradict each other.
    """
    told = os.environ.get(NVLS_VARIABLE)
    if wanted and told == "0":
        raise BenchError(f"--nvls, but {NVLS_VARIABLE}=0 is in the environment: unset it")
    return wanted if told is None else told != "0"


@contextmanager
def spawner(
    start: Start, budget: Budget, *, ranks: Ranks | None, world: World | None
) -> Iterator[Callable[[], Worker]]:
    """A function that starts what measures: a worker, or a crew of them.

    Args:
        start: Of rank 0's worker; local rank ``i`` opens GPU ``i``.
        budget: Of the run.
        ranks: GPUs of the run; None for one alone.
        world: Where a launcher started the processes; this one is rank 0.

    Raises:
        BenchError: A rank of the launcher does not come.
    """
    if ranks is None:
        yield lambda: WorkerProcess(start, budget)
        return
    gpus = ranks.gpus
    with _settings(ranks), _links(world) as links:
        environment = nccl_settings(os.environ)

        def worker(rank: int) -> Worker:
            if rank in links:
                return RemoteRank(links[rank], rank, start, environment)
            index = world.local_rank if world is not None else rank
            return WorkerProcess(replace(start, index=index), budget, RankBench)

        yield lambda: _crew(worker, gpus)


@contextmanager
def _settings(ranks: Ranks) -> Iterator[None]:
    """NCCL's settings of a run, below those of the user; gone with it."""
    with TemporaryDirectory(prefix="predictor-nccl-", ignore_cleanup_errors=True) as folder:
        wanted = {
            NVLS_VARIABLE: "1" if ranks.nvls else "0",
            REGISTER_VARIABLE: "0",
            **log_settings(folder, os.environ),
        }
        added = {name: text for name, text in wanted.items() if name not in os.environ}
        os.environ.update(added)
        try:
            yield
        finally:
            for name in added:
                os.environ.pop(name, None)


@contextmanager
def _links(world: World | None) -> Iterator[dict[int, Link]]:
    """Links to the other processes of a launcher, which end with the run."""
    links = gather(world) if world is not None else {}
    try:
        yield links
    finally:
        farewell(links)


def _crew(worker: Callable[[int], Worker], gpus: int) -> Crew:
    """Start all ranks at once.

    Raises:
        BenchError: One of them cannot start; the others are ended.
    """
    with ThreadPoolExecutor(gpus) as threads:
        starting = [threads.submit(worker, rank) for rank in range(gpus)]
        error = next((error for each in starting if (error := each.exception())), None)
    started = [each.result() for each in starting if each.exception() is None]
    if error is None:
        try:
            return Crew(started)
        except RequestFailed as failure:
            error = BenchError(f"the ranks do not work together: {failure}")
    for each in started:
        each.kill()
    raise error
