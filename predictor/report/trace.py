"""A step as a Chrome trace: one process a pipeline stage, one thread a stream, arrows for messages.

Perfetto (ui.perfetto.dev) and chrome://tracing read it. Times are microseconds, as the format
wants. A step of very many launches is shown pass by pass.
"""

import json
from pathlib import Path
from typing import Any, Final

from predictor.case import Case, resolve
from predictor.costs import load_costs
from predictor.errors import CaseError
from predictor.iteration.estimate import run_of
from predictor.iteration.playback import Event, Playback

MICROSECONDS: Final = 1e6
MOST_LAUNCHES: Final = 200_000
"""Launches that a viewer still shows without trouble; a step of more is shown pass by pass."""

THREADS: Final = ("passes", "host", "compute", "tensor", "data", "gather", "expert", "context")


def trace_of(case: Case) -> dict[str, Any]:
    """The trace of one iteration of a case, with the settled clock of its estimate."""
    case = resolve(case).case
    playback = run_of(case, load_costs(case.cluster.gpu)).playback()
    launches = playback.launches <= MOST_LAUNCHES
    events = [_slice(event) for event in playback.events(launches=launches)]
    return {
        "displayTimeUnit": "ms",
        "otherData": {"detail": "launches" if launches else "passes"},
        "traceEvents": [*_names(events), *events, *_arrows(playback)],
    }


def write_trace(case: Case, path: Path) -> int:
    """Write a case's trace and return how many events it holds.

    Raises:
        CaseError: The file cannot be written.
    """
    trace = trace_of(case)
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(json.dumps(trace), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        msg = f"{path}: cannot be written ({error.strerror}); name a file in a folder that exists"
        raise CaseError(msg) from error
    return len(trace["traceEvents"])


def _slice(event: Event) -> dict[str, Any]:
    return {
        "ph": "X",
        "pid": event.stage,
        "tid": THREADS.index(event.stream),
        "name": event.name,
        "ts": event.start_seconds * MICROSECONDS,
        "dur": event.seconds * MICROSECONDS,
        "args": {"micro_batch": event.micro_batch},
    }


def _names(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for stage in sorted({event["pid"] for event in events}):
        args = {"name": f"stage {stage}"}
        found.append({"ph": "M", "pid": stage, "name": "process_name", "args": args})
    for stage, thread in sorted({(event["pid"], event["tid"]) for event in events}):
        args = {"name": THREADS[thread]}
        found.append({"ph": "M", "pid": stage, "tid": thread, "name": "thread_name", "args": args})
    return found


def _arrows(playback: Playback) -> list[dict[str, Any]]:
    found = []
    for number, message in enumerate(playback.messages()):
        base = {"name": "message", "cat": "pipeline", "id": number, "tid": 0}
        stages = (playback.stage_of(message.sender), playback.stage_of(message.receiver))
        times = (message.left_seconds, message.taken_seconds)
        for phase, stage, seconds in zip("sf", stages, times, strict=True):
            arrow = {**base, "ph": phase, "pid": stage, "ts": seconds * MICROSECONDS}
            found.append({**arrow, "bp": "e"} if phase == "f" else arrow)
    return found
