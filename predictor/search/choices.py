"""Which GPUs, how many, and how large a model: choices among whole runs.

Each choice is a walk over a few cases, every one of them a whole run of its own; what is left out
is kept with its reason. The plan is the case's own: its degrees stay, and data parallelism takes up
what is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from predictor.case import Case, Model, resolve
from predictor.errors import NotPredictable, PredictorError
from predictor.iteration.dimensions import parameters_of
from predictor.search.amounts import DAY_SECONDS
from predictor.search.finding import search
from predictor.search.training_run import TrainingRun

Runner = Callable[[Case], TrainingRun]
"""A case to its whole run; what the run is for (tokens, prices) is bound in it."""

TokensRunner = Callable[[Case, int], TrainingRun]
"""The same, for so many tokens."""

MACHINE: Final = (
    "gpus_per_node",
    "network",
    "inter_node",
    "inter_node_bytes_per_second_per_gpu",
    "inter_node_latency_seconds",
)
"""Fields of a cluster that belong to its GPU's machine."""

NO_PRICE: Final = "nobody names its price"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Runs that do what was asked, best first, and why others do not.

    Attributes:
        runs: By label, best first.
        rejected: Reasons by label.
    """

    runs: Mapping[str, TrainingRun]
    rejected: Mapping[str, str]

    @property
    def best(self) -> TrainingRun:
        """The first run.

        Raises:
            NotPredictable: There is none; the message holds the reasons.
        """
        if not self.runs:
            shown = "; ".join(f"{label}: {reason}" for label, reason in self.rejected.items())
            raise NotPredictable(f"no run does what was asked ({shown})")
        return next(iter(self.runs.values()))

    def to_dict(self) -> dict[str, Any]:
        """Plain values: the best run's, the labels of all others in order, and the reasons."""
        return {
            **self.best.to_dict(),
            "ranking": [
                {
                    "name": label,
                    "num_gpus": run.case.cluster.num_gpus,
                    "days": run.seconds / DAY_SECONDS,
                    "gpu_hours": run.gpu_hours,
                    "usd": run.usd,
                }
                for label, run in self.runs.items()
            ],
            "rejected": dict(self.rejected),
        }


def gpu_counts(case: Case) -> list[int]:
    """Counts on which a case's plan and batch can run: one replica to one for each micro-batch."""
    full = resolve(case).case
    replica = full.cluster.num_gpus // full.plan.data_parallel
    most = full.training.global_batch_size // full.training.micro_batch_size
    return [replica * degree for degree in range(1, most + 1) if most % degree == 0]


def doubling_counts(case: Case) -> list[int]:
    """Counts for plans that a search chooses: one node, doubled, to a node for each sequence."""
    full = resolve(case).case
    node, batch = int(full.cluster.gpus_per_node), int(full.training.global_batch_size)
    return [node << step for step in range(batch.bit_length()) if node << step <= node * batch]


def best_plan(case: Case) -> Case:
    """The case with the plan that a search finds to be fastest on its GPUs, at its batch.

    Raises:
        NotPredictable: No plan fits.
    """
    batch = int(resolve(case).case.training.global_batch_size)
    found = search(
        case,
        gpu=case.cluster.gpu,
        num_gpus=case.cluster.num_gpus,
        global_batch_size=batch,
        top=1,
    )
    if not found.plans:
        reasons = "; ".join(f"{count} plans: {reason}" for reason, count in found.rejected.items())
        raise NotPredictable(f"no plan fits {case.cluster.num_gpus} GPUs ({reasons})")
    return found.plans[0].case


