"""A run of the double in a process of its own, and how far it has come."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from predictor.bench.journal import read_records

HERE = Path(__file__).parent

SCRIPT = """
import sys
sys.path.insert(0, {here!r})

if __name__ == "__main__":
    import resource, signal
    from pathlib import Path
    from predictor.bench.main import run
    from predictor.bench.options import Options
    from predictor.bench.points import Point
    from predictor.operators import Gemm

    # A shell that starts the tests in the background has them ignore Ctrl-C, and so would this.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    limit, count, *bad = map(int, sys.argv[1:])
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    points = tuple(Point(operator=Gemm(m=m, n=256, k=256)) for m in (*range(64, 64 + count), *bad))
    outcome = run(Options(device="mock", native_module="native_double", out=Path({out!r}),
                          points=points, resume=True, time_budget_seconds=120.0))
    print(len(outcome.rows), outcome.left, outcome.ending)
    sys.exit(outcome.exit_code)
"""


def start(script: Path, *arguments: int, **environment: str) -> "subprocess.Popen[str]":
    """Start the run."""
    search = [entry or str(Path.cwd()) for entry in sys.path]
    return subprocess.Popen(
        [sys.executable, str(script), *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(search)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def rounds_in(path: Path) -> int:
    """Rounds on disk."""
    records = read_records(path) if path.exists() else []
    return sum(record["record"] == "round" for record in records)


def wait_for_rounds(path: Path, count: int) -> None:
    wait_until(lambda: rounds_in(path) >= count, "the run does not get on")


def wait_until(true: Callable[[], bool], words: str) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, words
        time.sleep(0.01)
