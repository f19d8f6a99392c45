"""The plans that a search found, as a table of at most 100 columns."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

from predictor.report.quantities import (
    bytes_text,
    count_text,
    joules_text,
    percent_text,
    seconds_text,
    usd_text,
)
from predictor.report.table import WIDTH, columns, shortened

if TYPE_CHECKING:
    from predictor.iteration import Estimate
    from predictor.search.result import NearMiss, SearchResult

SHORT = {
    "tensor_parallel": "tp",
    "context_parallel": "cp",
    "pipeline_parallel": "pp",
    "virtual_pipeline": "vpp",
    "expert_parallel": "ep",
    "expert_tensor_parallel": "etp",
    "data_parallel": "dp",
    "micro_batch_size": "mb",
}
"""Heads of the columns of degrees."""

FLAGS = {
    "overlap_grad_reduce": "g",
    "overlap_param_gather": "p",
    "overlap_p2p": "m",
    "tp_overlap": "t",
    "sequence_parallel": "s",
}
"""Letters of what a plan switches on."""

_LETTERS = (
    "flags: overlap of g gradients, p parameters, m messages, t tensor-parallel transfers; "
    "s sequence parallel"
)

_WORDS = {"schedule", "recompute", "sharding", "flags"}

_LESS_WANTED = {"energy": "energy", "90 %": "", "USD": "usd", "MFU": ""}
"""Columns that a table does without where it is too wide, the first of them first; each with the
objective for which it is kept."""


def search_text(result: SearchResult) -> str:
    """Return what was found, what was not and why, and what nearly was."""
    rate = result.plans_evaluated / max(result.search_seconds, 1e-9)
    stopped = "; stopped before the end" if result.interrupted else ""
    head = (
        f"{count_text(result.plans_evaluated)} plans in {seconds_text(result.search_seconds)} "
        f"({count_text(rate)}/s), {count_text(result.plans_fitting)} fit{stopped}"
    )
    if result.plans_passed_over:
        told = count_text(result.plans_passed_over)
        head += f"\n{told} of these are worse than the best ones by lower bounds alone"
    blocks = [[head], _table(result), _rejected(result), _misses(result.near_misses)]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _table(result: SearchResult) -> list[str]:
    plans = result.plans
    if not plans:
        return ["no plan fits"]
    rows = [_row(number, plan) for number, plan in enumerate(plans, 1)]
    names = [name for name in rows[0] if any(row[name] for row in rows)]
    common = {
        name: rows[0][name]
        for name in names
        if name in {*SHORT.values(), "schedule", "recompute", "sharding", "gpu", "gpus"}
        and all(row[name] == rows[0][name] for row in rows)
    }
    less_wanted = [name for name, wanted in _LESS_WANTED.items() if wanted != result.objective]
    lines = _aligned(rows, [name for name in names if name not in common], less_wanted)
    told = ", ".join(f"{name} {value}" for name, value in common.items() if value != "1")
    model = plans[0].case.model.name or "the model"
    whose = "all plans" if len(plans) > 1 else "the plan"
    first = wrap(f"{model}, {plans[0].case.implementation}; {whose}: {told}", WIDTH)
    return [*first, *lines, *wrap(_LETTERS, WIDTH, subsequent_indent="  ")]


def _aligned(rows: list[dict[str, str]], shown: list[str], less_wanted: list[str]) -> list[str]:
    """Rows as columns; where they are too wide for a line, without those that are less wanted."""
    for left_out in (None, *less_wanted):
        shown = [name for name in shown if name != left_out]
        table = [shown, *([row[name] for name in shown] for row in rows)]
        right = [at for at, name in enumerate(shown) if name not in _WORDS]
        lines = columns(table, right=right)
        if max(map(len, lines)) <= WIDTH:
            return lines
    return [shortened(line, WIDTH) for line in lines]


def _row(number: int, plan: Estimate) -> dict[str, str]:
    case = plan.case
    low, high = plan.interval_seconds
    row = {
        "": str(number),
        "time": seconds_text(plan.iteration_seconds),
        "90 %": f"±{percent_text((high - low) / 2 / plan.iteration_seconds)}",
        "MFU": percent_text(plan.mfu),
        "memory": bytes_text(plan.memory_reserved_bytes_per_gpu),
        "USD": "" if plan.usd_per_iteration is None else usd_text(plan.usd_per_iteration)[:-4],
        "energy": joules_text(plan.joules_per_iteration),
        "gpu": case.cluster.gpu,
        "gpus": str(case.cluster.num_gpus),
    }
    for name, short in SHORT.items():
        section = case.training if name == "micro_batch_size" else case.plan
        row[short] = str(getattr(section, name))
    row["schedule"] = str(case.plan.schedule)
    row["recompute"] = str(case.training.recompute)
    row["sharding"] = str(case.plan.sharding)
    on = [letter for name, letter in FLAGS.items() if getattr(case.plan, name)]
    row["flags"] = "".join(on) or "-"
    return row


def _rejected(result: SearchResult) -> list[str]:
    ranked = sorted(result.rejected.items(), key=lambda item: -item[1])
    return [shortened(f"{count_text(n)} plans: {reason}", WIDTH) for reason, n in ranked]


def _misses(misses: tuple[NearMiss, ...]) -> list[str]:
    lines = []
    for miss in misses:
        degrees = [
            f"{short} {miss.plan[name]}" for name, short in SHORT.items() if name in miss.plan
        ]
        told = [word for word in degrees if not word.endswith(" 1")]
        told += [
            str(miss.plan["schedule"]),
            *(f"{name} {miss.plan[name]}" for name in ("recompute", "sharding")),
        ]
        remedy = " or ".join(miss.remedies)
        text = (
            f"nearest to fit on {miss.num_gpus} {miss.gpu}, {bytes_text(miss.missing_bytes)} too "
            f"much: {', '.join(told)}; "
            + (f"would fit with {remedy}" if remedy else "no change of one field is enough")
        )
        lines += wrap(text, WIDTH, subsequent_indent="  ")
    return lines
