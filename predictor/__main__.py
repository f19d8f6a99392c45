"""Where the ``predictor`` command starts: ``python -m predictor`` and the script of that name."""

from __future__ import annotations

import gc
import sys

GARBAGE_THRESHOLD = 100_000
"""Objects between two searches for garbage: imports and tables make many objects and no garbage,
and a search every 700, as Python has it, took 6 % of an estimate, half of it during the imports."""


def main() -> None:
    """Run the command line of this process."""
    gc.set_threshold(GARBAGE_THRESHOLD)
    from predictor.cli import run  # noqa: PLC0415 - what it imports is what makes the objects

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
