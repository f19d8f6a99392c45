"""How much a compute kernel and a collective slow each other: factors of measured pairs (eq. 23).

Both sides of a pair loop for a while, alone and beside the other (``interference.csv``). Alone a
compute call takes ``c`` seconds and a collective ``d``, together ``c'`` and ``d'``.

A collective wants SMs, and a kernel that holds them gives none back before it ends: a collective
that comes at any time waits half a compute call on average. What it takes beyond that is its factor

    g = max(1, (d' - c'/2) / d)

Of each second, compute loses ``1 - c/c'``, in which ``d/d'`` seconds of collectives get through.
So each of their seconds costs ``loss = (1 - c/c')·d'/d``, and compute's factor meanwhile is

    f = 1 / (1 - loss/g)

Factors are medians over the measured shapes and sizes of a compute family and a collective.
Neglected: how they differ with the blocks that NCCL takes, and between nodes, where nothing was
measured.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from predictor.costs.deferred import DAMAGE
from predictor.costs.limits import SLOWDOWN, one_within
from predictor.errors import FitError
from predictor.files import MEBIBYTE, read_text
from predictor.operators import Interference

if TYPE_CHECKING:  # an estimate reads factors, and no tables
    from predictor.tables import Row

SLOWDOWNS_FILE: Final = Path(__file__).with_name("interference.json")

Slowdowns = Mapping[tuple[str, str], tuple[float, float]]
"""By compute family and collective: factors of the compute kernel and of the collective."""

LEAST_SECONDS: Final = 1e-4
"""Shorter collectives tell of waiting alone."""


def fit_slowdowns(rows: "Iterable[Row]") -> dict[tuple[str, str], tuple[float, float]]:
    """Factors of every measured pair of families.

    Raises:
        FitError: There is no complete pair.
    """
    pairs: dict[Interference, dict[tuple[str, bool], float]] = defaultdict(dict)
    for row in rows:
        one = row.operator
        if row.status == "ok" and row.seconds and isinstance(one, Interference):
            pair = replace(one, side="compute", concurrent=False)
            pairs[pair][one.side, one.concurrent] = row.seconds
    found: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for pair, seconds in pairs.items():
        if len(seconds) == len(_SIDES) and seconds["collective", False] >= LEAST_SECONDS:
            found[pair.compute, pair.collective].append(_factors(seconds))
    if not found:
        raise FitError("no complete pair of compute and a collective; measure interference.csv")
    return {
        key: (float(np.median([f for f, _ in both])), float(np.median([g for _, g in both])))
        for key, both in sorted(found.items())
    }


_SIDES: Final = [(side, beside) for side in ("compute", "collective") for beside in (False, True)]


def _factors(seconds: Mapping[tuple[str, bool], float]) -> tuple[float, float]:
    c, c_beside = seconds["compute", False], seconds["compute", True]
    d, d_beside = seconds["collective", False], seconds["collective", True]
    mine = max(1.0, (d_beside - c_beside / 2) / d)
    loss = max(0.0, 1.0 - c / c_beside) * d_beside / d
    return 1.0 / (1.0 - loss / mine), mine


@cache
def load_slowdowns() -> Slowdowns:
    """The factors that ship with the package.

    Raises:
        FitError: The file is damaged.
    """
    try:
        raw = json.loads(read_text(SLOWDOWNS_FILE, FitError, MEBIBYTE))
        return {
            (compute, collective): (
                one_within(f"{compute} beside {collective}", mine, SLOWDOWN),
                one_within(f"{collective} beside {compute}", its, SLOWDOWN),
            )
            for compute, by_collective in raw["factors"].items()
            for collective, (mine, its) in by_collective.items()
        }
    except DAMAGE as error:
        raise FitError(
            f"{SLOWDOWNS_FILE}: cannot be read ({error!r}); run benchmarks/fit_interference.py"
        ) from error
