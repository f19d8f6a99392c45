"""Running a study: here, on processes of this machine, or on a dask.distributed scheduler.

A part is a pure function of the study and its number, so it may run anywhere and twice; its rows
come back to this process, which alone writes them. A worker that is killed loses the parts it was
at; they run again elsewhere. A few parts for each worker are under way at a time, whatever the
size of the study.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from predictor.errors import StudyError
from predictor.search.study_rows import Row, part_rows
from predictor.search.study_store import Store, opened

if TYPE_CHECKING:
    from pathlib import Path

    from predictor.search.study import Study

PARTS_A_WORKER: Final = 2
CONNECT_SECONDS: Final = 20
LEAST_CASES: Final = 200
"""Below so many cases, starting processes takes longer than it saves."""
AGAIN: Final = "what is done is kept: run the same command to go on"

Progress = Callable[[int, int], None]
Runner = Callable[[Store, Iterable[int]], Iterator[tuple[int, list[Row]]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyResult:
    """A study that is done.

    Attributes:
        output: Its table.
        cases: How many it has.
        rows: Rows of the table.
        statuses: Rows by status: ``ok``, ``infeasible``, ``refused``, ``failed``.
        resumed_cases: Cases that were there when this process began.
    """

    output: Path
    cases: int
    rows: int
    statuses: dict[str, int]
    resumed_cases: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values (``predictor study --json``)."""
        return {
            "output": str(self.output),
            "cases": self.cases,
            "rows": self.rows,
            "statuses": dict(self.statuses),
            "resumed_cases": self.resumed_cases,
        }


def run_study(
    study: Study, output: Path, *, runner: Runner | None = None, progress: Progress | None = None
) -> StudyResult:
    """Run what is missing of a study, and put its table together.

    Args:
        study: What to run.
        output: ``.parquet`` or ``.csv``; must not be there yet.
        runner: Where parts run; None: in this process.
        progress: Told how many cases are done, and of how many.

    Raises:
        StudyError: See :func:`predictor.search.study_store.opened`; or no worker is left.
    """
    with opened(output, study) as store:
        missing = store.missing()
        done = resumed = study.cases - sum(_cases(store, part) for part in missing)
        for part, rows in (runner or here)(store, missing):
            store.write(part, rows)
            done += _cases(store, part)
            if progress is not None:
                progress(done, study.cases)
        statuses = store.finish()
    return StudyResult(
        output=output,
        cases=study.cases,
        rows=study.rows,
        statuses=statuses,
        resumed_cases=resumed,
    )


def runner_for(
    study: Study, *, workers: int | None, scheduler: str | None, insecure: bool = False
) -> Runner:
    """Where a study runs: on a scheduler, on processes, or here where it is small.

    Raises:
        StudyError: See :func:`on_scheduler`.
    """
    if scheduler is not None:
        return on_scheduler(scheduler, insecure=insecure)
    count = workers or (usable_processors() if study.cases >= LEAST_CASES else 1)
    return here if count == 1 else on_processes(count)


def here(store: Store, parts: Iterable[int]) -> Iterator[tuple[int, list[Row]]]:
    """Run parts in this process, one after another."""
    for part in parts:
        yield part, part_rows(store.study, part * store.part_cases, store.part_cases)


def on_processes(workers: int) -> Runner:
    """Run parts on so many processes of this machine."""

    def run(store: Store, parts: Iterable[int]) -> Iterator[tuple[int, list[Row]]]:
        with ProcessPoolExecutor(
            workers, mp_context=get_context("spawn"), initializer=_end_with_parent
        ) as pool:
            try:
                yield from _windowed(pool.submit, _finished, store, parts, PARTS_A_WORKER * workers)
            except BrokenProcessPool as error:
                raise StudyError(f"a worker process was killed (memory?); {AGAIN}") from error
            finally:
                pool.shutdown(cancel_futures=True)

    return run


def _end_with_parent() -> None:
    """Let this worker end when the process that it works for is gone, killed or not."""
    Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


def on_scheduler(address: str, *, insecure: bool = False) -> Runner:
    """Run parts on the workers of a dask.distributed scheduler.

    Certificates are those of dask's own configuration (``distributed.comm.tls``).

    Raises:
        StudyError: The address is neither TLS nor this machine's, unless ``insecure``.
    """
    check_address(address, insecure=insecure)

    def run(store: Store, parts: Iterable[int]) -> Iterator[tuple[int, list[Row]]]:
        with _client(address) as client:
            from distributed import wait as wait_remote  # noqa: PLC0415 - for a scheduler alone

            def submit(function: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401
                return client.submit(function, *arguments, pure=False)

            def finished(futures: Iterable[Any]) -> Iterable[Any]:
                done: Iterable[Any] = wait_remote(list(futures), return_when=FIRST_COMPLETED).done
                return done

            workers = max(1, sum(client.nthreads().values()))
            yield from _windowed(submit, finished, store, parts, PARTS_A_WORKER * workers)

    return run


def check_address(address: str, *, insecure: bool) -> None:
    """Refuse to send work in the clear to another machine, unless asked to.

    Raises:
        StudyError: With the way out.
    """
    parsed = urlsplit(address if "://" in address else f"tcp://{address}")
    if insecure or parsed.scheme in {"tls", "inproc"} or _is_loopback(parsed.hostname or ""):
        return
    raise StudyError(
        f"--scheduler {address}: whoever reaches this port runs code on its workers; use tls:// "
        "(certificates: dask's distributed.comm.tls), a scheduler on this machine, or --insecure"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def _client(address: str) -> Iterator[Any]:
    try:
        from distributed import Client  # noqa: PLC0415 - for a scheduler alone
        from distributed.scheduler import KilledWorker  # noqa: PLC0415
    except ImportError as error:
        words = "pip install 'llm-iteration-predictor[study]'"
        raise StudyError(f"--scheduler needs dask.distributed: {words}") from error
    try:
        client = Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError, TypeError) as error:
        raise StudyError(f"--scheduler {address}: cannot be reached ({error})") from error
    with client:
        try:
            yield client
        except KilledWorker as error:
            raise StudyError(f"{error.args[0]}: every worker that ran it died; {AGAIN}") from error


def _windowed(
    submit: Callable[..., Any],
    finished: Callable[[Iterable[Any]], Iterable[Any]],
    store: Store,
    parts: Iterable[int],
    window: int,
) -> Iterator[tuple[int, list[Row]]]:
    """Keep so many parts under way, and hand each over once as it is done."""
    waiting = iter(parts)
    under_way: dict[Any, int] = {}
    while True:
        while len(under_way) < window and (part := next(waiting, None)) is not None:
            first = part * store.part_cases
            under_way[submit(part_rows, store.study, first, store.part_cases)] = part
        if not under_way:
            return
        for future in list(finished(under_way)):
            part = under_way.pop(future)
            yield part, future.result()


def _finished(futures: Iterable[Future[Any]]) -> Iterable[Future[Any]]:
    return wait(futures, return_when=FIRST_COMPLETED).done


def _cases(store: Store, part: int) -> int:
    return min(store.part_cases, store.study.cases - part * store.part_cases)


def usable_processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))
