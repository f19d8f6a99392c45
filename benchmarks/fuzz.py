"""Fuzz every reader by coverage, with atheris: python benchmarks/fuzz.py --all --seconds 600.

An entry of ``tests/fuzz/readers.py`` takes bytes; it may return or raise the project's own error.
A finding is anything else: another exception, a wrong number, a call of more than ``LONGEST``
seconds of processor time, memory that grows by more than ``MOST_BYTES`` in one call, or the death
of the process. Each kind of finding is kept once, as an input and a text beside it, and the search
goes on. Half of the changes are libFuzzer's own, of bytes; the others put a word that readers may
stumble over in place of a word of the input, or repeat, drop or swap lines.

With ``--numbers`` nothing is looked for by coverage: every number of the seeds is replaced by every
number that formulas may stumble over, one at a time in any order, then several at once. That needs
no atheris. Warnings are findings, too.

It ends by itself some seconds after ``--seconds``, writes ``table.txt`` as each reader ends, and a
second run into the same folder goes on with what the first one reached. Needs atheris (PyPI, Python
3.12), numpy and PyYAML; aiconfigurator's tables need pyarrow too and are left out without it.
"""

import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LONGEST_SECONDS = 5.0
MOST_BYTES = 200 * 2**20
LONGEST_INPUT = 64 * 1024
GRACE_SECONDS = 15.0
"""How long after its end a reader may take to stop by itself."""
LAST_START_SECONDS = 15.0
"""A process that would have less than this is not started: it takes that long to begin."""
KINDS = ("finding", "died")
CORPUS = "corpus"
NOTHING = {"seconds": 0, "executions": 0, "edges": 0}
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "fuzz")]


class TooSlow(BaseException):
    """A call took more than :data:`LONGEST_SECONDS`; no reader may catch this."""


class Watch:
    """Calls of one reader, and what they broke."""

    def __init__(self, read: Callable[[bytes, Path], object], out: Path, own: type) -> None:
        """Set the reader, the folder of findings and the error that a reader may raise."""
        self.read, self.out, self.own = read, out, own
        self.folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=_fast_folder()))
        self.known = {path.stem for path in out.glob("*.txt")}
        signal.signal(signal.SIGVTALRM, _too_slow)

    def __call__(self, data: bytes) -> None:
        """Read one input."""
        peak = _peak_bytes()
        signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST_SECONDS)
        try:
            self.read(data, self.folder)
        except self.own:
            pass
        except (Exception, TooSlow) as error:  # noqa: BLE001 - that is what is looked for
            self._keep(data, error)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        if _peak_bytes() - peak > MOST_BYTES:
            self._keep(data, MemoryError(f"{(_peak_bytes() - peak) >> 20} MiB in one call"))

    def _keep(self, data: bytes, error: BaseException) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [each for each in frames if "/predictor/" in each.filename] or frames
        where = [f"{Path(each.filename).name}:{each.name}" for each in ours[-1:]]
        kind = f"{type(error).__name__} {' '.join(where)}"
        name = f"finding-{hashlib.sha256(kind.encode()).hexdigest()[:10]}"
        if name in self.known:
            return
        self.known.add(name)
        replaced(self.out / f"{name}.bin", data)
        told = "".join(traceback.format_exception(error))
        replaced(self.out / f"{name}.txt", f"{kind}\n\n{told}".encode("utf-8", "replace"))


def _fast_folder() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - a random name in it


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _too_slow(number: int, frame: object) -> None:
    del number, frame
    raise TooSlow(f"more than {LONGEST_SECONDS} s")


