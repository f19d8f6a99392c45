"""What a search found."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from predictor.iteration import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class NearMiss:
    """A plan that nearly fits.

    Attributes:
        gpu: SKU that it is on.
        num_gpus: How many.
        plan: Its fields.
        missing_bytes: What it lacks on the fullest rank.
        remedies: Changes of one field that make it fit: ``recompute = selective``.
    """

    gpu: str
    num_gpus: int
    plan: Mapping[str, Any]
    missing_bytes: float
    remedies: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """What a search found.

    Attributes:
        objective: What the first plan has least of.
        plans: Exact estimates, best first.
        plans_evaluated: Plans whose memory was evaluated, and of those that fit the time or a lower
            bound of it.
        plans_fitting: Of these, how many fit.
        plans_passed_over: Of these, how many lower bounds ruled out.
        rejected: How many do not, by reason.
        near_misses: Plans that nearly fit.
        search_seconds: What the search took.
        interrupted: It was stopped before it had seen everything.
    """

    objective: str
    plans: tuple[Estimate, ...]
    plans_evaluated: int
    plans_fitting: int
    plans_passed_over: int
    rejected: Mapping[str, int]
    near_misses: tuple[NearMiss, ...]
    search_seconds: float
    interrupted: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values (``predictor search --json``); a plan is its case and its estimate."""
        return {
            "objective": self.objective,
            "plans_evaluated": self.plans_evaluated,
            "plans_fitting": self.plans_fitting,
            "plans_passed_over": self.plans_passed_over,
            "search_seconds": self.search_seconds,
            "interrupted": self.interrupted,
            "plans": [{**plan.case.to_dict(), **plan.to_dict()} for plan in self.plans],
            "rejected": dict(self.rejected),
            "near_misses": [
                {
                    "gpu": miss.gpu,
                    "num_gpus": miss.num_gpus,
                    "plan": dict(miss.plan),
                    "missing_bytes": miss.missing_bytes,
                    "remedies": list(miss.remedies),
                }
                for miss in self.near_misses
            ],
        }
