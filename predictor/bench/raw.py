"""Every sample of a run in a side file: a JSON line a round, appended as it is measured."""

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from predictor.bench.points import Point

RAW_FILE: Final = "samples.jsonl"
_DIGITS: Final = 6


class RawSamples:
    """Appends to ``samples.jsonl``; a failure costs the raw samples, not the run."""

    def __init__(self, path: Path, *, run: str, resume: bool, say: Callable[[str], None]) -> None:
        """Go on with the file of a resumed run, or start it anew; ``say`` is told of a failure."""
        self._path = path
        self._run = run
        self._say = say
        self._working = True
        self._torn = False
        if not resume:
            path.unlink(missing_ok=True)
        else:
            with suppress(OSError), path.open("rb") as stream:
                stream.seek(-1, os.SEEK_END)
                self._torn = stream.read() != b"\n"

    def add(self, point: Point, seconds: Sequence[float]) -> None:
        """Keep the samples of one round, seconds per launch in the order they were taken."""
        if not self._working:
            return
        record = {
            "run": self._run,
            "operator": point.operator.name,
            "fields": point.fields,
            "regime": point.regime,
            "cache": point.cache,
            "seconds": [float(f"{each:.{_DIGITS}g}") for each in seconds],
        }
        try:
            with self._path.open("a", encoding="utf-8") as stream:
                line = json.dumps(record, separators=(",", ":")) + "\n"
                stream.write("\n" + line if self._torn else line)
            self._torn = False
        except OSError as error:
            self._working = False
            self._say(f"no more raw samples are kept: {error}")
