"""What NCCL says of its choices: algorithm, protocol and channels of each collective.

Rank 0 of a communicator logs a line for each collective that it launches (``NCCL_DEBUG_SUBSYS`` has
``TUNING``); replays of a captured graph log nothing, and the host's time to write a line is hidden
behind the gate. Sends and receives are not chosen for, and not logged.
"""

import os
import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

_LINE: Final = re.compile(
    rb"Bytes -> Algo (\w+) proto (\w+) channel\{Lo\.\.Hi\}=\{(\d+)\.\.(\d+)\}"
)
_FILE: Final = "NCCL_DEBUG_FILE"


def nccl_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """How NCCL is told to work."""
    return {name: text for name, text in environment.items() if name.startswith("NCCL_")}


def log_settings(folder: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that have NCCL log its choices; none where the user has it log already."""
    if any(name.startswith("NCCL_DEBUG") for name in environment):
        return {}
    return {
        "NCCL_DEBUG": "INFO",
        "NCCL_DEBUG_SUBSYS": "TUNING",
        _FILE: f"{folder}/nccl.%h.%p.log",
    }


def settings_here(environment: Mapping[str, str]) -> dict[str, str]:
    """Rank 0's settings without its log, where its folder is not on this host."""
    if Path(environment.get(_FILE, "/")).parent.is_dir():
        return dict(environment)
    return {n: text for n, text in environment.items() if not n.startswith("NCCL_DEBUG")}


class Choices:
    """Reads this process's log as it grows."""

    def __init__(self) -> None:
        """Find the log, if there is one."""
        name = os.environ.get(_FILE, "")
        host = socket.gethostname().partition(".")[0]
        self._path = Path(name.replace("%h", host).replace("%p", str(os.getpid())))
        self._offset = 0

    def latest(self) -> str:
        """``RING SIMPLE 16``: of the last collective launched since the last call, or nothing."""
        try:
            with self._path.open("rb") as log:
                log.seek(self._offset)
                text = log.read()
            # NCCL goes on where it was, so that the file stays sparse.
            os.truncate(self._path, 0)
        except OSError:
            return ""
        self._offset += len(text)
        found = _LINE.findall(text)
        if not found:
            return ""
        algorithm, protocol, first, last = found[-1]
        return f"{algorithm.decode()} {protocol.decode()} {int(last) - int(first) + 1}"


def choices(points: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """By operator, each stretch of sizes with one choice, from a journal's point records."""
    curves: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for record in points:
        path = next((each["path"] for each in record["rounds"] if each.get("path")), "")
        if path:
            fields = record["fields"]
            rest = {name: fields[name] for name in sorted(fields) if name != "bytes"}
            curve = " ".join(f"{name}={value}" for name, value in rest.items())
            curves.setdefault((record["operator"], curve), []).append((fields["bytes"], path))
    found: dict[str, list[str]] = {}
    for (operator, curve), sizes in sorted(curves.items()):
        lines = found.setdefault(operator, [])
        last = ""
        for size, path in sorted(sizes):
            if path != last:
                lines.append(f"{curve}: from {size} bytes {path}")
            last = path
    return found
