"""Where the ``predictor`` command starts: ``python -m predictor`` and the script of that name."""

from __future__ import annotations

import atexit
import gc
import os
import sys

GARBAGE_THRESHOLD = 100_000
"""Objects between two searches for garbage: imports and tables make many objects and no garbage,
and a search every 700, as Python has it, took 6 % of an estimate, half of it during the imports."""


def main() -> None:
    """Run the command line of this process.

    A process that ends frees its memory at once, so what is left is not searched for garbage
    then: that took 80 of 500 ms. Linear algebra gets no pool of threads (30 to 50 ms), unless the
    environment asks for one: no command has matrices that are large enough.
    """
    gc.set_threshold(GARBAGE_THRESHOLD)
    atexit.register(gc.freeze)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        from predictor.cli import run  # noqa: PLC0415 - what it imports is what makes the objects
    except KeyboardInterrupt:  # from here on, run() says so itself
        sys.exit("predictor: interrupted")
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
