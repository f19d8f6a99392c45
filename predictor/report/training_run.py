"""A whole run for people: at most 100 columns."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

from predictor.report.quantities import (
    count_text,
    days_text,
    energy_text,
    percent_text,
    price_text,
    seconds_text,
    short_count_text,
    usd_text,
)
from predictor.report.table import WIDTH, columns, shortened
from predictor.report.text import heading, memory_text, throughput_text
from predictor.units import HOUR_SECONDS

if TYPE_CHECKING:
    from predictor.search.choices import Choice
    from predictor.search.training_run import TrainingRun

MOST_PHASES = 12


def training_run_text(run: TrainingRun) -> str:
    """Return a run with its intervals, what its iterations are and where the price comes from."""
    full_batch = run.phases[-1].estimate
    fullest = next((each.estimate for each in run.phases if not each.estimate.fits), full_batch)
    machine, *plan = heading(full_batch.case)
    low, high = run.interval_seconds
    hours = [seconds / HOUR_SECONDS * run.case.cluster.num_gpus for seconds in (low, high)]
    energy = [energy_text(joules) for joules in run.scaled_interval(run.joules)]
    rows = [
        ("iterations", _iterations(run)),
        ("throughput", throughput_text(full_batch)),
        ("memory", memory_text(fullest)),
        ("time", f"{days_text(run.seconds)}, 90 % in {days_text(low)} to {days_text(high)}"),
        ("GPU-hours", f"{count_text(run.gpu_hours)}, {' to '.join(map(count_text, hours))}"),
        ("energy", f"{energy_text(run.joules)} in the GPUs, {' to '.join(energy)}"),
    ]
    if run.usd is not None and run.price is not None:
        money = " to ".join(usd_text(usd) for usd in run.scaled_interval(run.usd))
        rows.append(("price", f"{usd_text(run.usd)}, {money}"))
        rows.append(("", price_text(run.price.usd_per_gpu_hour, run.price.source)))
    if run.failures is not None:
        lost = percent_text(1.0 - 1.0 / run.slowdown)
        every = seconds_text(run.failures.work_seconds)
        rows.append(("failures", f"{lost} of the time is lost; a checkpoint every {every}"))
    lines = [f"{machine}: {short_count_text(run.tokens)} tokens", *plan, ""]
    lines += [shortened(line, WIDTH) for line in columns(rows)]
    return "\n".join([*lines, *_phases(run), *_remarks(run)])


def _iterations(run: TrainingRun) -> str:
    last = run.phases[-1]
    return (
        f"{count_text(run.iterations)}; {seconds_text(last.estimate.iteration_seconds)} each at "
        f"the full batch of {count_text(last.global_batch_size)} sequences"
    )


def _phases(run: TrainingRun) -> list[str]:
    if len(run.phases) == 1:
        return []
    rows = [
        (
            f"  {count_text(phase.iterations)}",
            f"of {phase.global_batch_size} sequences",
            seconds_text(phase.estimate.iteration_seconds),
        )
        for phase in run.phases
    ]
    left_out = len(rows) - MOST_PHASES
    if left_out > 0:
        rows = [*rows[: MOST_PHASES // 2], (f"  ({left_out} more)", "", ""), *rows[-6:]]
    return ["", "batch size ramp: iterations", *columns(rows, right=(0, 2))]


def _remarks(run: TrainingRun) -> list[str]:
    lines = [""]
    taken = run.phases[-1].estimate.defaults_taken
    if taken:
        lines += wrap(f"defaults taken: {'; '.join(taken)}", WIDTH, subsequent_indent="  ")
    for note in run.phases[-1].estimate.notes:
        lines += wrap(f"note: {note}", WIDTH, subsequent_indent="  ")
    if not run.fits:
        lines.append("it does not fit: --search takes the fastest plan that does")
    return lines if len(lines) > 1 else []


def choice_text(choice: Choice) -> str:
    """Return the best run, the ranking of the others and why the rest was left out."""
    blocks = [training_run_text(choice.best)]
    if len(choice.runs) > 1:
        rows = [
            (
                f"  {label}",
                f"{run.case.cluster.num_gpus} GPUs",
                days_text(run.seconds),
                "" if run.usd is None else usd_text(run.usd),
            )
            for label, run in choice.runs.items()
        ]
        blocks.append("\n".join(["ranking", *columns(rows, right=(1, 2, 3))]))
    if choice.rejected:
        rows_out = [(f"  {label}", reason) for label, reason in choice.rejected.items()]
        cut = [shortened(line, WIDTH) for line in columns(rows_out)]
        blocks.append("\n".join(["left out", *cut]))
    return "\n\n".join(blocks)