def fewest_gpus(
    case: Case,
    run: Runner,
    *,
    deadline_seconds: float,
    counts: Iterable[int] | None = None,
    surely: bool = False,
) -> Choice:
    """The run on the fewest GPUs that ends in time; it comes first, larger ones are not tried.

    Args:
        case: With the plan of one replica; its global batch size stays.
        run: A case to its run.
        deadline_seconds: Wall clock.
        counts: To try, rising; None: all that the case's plan and the batch allow.
        surely: The upper end of the interval must be in time too.
    """
    batch = resolve(case).case.training.global_batch_size
    rejected: dict[str, str] = {}
    for count in gpu_counts(case) if counts is None else counts:
        label = f"{count} GPUs"
        try:
            tried = run(
                case.replace(
                    cluster={"num_gpus": count},
                    plan={"data_parallel": None},
                    training={"global_batch_size": batch},
                )
            )
        except PredictorError as error:
            rejected[label] = str(error)
            continue
        seconds = tried.interval_seconds[1] if surely else tried.seconds
        reason = _misfit(tried) or _late(seconds, deadline_seconds)
        if reason is None:
            return Choice(runs={label: tried}, rejected=rejected)
        rejected[label] = reason
    return Choice(runs={}, rejected=rejected)


def cheapest_sku(
    case: Case, run: Runner, skus: Iterable[str], *, budget_usd: float = math.inf
) -> Choice:
    """Runs of a case on other GPUs, cheapest first; each in its own usual machine.

    Args:
        case: On any of the GPUs; its global batch size stays.
        run: A case to its run, or to the run that meets a deadline.
        skus: To try.
        budget_usd: Most that a run may cost.
    """
    batch = resolve(case).case.training.global_batch_size
    runs: dict[str, TrainingRun] = {}
    rejected: dict[str, str] = {}
    for sku in skus:
        own = {} if sku == case.cluster.gpu else dict.fromkeys(MACHINE)
        try:
            there = case.replace(cluster={**own, "gpu": sku}, training={"global_batch_size": batch})
            tried = run(there)
        except PredictorError as error:
            rejected[sku] = str(error)
            continue
        reason = _misfit(tried) or _costly(tried.usd, budget_usd)
        if reason is None:
            runs[sku] = tried
        else:
            rejected[sku] = reason
    ranked = sorted(runs.items(), key=lambda item: item[1].usd or 0.0)
    return Choice(runs=dict(ranked), rejected=rejected)


def largest_model(
    case: Case,
    run: TokensRunner,
    models: Mapping[str, Model],
    *,
    tokens: Callable[[int], int],
    budget_usd: float | None = None,
    deadline_seconds: float | None = None,
) -> Choice:
    """The models that a budget and a deadline allow, largest first; smaller ones are not tried.

    Args:
        case: Whose model is replaced.
        run: A case and tokens to its run.
        models: To try.
        tokens: Of the run of a model, by the parameters that a token passes.
        budget_usd: Most that the run may cost.
        deadline_seconds: Longest that it may take.
    """
    sizes = {name: _parameters(case, model) for name, model in models.items()}
    rejected: dict[str, str] = {}
    for name in sorted(sizes, key=lambda each: -sizes[each][0]):
        try:
            tried = run(replace(case, model=models[name]), tokens(sizes[name][1]))
        except PredictorError as error:
            rejected[name] = str(error)
            continue
        reason = (
            _misfit(tried)
            or _costly(tried.usd, budget_usd)
            or _late(tried.seconds, deadline_seconds)
        )
        if reason is None:
            return Choice(runs={name: tried}, rejected=rejected)
        rejected[name] = reason
    return Choice(runs={}, rejected=rejected)


def _parameters(case: Case, model: Model) -> tuple[int, int]:
    """All parameters of a model and those that a token passes; nothing about its plan."""
    alone = replace(case, model=model, plan=type(case.plan)(), training=case.training)
    counted = parameters_of(resolve(alone).case.model)
    return counted.total, counted.active


def _misfit(run: TrainingRun) -> str | None:
    return None if run.fits else "does not fit the memory of its GPUs"


def _late(seconds: float, deadline_seconds: float | None) -> str | None:
    if deadline_seconds is None or seconds <= deadline_seconds:
        return None
    return f"{seconds / DAY_SECONDS:,.4g} days, more than {deadline_seconds / DAY_SECONDS:,.4g}"


def _costly(usd: float | None, budget_usd: float | None) -> str | None:
    if budget_usd is None or (usd is not None and usd <= budget_usd):
        return None
    return NO_PRICE if usd is None else f"{usd:,.0f} USD, more than {budget_usd:,.0f}"
