"""Fit how compute and collectives slow each other; write predictor/costs/interference.json.

    python benchmarks/fit_interference.py [--check]

The pairs are those of every SKU's ``interference.csv`` together. ``--check`` refits, writes nothing
and fails on drift.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from predictor.costs.interference import SLOWDOWNS_FILE, fit_slowdowns
from predictor.tables import read_table

RESULTS = Path(__file__).parents[1] / "bench_results"
DIGITS = 3


def fitted() -> dict[str, Any]:
    """Factors by compute family and collective, and the SKUs whose pairs they come from."""
    tables = sorted(RESULTS.glob("*/interference.csv"))
    factors: dict[str, dict[str, list[float]]] = defaultdict(dict)
    rows = [row for table in tables for row in read_table(table).rows]
    for (compute, collective), both in fit_slowdowns(rows).items():
        factors[compute][collective] = [round(factor, DIGITS) for factor in both]
    return {"skus": [table.parent.name for table in tables], "factors": factors}


def main(arguments: list[str]) -> int:
    """Fit; return the exit code."""
    content = json.dumps(fitted(), indent=1) + "\n"
    if "--check" in arguments:
        if content != SLOWDOWNS_FILE.read_text(encoding="utf-8"):
            print(f"{SLOWDOWNS_FILE.name} has drifted; run `python benchmarks/fit_interference.py`")
            return 1
        return 0
    SLOWDOWNS_FILE.write_text(content, encoding="utf-8")
    print(f"wrote {SLOWDOWNS_FILE}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
