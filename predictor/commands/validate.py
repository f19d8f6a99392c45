"""``predictor validate``: run records against estimates, and real steps on the GPUs at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from predictor.commands.common import json_flag, print_json, result_option, say
from predictor.errors import BenchError, CaseError

if TYPE_CHECKING:
    from predictor.validate import ValidationReport


@click.command("validate")
@click.argument("runs", metavar="[RUNS.jsonl]", required=False, type=click.Path(path_type=Path))
@click.option("--markdown", metavar="FILE", type=click.Path(path_type=Path), help="Write a page.")
@click.option(
    "--measure",
    is_flag=True,
    help="Run real training steps of small models on the GPUs at hand, with the PyTorch and "
    "transformers that are installed, and compare.",
)
@click.option("--steps", metavar="NAME,...", default="", help="With --measure: those alone.")
@click.option(
    "--gpu", metavar="SKU", help="With --measure: what the GPUs are; default: their name."
)
@result_option("With --measure: append the run records to a file.")
@json_flag
def validate_command(  # noqa: PLR0913 - one argument an option
    runs: Path | None,
    *,
    markdown: Path | None,
    measure: bool,
    steps: str,
    gpu: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    r"""Estimate run records and compare; say which part of the model explains the errors.

    \b
    predictor validate examples/runs.jsonl
    predictor validate --measure -o my_steps.jsonl
    """
    from predictor.validate import ValidationReport, check, validate  # noqa: PLC0415

    if (runs is None) == (not measure):
        raise click.UsageError("validate needs a file of run records, or --measure; not both")
    if runs is not None:
        if steps or gpu or output:
            raise click.UsageError("--steps, --gpu and --output go with --measure")
        report, name = validate(runs), runs.name
    else:
        names = tuple(each for each in steps.split(",") if each)
        records = _measured(names, gpu, output)
        report, name = ValidationReport(records=tuple(map(check, records))), "measured here"
    _show(report, name, markdown, as_json=as_json)


def _measured(names: tuple[str, ...], gpu: str | None, output: Path | None) -> list[dict[str, Any]]:
    """Measure steps and tell each of them as it comes.

    Raises:
        BenchError: Nothing could be measured.
        CaseError: The file cannot be written.
    """
    from predictor.bench.steps import measure_steps  # noqa: PLC0415

    records: list[dict[str, Any]] = []
    for found in measure_steps(names, sku=gpu):
        if found.record is None:
            say(f"{found.step.name}: failed, {found.failure}", err=True)
            continue
        seconds = found.record["measured"]["iteration_seconds"]
        say(f"{found.step.name}: {seconds * 1e3:.1f} ms", err=True)
        records.append(found.record)
        if output is not None:
            _append(output, found.record)
    if not records:
        raise BenchError("--measure: no step ran; the lines above say why")
    return records


def _append(path: Path, record: dict[str, Any]) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
    except OSError as error:
        raise CaseError(f"{path}: cannot be written: {error.strerror}") from error


def _show(report: ValidationReport, name: str, markdown: Path | None, *, as_json: bool) -> None:
    if markdown is not None:
        from predictor.report.accuracy import write_accuracy  # noqa: PLC0415

        write_accuracy(markdown, [(name, report)])
        say(f"wrote {markdown}", err=True)
    if as_json:
        print_json(report.to_dict())
        return
    from predictor.report.validation import validation_text  # noqa: PLC0415

    say(validation_text(report))
