"""``predictor run`` and ``predictor study``: whole trainings, and many cases."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from predictor.commands.case_flags import read_case
from predictor.commands.case_options import CaseCommand, case_options
from predictor.commands.common import (
    FAILED,
    FORCE,
    check_absent,
    json_flag,
    print_json,
    result_option,
    say,
    write_plan,
)


@click.command("run", cls=CaseCommand, params=case_options())
@click.argument("case", metavar="CASE.toml|MODEL", required=False)
@click.option("--tokens", metavar="N", help="To train on: 15T, 300B, 1e12.")
@click.option("--tokens-per-parameter", metavar="X", help="The same, with --models or --scales.")
@click.option("--prices", metavar="NAME|FILE", help="datasheet (default), aws, ..., or your own.")
@click.option("--batch-size-ramp", metavar="START,INC,SAMPLES", help="Batch size that grows.")
@click.option("--deadline", metavar="TIME", help="Fewest GPUs that make it: 30d, 12h.")
@click.option("--surely", is_flag=True, help="Even at the upper end of the interval.")
@click.option("--skus", metavar="A,B,...|all", help="The cheapest of these GPUs.")
@click.option("--models", metavar="A,B,...|all", help="Largest for --budget, --deadline.")
@click.option("--scales", metavar="X,X,...", help="The same, of the model made larger.")
@click.option("--budget", metavar="USD", help="Most that the run may cost: 2.5M.")
@click.option("--search", is_flag=True, help="The best plan each time, not the case's own.")
@click.option("--mtbf", metavar="TIME", help="Mean time between failures of the whole job.")
@click.option("--checkpoint-time", metavar="TIME", help="For which a checkpoint stops training.")
@click.option("--restart-time", metavar="TIME", help="From a failure to the next iteration.")
@click.option("--checkpoint-every", metavar="TIME", help="Work between two; default: the best.")
@click.option("--strict", is_flag=True, help="Refuse what is not measured or fitted.")
@result_option("Write the case of the run that is shown, for estimate, explain, report and trace.")
@FORCE
@json_flag
def run_command(
    case: str | None,
    *,
    strict: bool,
    output: Path | None,
    force: bool,
    as_json: bool,
    **flags: Any,  # noqa: ANN401 - a field each
) -> None:
    r"""Estimate a whole run: days, GPU-hours, dollars, MWh; choose GPUs, their count or a model.

    \b
    predictor run llama3-8b --gpu h100-sxm5-80gb --num-gpus 64 --tokens 1T
    predictor run CASE.toml --tokens 15T --deadline 60d --prices my_prices.toml
    predictor run llama3-70b --gpu h100-sxm5-80gb --num-gpus 256 --global-batch-size 1024 \
        --tokens 1T --skus h100-sxm5-80gb,h200-sxm5-141gb --search --budget 2M -o best.toml
    """
    from predictor.search.request import ASKED, answer, read_request  # noqa: PLC0415

    if output is not None:
        check_absent(output, force=force)
    asked = {name: flags.pop(name) for name in ASKED}
    found = answer(read_case(case, flags), read_request(**asked, strict=strict))
    if as_json:
        print_json(found.to_dict())
    else:
        from predictor.report.training_run import choice_text  # noqa: PLC0415

        say(choice_text(found))
    if output is not None:
        write_plan(output, found.best.case, "predictor run", force=force)


@click.command("study")
@click.argument("study", metavar="STUDY.toml", type=click.Path(path_type=Path))
@click.option("-o", "--output", metavar="OUT", type=click.Path(path_type=Path), required=True)
@click.option("--workers", type=click.IntRange(1, 1024), help="Processes; default: all processors.")
@click.option("--scheduler", metavar="ADDRESS", help="Of dask.distributed: tls://HOST:8786.")
@click.option("--insecure", is_flag=True, help="Allow a scheduler elsewhere without TLS.")
@json_flag
def study_command(
    study: Path,
    *,
    output: Path,
    workers: int | None,
    scheduler: str | None,
    insecure: bool,
    as_json: bool,
) -> None:
    r"""Estimate every combination of a study's lists into one table; run again to go on.

    \b
    predictor study examples/studies/llama3_gpus.toml -o llama3.parquet
    predictor study STUDY.toml -o OUT.csv --scheduler tls://scheduler:8786
    """
    from predictor.search.study import read_study  # noqa: PLC0415
    from predictor.search.study_run import run_study, runner_for  # noqa: PLC0415

    asked = read_study(study)
    runner = runner_for(asked, workers=workers, scheduler=scheduler, insecure=insecure)
    if as_json or not sys.stderr.isatty():
        done = run_study(asked, output, runner=runner)
    else:
        with click.progressbar(length=asked.cases, file=sys.stderr) as bar:
            done = run_study(
                asked, output, runner=runner, progress=lambda n, _: bar.update(n - bar.pos)
            )
    if as_json:
        print_json(done.to_dict())
    else:
        told = ", ".join(f"{count} {status}" for status, count in done.statuses.items())
        say(f"wrote {output}: {done.rows} rows of {done.cases} cases ({told})", err=True)
    if done.statuses.get("failed"):
        raise click.exceptions.Exit(FAILED)
