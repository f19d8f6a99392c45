"""One log of nccl-tests, as text or as JSON.

A log says its collective in its first lines (since 2.17), else in its command or its file's name.
The header names the columns, which differ between versions (``root``, ``error`` or ``#wrong``,
timestamps, per-iteration figures); ranks and hosts stand in the list of devices. Launchers and
platforms may put a tag before every line (``[1,0]<stdout>:`` of Open MPI, ``0:`` of Slurm).
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, Final

from predictor.errors import TableError
from predictor.files import MEBIBYTE, read_bytes
from predictor.values import frozen

MAX_FILE_BYTES: Final = 16 * MEBIBYTE
PROGRAMS: Final = {
    "all_reduce": "all_reduce",
    "all_gather": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "alltoall": "all_to_all",
    "broadcast": "broadcast",
    "sendrecv": "send_recv",
}
_PROGRAM: Final = re.compile(r"\b([a-z_]+)_perf(?:_mpi)?\b")
_RANK: Final = re.compile(
    r"#\s+Rank\s+(\d{1,9})\s+(?:Group\s+(\d{1,9})\s+)?Pid\s+\d+\s+on\s+(\S+)\s"
    r"(?:.*\]\s*(\S.*))?"
)
_HEADER: Final = re.compile(r"(.*?)#\s*(size\s+count\s.*)")
_OUT_OF_BOUNDS: Final = re.compile(r"# Out of bounds values : \d+ FAILED")
_SIZE: Final = re.compile(r"[0-9]{1,18}")
_STAMP: Final = re.compile(r"^\d{4}-\d\d-\d\d$|^\d\d:\d\d:\d\d$")
_NO_NVLS: Final = re.compile(r"NCCL_NVLS_ENABLE(?:=| set by environment to )0")
_LEAD: Final = 3
"""Columns that stand before everything a version may leave out: size, count and type."""


@frozen
class Log:
    """What one log says.

    Attributes:
        path: Of the file.
        collective: Name of our operator.
        hosts: Host of each rank of one group.
        groups: Groups that ran at once.
        timings: Bytes, format, and microseconds out of place and in place (None: not timed).
        no_nvls: It says that NVLS was off.
        gpus: Names of the GPUs, as the driver tells them.
    """

    path: Path
    collective: str
    hosts: tuple[str, ...]
    groups: int
    timings: tuple[tuple[int, str, float | None, float | None], ...]
    no_nvls: bool
    gpus: frozenset[str]


def read_log(path: Path, collective: str | None = None) -> Log:
    """Read one log, text or JSON.

    Raises:
        TableError: It cannot be read, names no collective, no ranks or no times, or holds a number
            that is none (file, line and rule named).
    """
    text = read_bytes(path, TableError, MAX_FILE_BYTES).decode("utf-8", "replace")
    log = _json_log(path, text, collective) if text.lstrip()[:1] == "{" else None
    log = log or _text_log(path, text, collective)
    if not log.hosts:
        raise TableError(f"{path}: no line of the list of devices ('#  Rank 0 ... on host ...')")
    if not log.timings:
        raise TableError(f"{path}: no timings: neither rows under a header nor JSON results")
    return log


def _collective(path: Path, text: str, given: str | None) -> str:
    if given is not None:
        return given
    programs = set(_PROGRAM.findall(text))
    found = {PROGRAMS[name] for name in programs & set(PROGRAMS)}
    squeezed = path.stem.lower().replace("_", "").replace("-", "")
    found = found or {ours for ours in PROGRAMS.values() if ours.replace("_", "") in squeezed}
    if programs and not found:
        known = ", ".join(f"{name}_perf" for name in PROGRAMS)
        raise TableError(f"{path}: is of {min(programs)}_perf; what is imported is {known}")
    if len(found) != 1:
        state = "names no collective" if not found else f"names {', '.join(sorted(found))}"
        raise TableError(f"{path}: {state}; say which it is with --collective")
    return found.pop()


def _text_log(path: Path, text: str, given: str | None) -> Log:
    if failed := _OUT_OF_BOUNDS.search(text):
        raise TableError(f"{path}: {failed[0]!r}: results were wrong; measure it again")
    ranks: dict[int, tuple[int, str]] = {}
    gpus: set[str] = set()
    header, tag = [], ""
    timings = []
    for number, line in enumerate(text.splitlines(), start=1):
        place = f"{path}:{number}"
        if match := _RANK.search(line):
            _add_rank(place, ranks, match)
            gpus.add(match[4] or "")
        elif match := _HEADER.match(line):
            tag, header = match[1], _header(place, match[2])
        elif header and (words := line.removeprefix(tag).split()) and _SIZE.fullmatch(words[0]):
            timings.append(_timing(place, header, words))
    _check_whole(path, ranks)
    groups = Counter(group for group, _ in ranks.values())
    first = min(groups, default=0)
    return Log(
        path=path,
        collective=_collective(path, text, given),
        hosts=tuple(host for group, host in ranks.values() if group == first),
        groups=max(1, len(groups)),
        timings=tuple(timings),
        no_nvls=bool(_NO_NVLS.search(text)),
        gpus=frozenset(gpus),
    )


def _header(place: str, text: str) -> list[str]:
    header = [word for word in text.split() if word != "timestamp"]
    if "cputime" in header:
        raise TableError(f"{place}: times of the CPU (-C 1); measure without")
    return header


def _add_rank(place: str, ranks: dict[int, tuple[int, str]], line: re.Match[str]) -> None:
    """Take a line of the list of devices: numbers count over all groups.

    Raises:
        TableError: The rank is there already.
    """
    rank = int(line[1])
    if rank in ranks:
        raise TableError(
            f"{place}: rank {rank} is there twice: a file holds one run (or it is a build without "
            "MPI, whose processes do not know of each other: `make MPI=1`)"
        )
    ranks[rank] = int(line[2] or 0), line[3]


def _check_whole(path: Path, ranks: Mapping[int, object]) -> None:
    """Refuse a list of devices that somebody cut, of which nobody knows how many there were.

    Raises:
        TableError: A rank is missing.
    """
    for rank in range(max(ranks, default=0)):
        if rank not in ranks:
            raise TableError(f"{path}: rank {rank} is missing from the list of devices")


def _timing(
    place: str, header: Sequence[str], words: Sequence[str]
) -> tuple[int, str, float | None, float | None]:
    """One row. Columns are counted from the right: an older version leaves ``redop`` empty."""
    words = [word for word in words if not _STAMP.match(word)]
    columns = [at - len(header) for at, name in enumerate(header) if name == "time"]
    if not columns or not _LEAD - columns[0] <= len(words) <= len(header):
        raise TableError(f"{place}: {len(words)} cells under a header of {len(header)}")
    for at in (at - len(header) for at, name in enumerate(header) if name == "#wrong"):
        _check_results(place, words[at])
    first, *rest = (_microseconds(place, words[at]) for at in columns)
    return int(words[0]), words[_LEAD - 1], first, rest[0] if rest else None


def _check_results(place: str, wrong: object) -> None:
    """Refuse the time of a collective that did not do its work; a log may not have looked.

    Raises:
        TableError: Some elements were wrong.
    """
    if wrong is not None and str(wrong) not in {"0", "N/A"}:
        raise TableError(f"{place}: #wrong = {wrong}: the result was wrong; measure it again")


def _microseconds(place: str, word: object) -> float | None:
    if word == "N/A":
        return None
    try:
        value = float(str(word))
    except ValueError as error:
        raise TableError(f"{place}: time = {word!r} must be a number of microseconds") from error
    if not isfinite(value) or value <= 0:
        raise TableError(f"{place}: time = {word!r} must be a positive number of microseconds")
    return value


def _json_log(path: Path, text: str, given: str | None) -> Log:
    try:
        raw = json.loads(text)
        config = raw["config"]
        devices = _json_devices(config)
        gpus = frozenset(str(each.get("device_info", "")) for each in config["devices"])
        timings = [_json_timing(f"{path}, result {n}", row) for n, row in enumerate(raw["results"])]
        program = " ".join(map(str, raw["args"][:1]))
        environment = "\n".join(map(str, raw.get("env", ())))
    except (
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise TableError(f"{path}: not JSON of nccl-tests ({error!r})") from error
    groups = sorted({group for group, _ in devices})
    return Log(
        path=path,
        collective=_collective(path, program, given),
        hosts=tuple(host for group, host in devices if group == groups[0]),
        groups=len(groups),
        timings=tuple(timings),
        no_nvls=bool(_NO_NVLS.search(environment)),
        gpus=gpus,
    )


def _json_devices(config: Mapping[str, Any]) -> list[tuple[int, str]]:
    """Group and host of each rank: of a process's GPUs, only the first is listed.

    (nccl-tests 2.18, ``src/util.cu``, ``writeDeviceReport``.)
    """
    told = config["devices"]
    each_process = int(config["nthreads"]) * int(config["ngpus"])
    firsts = [place * each_process for place in range(len(told))]
    repeats = each_process if [int(each["rank"]) for each in told] == firsts else 1
    return [(int(each["group"]), str(each["hostname"])) for each in told for _ in range(repeats)]


def _json_timing(place: str, row: Mapping[str, Any]) -> tuple[int, str, float | None, float | None]:
    halves = (row.get("out_of_place"), row.get("in_place"))
    if any(half is not None and "cpu_time" in half for half in halves):
        raise TableError(f"{place}: times of the CPU (-C 1); measure without")
    for half in halves:
        _check_results(place, (half or {}).get("nwrong"))
    times = [None if half is None else _microseconds(place, half["time"]) for half in halves]
    size = int(row["size"])
    return size, str(row["type"]), times[0], times[1]
