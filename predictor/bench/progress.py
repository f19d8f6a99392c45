"""How far a run is: a bar with the time left on a terminal, else a line every ten seconds."""

import sys
import time
from collections import Counter
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from predictor.bench.budget import Budget

LINE_SECONDS: Final = 10.0


class Progress:
    """Counts points and shows them on standard error."""

    def __init__(self, budget: Budget, console: Console | None = None) -> None:
        """Show on ``console``; standard error by default."""
        self._budget = budget
        self._console = console or Console(file=sys.stderr, soft_wrap=True)
        self._statuses: Counter[str] = Counter()
        self._done = self._total = 0
        self._last_line = time.monotonic()
        self._bar: Bar | None = None

    def begin(self, *, total: int, done: int) -> None:
        """Start to count."""
        self._total, self._done = total, done
        if self._console.is_terminal:
            self._bar = Bar(
                TextColumn("measuring"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
                console=self._console,
            )
            self._bar.add_task("points", total=total, completed=done, left="")
            self._bar.start()

    def advance(self, status: str) -> None:
        """Count one point."""
        self._done += 1
        self._statuses[status] += 1
        if self._bar is not None:
            left = f"{max(self._budget.remaining(), 0):.0f} s of budget left"
            self._bar.update(self._bar.task_ids[0], completed=self._done, left=left)
        elif time.monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = time.monotonic()
            self.say(self.line())

    def line(self) -> str:
        """State in one line."""
        counts = ", ".join(f"{count} {status}" for status, count in sorted(self._statuses.items()))
        left = max(self._budget.remaining(), 0)
        return f"{self._done}/{self._total} points ({counts}), {left:.0f} s of budget left"

    def say(self, text: str) -> None:
        """Print a line of words."""
        self._console.print(text, highlight=False, markup=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
