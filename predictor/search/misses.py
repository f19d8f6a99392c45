"""Plans that do not fit: counted by what is too large, and what would make the nearest fit."""

from typing import Any, Final

import numpy as np

from predictor.costs.prediction import Floats, Ints
from predictor.search.candidates import plan_of
from predictor.search.layouts import Layouts
from predictor.search.result import NearMiss
from predictor.search.room import Room
from predictor.units import GIB

SHOWN: Final = 3
CHANGES: Final = (
    "recompute",
    "sharding",
    "micro_batch_size",
    "pipeline_parallel",
    "tensor_parallel",
)
"""Fields whose change may make a plan fit, the least harm first."""


class Misfits:
    """Plans that do not fit, by what is too large, of one machine after another."""

    def __init__(self) -> None:
        """Start with none."""
        self._missing: dict[str, list[tuple[Floats, Ints]]] = {}

    def add(self, room: Room, variants: Ints, capacity_bytes: float) -> None:
        """Add those of one machine.

        Args:
            room: Memory of all layouts.
            variants: Plans of each layout.
            capacity_bytes: Of a GPU.
        """
        missing = room.reserved - capacity_bytes
        states = room.states > capacity_bytes
        for name, chosen in (
            ("weights, gradients and optimizer states do not fit", (missing > 0) & states),
            ("activations do not fit", (missing > 0) & ~states),
        ):
            if chosen.any():
                part = missing[chosen], variants[chosen]
                self._missing.setdefault(name, []).append(part)

    def counts(self) -> dict[str, int]:
        """How many there are, by reason with the median of what is missing."""
        found = {}
        for name, parts in self._missing.items():
            missing, variants = (np.concatenate(each) for each in zip(*parts, strict=True))
            median = _weighted_median(missing, variants) / GIB
            found[f"{name} by {median:.1f} GiB at the median"] = int(variants.sum())
        return found


def near_misses(layouts: Layouts, room: Room, capacity_bytes: float) -> list[NearMiss]:
    """The layouts that lack the least, each with changes of one field that make it fit."""
    missing = room.reserved - capacity_bytes
    rows = np.flatnonzero(missing > 0)
    nearest = rows[np.argsort(missing[rows], kind="stable")]
    found: list[NearMiss] = []
    cluster = layouts.space.case.cluster
    seen: set[tuple[Any, ...]] = set()
    for row in nearest.tolist():
        plan = plan_of(layouts.space, row)
        key = plan["tensor_parallel"], plan["pipeline_parallel"]
        if key in seen:
            continue
        seen.add(key)
        remedies = _remedies(layouts, missing, row)
        found.append(
            NearMiss(
                gpu=cluster.gpu,
                num_gpus=cluster.num_gpus,
                plan=plan,
                missing_bytes=float(missing[row]),
                remedies=tuple(remedies),
            )
        )
        if len(found) == SHOWN:
            break
    return found


def _remedies(layouts: Layouts, missing: Floats, row: int) -> list[str]:
    space = layouts.space
    same = {
        name: column == column[row]
        for name, column in space.columns.items()
        if name not in {"data_parallel", "num_microbatches"}
    }
    unlike = np.sum([~equal for equal in same.values()], axis=0)
    found = []
    for name in CHANGES:
        others = np.flatnonzero((unlike == 1) & ~same[name] & (missing <= 0))
        if len(others):
            best = int(others[np.argmax(missing[others])])
            found.append(f"{name} = {plan_of(space, best)[name]}")
    return found


def _weighted_median(values: Floats, weights: Ints) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(total, total[-1] / 2)]])
