"""Cases side by side: which fields differ, and how the time differs part by part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from predictor.iteration import Estimate

MILLION = 1e6
_LEFT_OUT = frozenset({"model.notes", "model.name"})
_OF_RANKS = {
    "plan.context_parallel_kind": "plan.context_parallel",
    "plan.moe_dispatcher": "plan.expert_parallel",
    "plan.overlap_p2p": "plan.pipeline_parallel",
    "plan.schedule": "plan.pipeline_parallel",
}
"""Fields that say how ranks work together, which bear on nothing where there is one of them."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A field in which cases differ.

    Attributes:
        path: Dotted path.
        values: Of each case, in order; None where it is absent.
    """

    path: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Estimates of several cases; the others are measured against the first.

    Attributes:
        names: Names of the cases, all different.
        estimates: Their estimates, in the same order.
        beside: Differences that are not fields of a case: changed hardware.
    """

    names: tuple[str, ...]
    estimates: tuple[Estimate, ...]
    beside: tuple[str, ...] = ()

    @property
    def same_work(self) -> bool:
        """Whether all cases process as many tokens in an iteration, on as many GPUs."""
        work = {(_tokens(each), each.case.cluster.num_gpus) for each in self.estimates}
        return len(work) == 1

    @property
    def scales(self) -> tuple[float, ...]:
        """Factors from an estimate's seconds to :attr:`seconds`."""
        if self.same_work:
            return (1.0,) * len(self.estimates)
        return tuple(
            each.case.cluster.num_gpus * MILLION / _tokens(each) for each in self.estimates
        )

    @property
    def seconds(self) -> tuple[float, ...]:
        """Seconds of an iteration, or GPU-seconds for a million tokens unless the work is equal."""
        pairs = zip(self.estimates, self.scales, strict=True)
        return tuple(each.iteration_seconds * scale for each, scale in pairs)

    @property
    def unit(self) -> str:
        """The unit of :attr:`seconds`, in words."""
        return "seconds of an iteration" if self.same_work else "GPU-seconds for a million tokens"

    def differences(self) -> tuple[Difference, ...]:
        """Fields of the resolved cases that are not the same in all, and bear on one of them."""
        flat = [_flat(each.case.to_dict()) for each in self.estimates]
        paths = dict.fromkeys(path for case in flat for path in case)
        found = []
        for path in paths:
            values = tuple(case.get(path) for case in flat)
            ranks = _OF_RANKS.get(path)
            idle = ranks is not None and all(case.get(ranks) == 1 for case in flat)
            if path not in _LEFT_OUT and not idle and any(value != values[0] for value in values):
                found.append(Difference(path, values))
        return tuple(found)

    def parts(self) -> dict[str, tuple[float, ...]]:
        """:attr:`seconds` by part of the breakdown, for each case."""
        names = dict.fromkeys(name for each in self.estimates for name in each.breakdown)
        pairs = list(zip(self.estimates, self.scales, strict=True))
        return {
            name: tuple(each.breakdown.get(name, 0.0) * scale for each, scale in pairs)
            for name in names
        }


def _tokens(estimate: Estimate) -> int:
    training = estimate.case.training
    return int(training.seq_length * training.global_batch_size)


def _flat(table: dict[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        here = f"{path}.{key}" if path else key
        flat |= _flat(value, here) if isinstance(value, dict) else {here: value}
    return flat
