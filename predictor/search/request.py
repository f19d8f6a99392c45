"""What people ask of a whole run, in one value, and the answer to it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from predictor.case import gpu_names, load_gpu, load_model, model_names, resolve
from predictor.errors import CaseError
from predictor.search.amounts import read_duration, read_tokens, read_usd
from predictor.search.choices import (
    Choice,
    best_plan,
    cheapest_sku,
    doubling_counts,
    fewest_gpus,
    largest_model,
)
from predictor.search.failures import Failures
from predictor.search.prices import load_prices
from predictor.search.ramp import Ramp
from predictor.search.scaled_models import scaled_family
from predictor.search.training_run import TrainingRun, training_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from predictor.case import Case, Model
    from predictor.search.prices import PriceTable

ALL: Final = "all"
MAX_FACTOR: Final = 1e6
ASKED: Final = (
    "tokens",
    "tokens_per_parameter",
    "prices",
    "batch_size_ramp",
    "deadline",
    "surely",
    "skus",
    "models",
    "scales",
    "budget",
    "search",
    "mtbf",
    "checkpoint_time",
    "restart_time",
    "checkpoint_every",
)
"""Words of :func:`read_request`, which are the flags of ``predictor run``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """A whole run and what is free to choose in it.

    Attributes:
        tokens: To train on.
        tokens_per_parameter: The same, over the parameters that a token passes.
        deadline_seconds: The fewest GPUs that make it are wanted (with ``models``: it must be met).
        surely: The upper end of the interval must meet the deadline.
        budget_usd: Most that the run may cost; needs ``skus``, ``models`` or ``scales``.
        skus: GPUs of which the cheapest is wanted; ``all`` stands for every known one.
        models: Presets of which the largest is wanted; ``all`` stands for every one.
        scales: Factors of the case's own model, of which the largest is wanted.
        search: Every run takes the best plan that a search finds, not the case's own.
        prices: Of GPU-hours; None: the datasheets'.
        ramp: A batch size that grows at first.
        failures: The user's own numbers.
        strict: Refuse what is extrapolated.
    """

    tokens: int | None = None
    tokens_per_parameter: float | None = None
    deadline_seconds: float | None = None
    surely: bool = False
    budget_usd: float | None = None
    skus: Sequence[str] = ()
    models: Sequence[str] = ()
    scales: Sequence[float] = ()
    search: bool = False
    prices: PriceTable | None = None
    ramp: Ramp | None = None
    failures: Failures | None = None
    strict: bool = False

    def tokens_for(self, parameters: int) -> int:
        """Tokens to train a model on that passes each through so many parameters."""
        return self.tokens or int((self.tokens_per_parameter or 0.0) * parameters)

    def run(self, case: Case, tokens: int | None = None) -> TrainingRun:
        """One run of a case.

        Raises:
            CaseError: Nothing says how many tokens.
        """
        wanted = tokens or self.tokens
        if wanted is None:
            raise CaseError("tokens: needed, as in --tokens 15T")
        return training_run(
            best_plan(case) if self.search else case,
            tokens=wanted,
            prices=self.prices,
            ramp=self.ramp,
            failures=self.failures,
            strict=self.strict,
        )

    def in_time(self, case: Case) -> TrainingRun:
        """The run on the fewest GPUs that meets the deadline, or as the case has it without one."""
        return self.fewest(case).best if self.deadline_seconds else self.run(case)

    def fewest(self, case: Case) -> Choice:
        """The fewest GPUs that meet the deadline."""
        return fewest_gpus(
            case,
            self.run,
            deadline_seconds=self.deadline_seconds or 0.0,
            counts=doubling_counts(case) if self.search else None,
            surely=self.surely,
        )


def read_request(*, strict: bool = False, **words: Any) -> RunRequest:  # noqa: ANN401
    """Read a request as people write it; the words are ``ASKED``, absent ones None.

    Raises:
        CaseError: A word is not legal; the message begins with its name.
    """

    def amount(name: str, read: Any) -> Any:  # noqa: ANN401
        return None if words.get(name) is None else read(words[name], name)

    table, ramp = words.get("prices"), words.get("batch_size_ramp")
    return RunRequest(
        tokens=amount("tokens", read_tokens),
        tokens_per_parameter=amount("tokens_per_parameter", _positive),
        deadline_seconds=amount("deadline", read_duration),
        surely=bool(words.get("surely")),
        budget_usd=amount("budget", read_usd),
        skus=_listed(words.get("skus")),
        search=bool(words.get("search")),
        models=_listed(words.get("models")),
        scales=[_positive(word, "scales") for word in _listed(words.get("scales"))],
        prices=None if table is None else load_prices(table),
        ramp=None if ramp is None else Ramp.parse(ramp),
        failures=_failures(
            *(
                amount(name, read_duration)
                for name in ("mtbf", "checkpoint_time", "restart_time", "checkpoint_every")
            )
        ),
        strict=strict,
    )


def _positive(value: object, key: str) -> float:
    try:
        number = float(str(value))
    except ValueError:
        number = 0.0
    if not 0.0 < number < MAX_FACTOR:
        raise CaseError(f"{key} = {value}: must be a number above 0 and below {MAX_FACTOR:g}")
    return number


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())


def _failures(
    mtbf: float | None, checkpoint: float | None, restart: float | None, every: float | None
) -> Failures | None:
    if mtbf is None and checkpoint is None and restart is None and every is None:
        return None
    if mtbf is None or checkpoint is None or restart is None:
        raise CaseError(
            "failures: --mtbf, --checkpoint-time and --restart-time are needed together; nothing "
            "is assumed about a machine"
        )
    return Failures(
        mtbf_seconds=mtbf,
        checkpoint_seconds=checkpoint,
        restart_seconds=restart,
        interval_seconds=every,
    )


def answer(case: Case, request: RunRequest) -> Choice:
    """Answer what a request leaves free: a model, a GPU, a count of GPUs, or nothing.

    Raises:
        CaseError: The request contradicts itself or lacks something.
        NotPredictable: No run does what was asked.
    """
    if (request.tokens is None) == (request.tokens_per_parameter is None):
        raise CaseError("tokens: exactly one of --tokens and --tokens-per-parameter is needed")
    models = _models(case, request)
    if models:
        return largest_model(
            case,
            request.run,
            models,
            tokens=request.tokens_for,
            budget_usd=request.budget_usd,
            deadline_seconds=request.deadline_seconds,
        )
    if request.tokens_per_parameter is not None:
        raise CaseError("tokens per parameter: needs models, as in --models or --scales")
    if request.skus:
        skus = gpu_names() if tuple(request.skus) == (ALL,) else request.skus
        known = [load_gpu(sku).sku for sku in skus]
        most = math.inf if request.budget_usd is None else request.budget_usd
        return cheapest_sku(case, request.in_time, known, budget_usd=most)
    if request.budget_usd is not None:
        raise CaseError(
            "budget: chooses GPUs or a model; name some in --skus, --models or --scales"
        )
    if request.deadline_seconds:
        return request.fewest(case)
    run = request.run(case)
    return Choice(runs={f"{run.case.cluster.num_gpus} GPUs": run}, rejected={})


def _models(case: Case, request: RunRequest) -> dict[str, Model]:
    if request.models and request.scales:
        raise CaseError("models and scales: give one of them")
    if (request.models or request.scales) and not (request.budget_usd or request.deadline_seconds):
        raise CaseError("the largest model needs a budget or a deadline to stay within")
    if request.scales:
        return scaled_family(resolve(case).case.model, request.scales)
    names = model_names() if tuple(request.models) == (ALL,) else request.models
    return {name: load_model(name) for name in names}
