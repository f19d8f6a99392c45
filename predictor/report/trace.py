"""A step as a Chrome trace: one process a pipeline stage, one thread a stream, arrows for messages.

Perfetto (ui.perfetto.dev) and chrome://tracing read it. Times are microseconds, as the format
wants, of whole nanoseconds, as Perfetto reads them: it drops a slice that begins a nanosecond
before the last one ends. A step of very many launches is shown pass by pass. The format: "Trace
Event Format", Google, 2016 (complete events ``X``, metadata ``M``, flows ``s`` and ``f``).
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from predictor.case import Case, resolve
from predictor.costs import load_costs
from predictor.errors import CaseError
from predictor.files import write_result
from predictor.iteration.built import run_of
from predictor.iteration.playback import Event, Playback

NANOSECONDS: Final = 1e9
MOST_LAUNCHES: Final = 200_000
"""Launches that a viewer still shows without trouble; a step of more is shown pass by pass."""

THREADS: Final = {
    "passes": "micro-batches",
    "host": "host",
    "compute": "compute stream",
    "tensor": "tensor-parallel stream",
    "data": "data-parallel stream",
    "gather": "parameter gathers",
    "expert": "expert-parallel stream",
    "context": "context-parallel stream",
}
"""Streams in the order of their rows, in words."""

INSIDE: Final = 0.01
"""An arrow begins this share of a pass before its end: a flow belongs to the slice around it."""

ROUNDING: Final = 0.01
"""Nanoseconds that sums of seconds may be off: no slice may end after the next one begins."""


def trace_of(case: Case) -> dict[str, Any]:
    """The trace of one iteration of a case, with the settled clock of its estimate."""
    case = resolve(case).case
    run = run_of(case, load_costs(case.cluster.gpu))
    playback = run.playback()
    launches = playback.launches <= MOST_LAUNCHES
    events = [_slice(event) for event in playback.events(launches=launches)]
    return {
        "displayTimeUnit": "ms",
        "otherData": {
            "model": case.model.name or "",
            "gpu": case.cluster.gpu,
            "num_gpus": case.cluster.num_gpus,
            "implementation": case.implementation,
            "iteration_seconds": run.iteration_seconds,
            "detail": "launches" if launches else "passes",
        },
        "traceEvents": [*_names(events), *events, *_arrows(playback)],
    }


def write_trace(case: Case, path: Path) -> int:
    """Write a case's trace and return how many events it holds.

    Raises:
        CaseError: The file cannot be written.
    """
    trace = trace_of(case)
    write_result(path, json.dumps(trace, allow_nan=False), CaseError)
    return len(trace["traceEvents"])


def _microseconds(nanoseconds: int) -> float:
    """The least number of microseconds that a reader cuts to these nanoseconds."""
    written = nanoseconds / 1e3
    return written if int(written * 1e3) == nanoseconds else math.nextafter(written, math.inf)


def _row(stage: int, stream: str) -> int:
    """Number of a stream's thread, from 1 and its own in the file: Perfetto joins threads 0."""
    return 1 + stage * len(THREADS) + list(THREADS).index(stream)


def _slice(event: Event) -> dict[str, Any]:
    start = round(event.start_seconds * NANOSECONDS)
    end = round((event.start_seconds + event.seconds) * NANOSECONDS - ROUNDING)
    return {
        "ph": "X",
        "pid": event.stage,
        "tid": _row(event.stage, event.stream),
        "cat": event.stream,
        "name": event.name,
        "ts": _microseconds(start),
        "dur": _microseconds(max(end - start, 0)),
        "args": {"micro_batch": event.micro_batch},
    }


def _names(events: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Names and order of processes and threads."""
    for stage in sorted({event["pid"] for event in events}):
        row = {"ph": "M", "pid": stage, "tid": _row(stage, "passes")}
        yield {**row, "name": "process_name", "args": {"name": f"stage {stage}"}}
        yield {**row, "name": "process_sort_index", "args": {"sort_index": stage}}
    for stage, thread, stream in sorted({(e["pid"], e["tid"], e["cat"]) for e in events}):
        row = {"ph": "M", "pid": stage, "tid": thread}
        yield {**row, "name": "thread_name", "args": {"name": THREADS[stream]}}
        yield {**row, "name": "thread_sort_index", "args": {"sort_index": thread}}


def _arrows(playback: Playback) -> Iterator[dict[str, Any]]:
    """From inside the pass that sends to the start of the one that needs the message."""
    for number, message in enumerate(playback.messages()):
        left = message.left_seconds - INSIDE * message.sent_seconds
        ends = (
            ("s", message.sender_stage, left),
            ("f", message.receiver_stage, message.taken_seconds),
        )
        for phase, stage, seconds in ends:
            time = _microseconds(round(seconds * NANOSECONDS))
            arrow = {"ph": phase, "pid": stage, "tid": _row(stage, "passes"), "cat": "pipeline"}
            arrow |= {"name": "message", "id": number, "ts": time}
            yield {**arrow, "bp": "e"} if phase == "f" else arrow
