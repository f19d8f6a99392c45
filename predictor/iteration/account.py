"""Where an iteration's seconds go against the model's own arithmetic at the datasheet's peak.

    seconds = ideal + extra + below peak + moving bytes + host + communication + bubble

``ideal`` is the model's arithmetic at the peak (the MFU times the seconds); ``extra`` is arithmetic
beyond that, of recomputation, of padding and of what one stage has more than its share; ``below
peak`` is what products and attention take beyond the peak's time for all of it.
"""

from collections.abc import Mapping

from predictor.case import Case, resolve
from predictor.costs import load_costs
from predictor.costs.power import TENSOR_FAMILIES
from predictor.iteration.answer import Estimate
from predictor.iteration.built import run_of
from predictor.iteration.estimate import estimate
from predictor.iteration.implementations import load as load_stack
from predictor.iteration.run import WAITING
from predictor.values import frozen

EVERY = 1_000_000
LINKS = frozenset({"scale-up links", "network"})
TENSOR_CORES = "tensor cores"


@frozen(kw_only=True)
class Account:
    """An estimate and what stands behind its seconds.

    Attributes:
        estimate: The estimate.
        losses: Seconds by cause, in the order of the equation above; they add up to the iteration.
        collective_seconds: Of all collectives of the busiest stage, hidden or not.
        uncertainties: Half-widths of the interval's independent terms, seconds.
        clock_hz: At which the step settles.
        max_clock_hz: Of a cool device.
    """

    estimate: Estimate
    losses: Mapping[str, float]
    collective_seconds: float
    uncertainties: Mapping[str, float]
    clock_hz: float
    max_clock_hz: float


def account_of(case: Case) -> Account:
    """Estimate a case and account for its seconds.

    Raises:
        CaseError: As :func:`~predictor.iteration.estimate`.
        NotPredictable: As there.
    """
    answer = estimate(case)
    resolved = resolve(answer.case).case
    costs = load_costs(resolved.cluster.gpu)
    run = run_of(resolved, costs)
    operators = run.top_operators(EVERY)
    arithmetic = sum(
        each.share_of_peak * each.seconds for each in operators if each.bound_by == TENSOR_CORES
    )
    stack = load_stack(str(resolved.implementation))
    return Account(
        estimate=answer,
        losses=_losses(answer, arithmetic),
        collective_seconds=sum(each.seconds for each in operators if each.bound_by in LINKS),
        uncertainties=run.uncertainties(compared=stack.compared),
        clock_hz=run.clock_hz,
        max_clock_hz=costs.heat.max_clock_hz,
    )


def _losses(answer: Estimate, arithmetic_seconds: float) -> dict[str, float]:
    parts = answer.breakdown
    ideal = answer.mfu * answer.iteration_seconds
    tensor = sum(seconds for name, seconds in parts.items() if name in TENSOR_FAMILIES)
    moving = sum(
        seconds
        for name, seconds in parts.items()
        if name not in TENSOR_FAMILIES and name not in WAITING
    )
    # Small formats beat the peak that MFU counts by: then there is nothing extra to tell apart.
    extra = min(max(0.0, arithmetic_seconds - ideal), max(0.0, tensor - ideal))
    return {
        "ideal": ideal,
        "extra arithmetic": extra,
        "below peak": tensor - ideal - extra,
        "moving bytes": moving,
        "host": parts.get("host", 0.0),
        "communication": parts.get("communication", 0.0),
        "bubble": parts.get("bubble", 0.0),
    }