def fuzz(name: str, until: float, out: Path) -> None:
    """Fuzz one reader in this process, which ends here."""
    import atheris

    with atheris.instrument_imports(include=["predictor", "readers", "tomllib", "yaml", "json"]):
        import readers

        from predictor.errors import PredictorError
    from mutation import changed

    warnings.simplefilter("error")
    reader = readers.READERS[name]
    corpus = out / CORPUS
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(reader.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        chance = random.Random(seed)  # noqa: S311 - libFuzzer's own seed
        if chance.random() < 0.5:  # noqa: PLR2004 - half of them
            return bytes(atheris.Mutate(data, most))
        return changed(data, chance)[:most]

    watch = Watch(reader.read, out, PredictorError)
    arguments = [
        f"-max_total_time={max(1, int(until - time.monotonic()))}",
        f"-max_len={LONGEST_INPUT}",
        "-timeout=60",
        "-rss_limit_mb=4096",
        f"-artifact_prefix={out}/died-",
        "-print_final_stats=1",
        str(corpus),
    ]
    atheris.Setup([sys.argv[0], *arguments], watch, custom_mutator=mutate)
    atheris.Fuzz()


def fuzz_numbers(name: str, until: float, out: Path) -> None:
    """Read the seeds of one reader with other numbers, each once, then several at once."""
    import readers
    from mutation import renumbered

    from predictor.errors import PredictorError

    warnings.simplefilter("error")
    reader = readers.READERS[name]
    watch = Watch(reader.read, out, PredictorError)
    seeds = list(reader.seeds())
    for count, data in enumerate(renumbered(seeds, random.Random(until)), 1):  # noqa: S311
        watch(data)
        if time.monotonic() > until or count % 1000 == 0:
            print(f"#{count}", flush=True)
        if time.monotonic() > until:
            return


def watched(name: str, seconds: int, out: Path, *, numbers: bool) -> dict[str, Any]:
    """Fuzz one reader in a process of its own, begun again as often as it dies, to a fixed end.

    What was found, and the inputs that reach the most code, are taken up by a later call.
    """
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log.txt"
    begin = time.monotonic()
    until = begin + seconds
    command = [sys.executable, __file__, name, "--until", str(until), "--out", str(folder)]
    command += ["--numbers"] if numbers else []
    state = folder / "row.json"
    row = json.loads(state.read_bytes()) if state.exists() else dict(NOTHING, reader=name)
    with log.open("ab") as file:
        while until - time.monotonic() > LAST_START_SECONDS:
            start = file.tell()
            left = until - time.monotonic()
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(
                    command, stdout=file, stderr=file, check=False, timeout=left + GRACE_SECONDS
                )
            told = log.read_bytes()[start:].decode("utf-8", "replace")
            ran = max([int(n) for n in re.findall(r"^#(\d+)", told, re.MULTILINE)] or [0])
            row["executions"] += ran
            row["edges"] = max([row["edges"], *(int(n) for n in re.findall(r"cov: (\d+)", told))])
            if ran == 0:
                break  # it cannot even start
    row["seconds"] += round(time.monotonic() - begin)
    found = (p.name for kind in KINDS for p in folder.glob(f"{kind}-*") if p.suffix != ".txt")
    row["findings"] = sorted(found)
    replaced(state, json.dumps(row).encode())
    return row


def replaced(path: Path, data: bytes) -> None:
    """Write a file whole: whoever is killed leaves the old one or the new one."""
    beside = path.with_name(f".{path.name}")
    beside.write_bytes(data)
    beside.replace(path)


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Lines of the table of readers."""
    yield f"{'reader':16}{'seconds':>8}{'executions':>12}{'edges':>8}  findings"
    for row in sorted(rows, key=lambda row: str(row["reader"])):
        told = " ".join(row["findings"]) or ("none" if row["executions"] else "did not start")
        counted = f"{row['seconds']:>8,}{row['executions']:>12,}{row['edges']:>8,}"
        yield f"{row['reader']:16}{counted}  {told}"


def main() -> int:
    """Read the command line; exit code 1 says that something was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("readers", nargs="*", metavar="READER")
    parser.add_argument("--all", action="store_true", help="every reader, side by side")
    parser.add_argument("--numbers", action="store_true", help="other numbers alone")
    parser.add_argument("--seconds", type=int, default=600, help="of each reader, with its start")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="readers at once")
    parser.add_argument("--out", type=Path, default=Path("fuzz_out"), help="goes on from there")
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.until:
        (fuzz_numbers if asked.numbers else fuzz)(asked.readers[0], asked.until, asked.out)
        return 0
    import readers

    names = list(readers.READERS) if asked.all else asked.readers
    if asked.all and importlib.util.find_spec("pyarrow") is None:
        names.remove("aiconfigurator")
    rows = []
    with ThreadPoolExecutor(asked.jobs) as pool:
        begun = [
            pool.submit(watched, name, asked.seconds, asked.out, numbers=asked.numbers)
            for name in names
        ]
        for ended in as_completed(begun):
            rows.append(ended.result())
            told = "\n".join([*table(rows), ""])
            replaced(asked.out / "table.txt", told.encode())
    print(told, end="")
    return int(any(row["findings"] or not row["executions"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
