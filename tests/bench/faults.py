"""The faults that bench-run is put through and what it promises after each.

The tests take the exit codes from here (``promise("worker killed")``), and docs/reliability.md
prints the table. After each fault the journal is ``intact``: a point is recorded once, with just
the rounds that were measured of it, and its seconds are near those that the double stands for.
"""

from typing import NamedTuple


class Fault(NamedTuple):
    """One fault.

    Attributes:
        brought_about: How the tests bring it about.
        point: What becomes of the point under way.
        run: What becomes of the run.
        exit_codes: What the process may end with.
    """

    brought_about: str
    point: str
    run: str
    exit_codes: tuple[int, ...] = (0,)


GOES_ON = "goes on"
NEXT_WORKER = "goes on with a new worker"
RESUMES = "ends with its tables; `--resume` measures what is left"

FAULTS: dict[str, Fault] = {
    "worker killed": Fault(
        "SIGKILL at 50 random moments, also while the worker starts",
        "`crash`, if it was being sampled or prepared",
        f"{NEXT_WORKER}; lost, if one dies while it opens the device or 12 have died",
        (0, 3, 4),
    ),
    "bench-run killed": Fault(
        "SIGKILL at random moments, then `--resume`",
        "loses the round under way",
        "its worker ends by itself; `--resume` measures what is left",
        (-9,),
    ),
    "Ctrl-C": Fault("SIGINT", "keeps its rounds", RESUMES, (130,)),
    "SIGTERM": Fault("SIGTERM", "keeps its rounds", RESUMES, (143,)),
    "CUDA errors": Fault(
        "errors, sticky errors and lack of memory at random calls",
        "`crash` or `oom`; not checked, where it failed in the check",
        GOES_ON,
        (3,),
    ),
    "sticky error": Fault("an illegal address", "`crash`", NEXT_WORKER, (3,)),
    "endless kernel": Fault(
        "a call that does not return, when a point is prepared or sampled",
        "`timeout`, at its limit",
        NEXT_WORKER,
        (3,),
    ),
    "kind that kills": Fault(
        "every point of one kind costs the worker",
        "`crash`; from the third on `not tried`",
        NEXT_WORKER,
        (3,),
    ),
    "device lost": Fault("no worker can be kept alive", "`crash`", "ends with its tables", (4,)),
    "no memory": Fault("an allocation that does not fit", "`oom`", GOES_ON),
    "no memory in a library": Fault("cuBLAS cannot allocate", "`oom`", GOES_ON),
    "no memory beside others": Fault("an allocation that fits alone", "tried again alone", GOES_ON),
    "wrong result": Fault(
        "a result off by more than its format's rounding",
        "`crash`; its time is not in the table",
        GOES_ON,
        (3,),
    ),
    "no time": Fault("a timer that says zero", "`crash`", GOES_ON, (3,)),
    "rank dead": Fault(
        "one rank's process ends in a collective", "`crash`", "goes on with new ranks", (3,)
    ),
    "rank slow": Fault(
        "one rank is late to every meeting", "measured: ranks start together", GOES_ON
    ),
    "rank silent": Fault(
        "one rank does not come", "`timeout`, for all ranks", "goes on with new ranks", (3,)
    ),
    "host gone": Fault(
        "the launcher's process of a rank is killed", "`crash`", "ends with its tables", (4,)
    ),
    "no NVML": Fault(
        "NVML refuses to load, or one call of it after another", "lacks that quantity", GOES_ON
    ),
    "NVML lies": Fault(
        "clock 0, power NaN, negative or infinite, an energy counter that goes back",
        "lacks that quantity",
        GOES_ON,
    ),
    "time goes back": Fault(
        "the calendar goes back a day between two runs; a worker's clock is ahead",
        "measured",
        "has a key of its own",
    ),
    "disk full": Fault(
        "a full tmpfs, a file at its size limit, ENOSPC or EIO at a random write",
        "loses the round under way",
        "ends; with room, `--resume` goes on",
        (5,),
    ),
    "disk read-only": Fault(
        "EROFS when the journal is opened, or at a random write",
        "loses the round under way",
        "does not start, or ends",
        (2, 5),
    ),
    "disk slow": Fault("20 ms a write", "measured", "ends inside its budget"),
    "log torn": Fault(
        "the journal cut at random bytes, or zeros in its last line",
        "loses the record that was cut",
        "`--resume` goes on",
    ),
    "second bench-run": Fault(
        "another one on the same folder", "none", "is refused; the first goes on", (2,)
    ),
    "library changed": Fault(
        "another cuBLAS or NCCL between run and `--resume`", "none", "is refused", (2,)
    ),
    "driver changed": Fault(
        "another driver between run and `--resume`", "none", "is refused", (2,)
    ),
    "tables damaged": Fault(
        "a table in the folder lacks a column", "none", "is refused before it measures", (2,)
    ),
}


def table() -> list[list[str]]:
    """Rows of the page: fault, how it is brought about, point, run, exit code."""
    return [
        [name, f.brought_about, f.point, f.run, " or ".join(map(_code, f.exit_codes))]
        for name, f in FAULTS.items()
    ]


def _code(code: int) -> str:
    return "killed" if code < 0 else str(code)
