"""What an estimate answers."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from predictor.case import Case
from predictor.iteration.costliest import OperatorShare
from predictor.values import frozen


@frozen(kw_only=True)
class Estimate:
    """The answer; see ``docs/case_reference.md`` for the JSON of it."""

    case: Case
    iteration_seconds: float
    interval_seconds: tuple[float, float]
    tokens_per_second_per_gpu: float
    model_flops_per_second_per_gpu: float
    mfu: float
    memory_bytes_per_gpu: float
    memory_reserved_bytes_per_gpu: float
    memory_parts: Mapping[str, float]
    fits: bool
    usd_per_iteration: float | None
    joules_per_iteration: float
    breakdown: Mapping[str, float]
    exposed_communication_seconds: float
    bubble_seconds: float
    origin: Mapping[str, float]
    defaults_taken: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    top_operators: tuple[OperatorShare, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the case's fields first (``predictor estimate --json``)."""
        return {
            "case": self.case.to_dict(),
            "iteration_seconds": self.iteration_seconds,
            "interval_seconds": list(self.interval_seconds),
            "tokens_per_second_per_gpu": self.tokens_per_second_per_gpu,
            "model_flops_per_second_per_gpu": self.model_flops_per_second_per_gpu,
            "mfu": self.mfu,
            "memory_bytes_per_gpu": self.memory_bytes_per_gpu,
            "memory_reserved_bytes_per_gpu": self.memory_reserved_bytes_per_gpu,
            "memory_parts": dict(self.memory_parts),
            "fits": self.fits,
            "usd_per_iteration": self.usd_per_iteration,
            "joules_per_iteration": self.joules_per_iteration,
            "breakdown": dict(self.breakdown),
            "exposed_communication_seconds": self.exposed_communication_seconds,
            "bubble_seconds": self.bubble_seconds,
            "origin": dict(self.origin),
            "defaults_taken": list(self.defaults_taken),
            "notes": list(self.notes),
            "top_operators": [asdict(operator) for operator in self.top_operators],
        }
