"""Heat from measured rows: the power of each family, and how the clock gives way at the cap."""

from collections.abc import Iterable

import numpy as np

from predictor.case import Gpu
from predictor.costs.power import Heat
from predictor.operators import Gemm
from predictor.tables import Folder, Row

IDLE_SHARE = 0.17
"""Power of a device between launches as a share of the cap (H100 and H200: about 120 of 700 W)."""

DEFAULT_EXPONENT = 2.2
"""γ where no shape was measured both in bursts and at steady power."""

MINIMUM_EXCESS, MINIMUM_SLOWDOWN = 1.05, 1.02
"""Below these a shape says nothing about how the clock gives way."""

LONG_SECONDS = 200e-6
"""Rows shorter than this draw launch power, not the family's."""


def fit_heat(measured: Folder, gpu: Gpu) -> Heat:
    """Power by family from burst rows, γ from shapes measured in both regimes."""
    watts = {
        family: power
        for family, table in measured.tables.items()
        if (power := _family_watts(table.rows)) is not None
    }
    idle = IDLE_SHARE * gpu.power_watts
    return Heat(
        cap_watts=gpu.power_watts,
        idle_watts=idle,
        family_watts={k: round(v, 1) for k, v in watts.items()},
        exponent=round(_exponent(measured, gpu.power_watts, idle), 3),
    )


def _family_watts(rows: Iterable[Row]) -> float | None:
    """Time-weighted mean power of a family's long burst rows."""
    long = [
        (row.seconds, row.watts)
        for row in rows
        if row.status == "ok"
        and row.regime == "burst"
        and row.watts
        and row.seconds
        and row.seconds > LONG_SECONDS
    ]
    if not long:
        return None
    seconds, watts = np.array(long).T
    return float(np.average(watts, weights=seconds))


def _exponent(measured: Folder, cap: float, idle: float) -> float:
    """γ such that the sustained slowdown follows from the excess power of the burst."""
    if "gemm" not in measured.tables:
        return DEFAULT_EXPONENT
    rows = measured.tables["gemm"].rows
    burst = {r.operator: r for r in rows if r.regime == "burst" and r.cache == "cold"}
    found = []
    for row in rows:
        base = burst.get(row.operator)
        if row.regime != "sustained" or base is None or row.status != "ok":
            continue
        if not (base.watts and base.seconds and row.seconds and isinstance(row.operator, Gemm)):
            continue
        excess = (base.watts - idle) / (cap - idle)
        slower = row.seconds / base.seconds
        if excess > MINIMUM_EXCESS and slower > MINIMUM_SLOWDOWN:
            found.append(float(np.log(excess) / np.log(slower)))
    return float(np.median(found)) if found else DEFAULT_EXPONENT
