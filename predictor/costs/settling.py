"""Heat from measured rows: power and clock of each family under steady load.

Tables of others tell seconds under steady load without power and clock. What slows a device that
does the same again is its power cap: such rows stand at the cap, and the clock has fallen as the
rate did from what the cost function of short bursts says.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from predictor.case import Gpu
from predictor.costs.power import FamilyHeat, Heat
from predictor.costs.prediction import Floats
from predictor.operators import Operator
from predictor.tables import Folder, Row

Bursts = Callable[[Sequence[Operator]], Floats]
"""Seconds of operators in a short burst."""

IDLE_SHARE = 0.17
"""Power of a device between launches as a share of the cap, where no host row tells."""

EXPONENT = 2.2
"""γ: dynamic power over clock. It goes with the clock times the voltage squared, and the voltage
rises with the clock in the upper half of its range (plausible: 2 to 3)."""


def fit_heat(measured: Folder, gpu: Gpu, bursts: Mapping[str, Bursts]) -> Heat:
    """Power and clocks from shapes measured in both regimes.

    Args:
        measured: Tables of a SKU.
        gpu: Its datasheet.
        bursts: Fitted cost functions of its families.
    """
    rows = [row for table in measured.tables.values() for row in table.rows]
    clocks = [row.sm_clock_hz for row in rows if row.sm_clock_hz]
    highest = max(clocks) if clocks else float(gpu.boost_clock_hz or 0.0)
    families = {
        family: heat
        for family, table in measured.tables.items()
        if (heat := _family_heat(table.rows, highest)) is not None
    }
    for family in sorted(bursts.keys() - families.keys()):
        rows_ = measured.tables[family].rows
        if (heat := _silent_heat(rows_, highest, gpu.power_watts, bursts[family])) is not None:
            families[family] = heat
    if "memory_bound" in families:
        families.setdefault("optimizer", families["memory_bound"])
    return Heat(
        cap_watts=gpu.power_watts,
        idle_watts=_idle_watts(measured) or IDLE_SHARE * gpu.power_watts,
        max_clock_hz=highest,
        exponent=EXPONENT,
        families=families,
    )


def _idle_watts(measured: Folder) -> float | None:
    """Power while only the host works."""
    rows = measured.tables["host"].rows if "host" in measured.tables else ()
    watts = [row.watts for row in rows if row.watts]
    return round(float(np.median(watts)), 1) if watts else None


def _family_heat(rows: Sequence[Row], highest_clock_hz: float) -> FamilyHeat | None:
    """Medians over the shapes of a family that were loaded until steady."""
    burst = {r.operator: r.seconds for r in rows if r.regime == "burst" and r.cache == "cold"}
    steady = [
        (row.watts, row.sm_clock_hz, _burst_clock(row, burst.get(row.operator), highest_clock_hz))
        for row in rows
        if row.regime == "sustained" and row.status == "ok" and row.watts and row.sm_clock_hz
    ]
    if not steady:
        return None
    watts, clock, burst_clock = np.median(np.array(steady, dtype=float), axis=0)
    return FamilyHeat(
        watts=round(float(watts), 1),
        clock_hz=round(float(clock), -6),
        burst_clock_hz=round(float(burst_clock), -6),
    )


def _silent_heat(
    rows: Sequence[Row], highest_clock_hz: float, cap_watts: float, bursts: Bursts
) -> FamilyHeat | None:
    """The same where no row tells power or clock."""
    steady = [row for row in rows if row.regime == "sustained" and row.status == "ok"]
    if not steady:
        return None
    seconds = np.array([row.seconds for row in steady], dtype=float)
    slowed = float(np.median(seconds / bursts([row.operator for row in steady])))
    return FamilyHeat(
        watts=cap_watts,
        clock_hz=round(highest_clock_hz / max(slowed, 1.0), -6),
        burst_clock_hz=round(highest_clock_hz, -6),
    )


def _burst_clock(row: Row, burst_seconds: float | None, highest_clock_hz: float) -> float:
    """Clock of the burst, if the rate goes with the clock."""
    clock = row.sm_clock_hz or highest_clock_hz
    if not burst_seconds or not row.seconds:
        return clock
    return min(clock * row.seconds / burst_seconds, highest_clock_hz)
