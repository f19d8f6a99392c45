"""A case of a study as rows of a table: one for each price table, whatever became of the case.

A case that cannot run is a row too, with its reason: ``infeasible`` where memory does not hold it,
``refused`` where a rule is broken or this version cannot estimate it, ``failed`` where our own code
broke (which is a bug; the other cases go on).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from predictor.case import Case, load_gpu
from predictor.errors import CaseError, PredictorError, StudyError
from predictor.iteration import Estimate, estimate
from predictor.search.amounts import DAY_SECONDS
from predictor.search.ramp import batch_phases
from predictor.search.study import Study, digest, tables_digest
from predictor.search.training_run import Phase, TrainingRun
from predictor.units import GIB, HOUR_SECONDS, MWH_JOULES

if TYPE_CHECKING:
    from predictor.search.prices import Price, PriceTable

Row = dict[str, Any]
Estimator = Callable[[Case], Estimate]

LEADING: Final[dict[str, type]] = {"row": int, "key": str}
ANSWERS: Final[dict[str, type]] = {
    "prices": str,
    "status": str,
    "reason": str,
    "iteration_seconds": float,
    "iteration_seconds_low": float,
    "iteration_seconds_high": float,
    "tokens_per_second_per_gpu": float,
    "model_flops_per_second_per_gpu": float,
    "mfu": float,
    "memory_bytes_per_gpu": float,
    "memory_reserved_bytes_per_gpu": float,
    "exposed_communication_seconds": float,
    "bubble_seconds": float,
    "joules_per_iteration": float,
    "tensor_parallel": int,
    "context_parallel": int,
    "pipeline_parallel": int,
    "expert_parallel": int,
    "data_parallel": int,
    "usd_per_gpu_hour": float,
    "usd_per_iteration": float,
}
RUN: Final[dict[str, type]] = {
    "iterations": int,
    "days": float,
    "days_low": float,
    "days_high": float,
    "gpu_hours": float,
    "usd": float,
    "usd_low": float,
    "usd_high": float,
    "mwh": float,
}
COPIED: Final = (
    "iteration_seconds",
    "tokens_per_second_per_gpu",
    "model_flops_per_second_per_gpu",
    "mfu",
    "memory_bytes_per_gpu",
    "memory_reserved_bytes_per_gpu",
    "exposed_communication_seconds",
    "bubble_seconds",
    "joules_per_iteration",
)
DEGREES: Final = (
    "tensor_parallel",
    "context_parallel",
    "pipeline_parallel",
    "expert_parallel",
    "data_parallel",
)

_ONE_AT_A_TIME: Final = Lock()
"""Cost functions keep what they have predicted; threads of one worker take turns."""


def columns(study: Study) -> dict[str, type]:
    """Names and types of a study's columns; values of a list by nature are JSON text."""
    return {**LEADING, **_varied(study), **ANSWERS, **(RUN if study.tokens else {})}


def part_rows(
    study: Study, first: int, count: int, *, estimator: Estimator = estimate
) -> list[Row]:
    """Rows of ``count`` cases from ``first`` on; a pure function, on whatever machine.

    Raises:
        StudyError: This machine has other tables or another version than the one that asks.
    """
    if tables_digest(study.gpus) != study.tables:
        raise StudyError(
            "this worker has other tables or another version of the package than the study began "
            "with; install the same on all machines, or begin the study anew"
        )
    varied = _varied(study)
    with _ONE_AT_A_TIME:
        return [
            row
            for number in range(first, min(first + count, study.cases))
            for row in _case_rows(study, number, varied, estimator)
        ]


def _case_rows(
    study: Study, number: int, varied: dict[str, type], estimator: Estimator
) -> list[Row]:
    """Rows of one case, one a price table."""
    mapping, values = study.case(number), study.values(number)
    head: Row = {
        name: _plain(value, kind)
        for (name, kind), value in zip(varied.items(), values, strict=True)
    }
    answer: Estimate | None = None
    status, reason = "ok", None
    try:
        answer = estimator(Case.from_dict(mapping))
        status, reason = _verdict(answer)
    except PredictorError as error:
        status, reason = "refused", str(error)
    except Exception as error:  # noqa: BLE001 - one bug does not cost a million other cases
        status, reason = "failed", f"{type(error).__name__}: {error}"
    rows = []
    for place, table in enumerate(study.prices):
        row: Row = {
            "row": number * len(study.prices) + place,
            "key": digest([mapping, table.name]),
            **head,
            "prices": table.name,
            "status": status,
            "reason": None if reason is None else " ".join(reason.split()),
        }
        rows.append(row if answer is None else row | _figures(answer, table, study.tokens))
    return rows


def _verdict(answer: Estimate) -> tuple[str, str | None]:
    if answer.fits:
        return "ok", None
    holds = load_gpu(answer.case.cluster.gpu).memory_bytes
    needs = answer.memory_reserved_bytes_per_gpu
    return "infeasible", f"memory: needs {needs / GIB:.1f} GiB of {holds / GIB:.1f}"


def _figures(answer: Estimate, table: PriceTable, tokens: int | None) -> Row:
    price = _price(answer, table)
    low, high = answer.interval_seconds
    hours = answer.case.cluster.num_gpus * answer.iteration_seconds / HOUR_SECONDS
    row: Row = {name: float(getattr(answer, name)) for name in COPIED}
    row |= {name: getattr(answer.case.plan, name) for name in DEGREES}
    row |= {
        "iteration_seconds_low": low,
        "iteration_seconds_high": high,
        "usd_per_gpu_hour": None if price is None else price.usd_per_gpu_hour,
        "usd_per_iteration": None if price is None else price.usd_per_gpu_hour * hours,
    }
    return row if tokens is None else row | _run_figures(answer, price, tokens)


def _run_figures(answer: Estimate, price: Price | None, tokens: int) -> Row:
    training = answer.case.training
    ((batch, iterations),) = batch_phases(
        total_samples=-(-tokens // int(training.seq_length)),
        global_batch_size=int(training.global_batch_size),
    )
    phase = Phase(global_batch_size=batch, iterations=iterations, estimate=answer)
    run = TrainingRun(case=answer.case, phases=(phase,), tokens=tokens, price=price)
    usd = (None, None) if run.usd is None else run.scaled_interval(run.usd)
    low, high = run.interval_seconds
    return {
        "iterations": iterations,
        "days": run.seconds / DAY_SECONDS,
        "days_low": low / DAY_SECONDS,
        "days_high": high / DAY_SECONDS,
        "gpu_hours": run.gpu_hours,
        "usd": run.usd,
        "usd_low": usd[0],
        "usd_high": usd[1],
        "mwh": run.joules / MWH_JOULES,
    }


def _price(answer: Estimate, table: PriceTable) -> Price | None:
    try:
        return table.price(answer.case.cluster.gpu)
    except CaseError:
        return None


def _varied(study: Study) -> dict[str, type]:
    """Names and types of the fields that vary."""
    return {axis.name: _type(axis.values) for axis in study.axes}


def _type(values: tuple[Any, ...]) -> type:
    """The one type of an axis' values: numbers stay numbers, what is mixed becomes text."""
    found = {type(value) for value in values}
    if found <= {int, float} and found:
        return float if float in found else int
    return bool if found == {bool} else str


def _plain(value: Any, kind: type) -> Any:  # noqa: ANN401
    return json.dumps(value) if kind is str and not isinstance(value, str) else kind(value)
