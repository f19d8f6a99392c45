"""The ``predictor`` command: arguments in, exit code out; no logic of its own.

Exit codes: 0 done, 2 bad input (one line on stderr says what to change), 1 anything else. With
``--json``, stdout holds JSON alone. Each command imports what it needs when it runs.
"""

from __future__ import annotations

import os
import sys
from itertools import islice
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

import click

from predictor.commands.ask import compare_command, explain_command, what_if_command
from predictor.commands.bring import case_command
from predictor.commands.case_flags import case_options, read_case
from predictor.commands.common import OUTPUT, Group, json_flag, json_text, print_json, say
from predictor.commands.importing import import_command
from predictor.commands.listing import gpus_command, implementations_command, models_command
from predictor.commands.search import search_command
from predictor.commands.validate import validate_command
from predictor.errors import PredictorError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

    from predictor.search.mixed import MixedEstimate

DONE, FAILED, BAD_INPUT = 0, 1, 2
MAX_ERROR_CHARACTERS = 2000
QUESTIONS_AT_ONCE = 4096

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=Group, no_args_is_help=False, context_settings=CONTEXT)
@click.version_option(package_name="llm-iteration-predictor")
@click.option("--debug", is_flag=True, help="Show the traceback of an internal error.")
def predictor(*, debug: bool) -> None:
    """Predict the time, memory and money of one LLM training iteration."""
    del debug  # read by run(), which is outside of the commands


_COMMANDS = (
    case_command,
    compare_command,
    explain_command,
    gpus_command,
    implementations_command,
    import_command,
    models_command,
    search_command,
    validate_command,
    what_if_command,
)
for _command in _COMMANDS:
    predictor.add_command(_command)


@predictor.command(params=case_options())
@click.argument("case", metavar="CASE.toml|MODEL", required=False)
@click.option("--strict", is_flag=True, help="Refuse what is not measured or fitted.")
@json_flag
def estimate(case: str | None, *, strict: bool, as_json: bool, **flags: object) -> None:
    r"""Estimate one iteration of a case file or of a model; flags win over the file.

    \b
    predictor estimate llama3-8b --gpu h100-sxm5-80gb --num-gpus 8
    predictor estimate examples/llama3_8b_one_node.toml --seq-length 16384 --json
    """
    asked = read_case(case, flags)
    if asked.cluster.stage_gpus is not None:
        from predictor.search.mixed import mixed_estimate  # noqa: PLC0415

        _say_mixed(mixed_estimate(asked, strict=strict), as_json=as_json)
        return
    from predictor.iteration import estimate as estimate_case  # noqa: PLC0415

    answer = estimate_case(asked, strict=strict)
    if as_json:
        print_json(answer.to_dict())
        return
    from predictor.report.text import estimate_text  # noqa: PLC0415

    say(estimate_text(answer))


@predictor.command(params=case_options())
@click.argument("case", metavar="CASE.toml|MODEL", required=False)
@OUTPUT
def trace(case: str | None, *, output: Path, **flags: object) -> None:
    r"""Write one iteration as a Chrome trace, for Perfetto: streams, stages, micro-batches.

    \b
    predictor trace examples/llama3_8b_one_node.toml -o trace.json
    """
    from predictor.report.trace import write_trace  # noqa: PLC0415

    count = write_trace(read_case(case, flags), output)
    say(f"wrote {output}: {count} events", err=True)


@predictor.command(params=case_options())
@click.argument("case", metavar="CASE.toml|MODEL", required=False)
@json_flag
def place(case: str | None, *, as_json: bool, **flags: object) -> None:
    r"""Place ranks on a cluster of uneven links, or layers on stages of different GPUs.

    \b
    predictor place examples/llama_1b_two_islands.toml
    predictor place CASE.toml --links pairs.csv
    predictor place llama3-8b --gpu h100-sxm5-80gb --num-gpus 16 --tensor-parallel 8 \\
        --pipeline-parallel 2 --stage-gpus h100-sxm5-80gb,a100-sxm4-80gb
    """
    from predictor.report.placement import placement_text  # noqa: PLC0415
    from predictor.search.mixed import balanced  # noqa: PLC0415
    from predictor.search.placement import best_placement  # noqa: PLC0415

    asked = read_case(case, flags)
    if asked.cluster.stage_gpus is not None:
        _say_mixed(balanced(asked), as_json=as_json)
        return
    found = best_placement(asked)
    if as_json:
        print_json(found.to_dict())
    else:
        say(placement_text(found))


def _say_mixed(found: MixedEstimate, *, as_json: bool) -> None:
    from predictor.report.placement import mixed_text  # noqa: PLC0415

    if as_json:
        print_json(found.to_dict())
    else:
        say(mixed_text(found))


@predictor.command("run", params=case_options())
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
@json_flag
def training_run(case: str | None, *, strict: bool, as_json: bool, **flags: Any) -> None:  # noqa: ANN401
    r"""Estimate a whole run: days, GPU-hours, dollars, MWh; choose GPUs, their count or a model.

    \b
    predictor run llama3-8b --gpu h100-sxm5-80gb --num-gpus 64 --tokens 1T
    predictor run CASE.toml --tokens 15T --deadline 60d --prices my_prices.toml
    """
    from predictor.search.request import ASKED, answer, read_request  # noqa: PLC0415

    asked = {name: flags.pop(name) for name in ASKED}
    found = answer(read_case(case, flags), read_request(**asked, strict=strict))
    if as_json:
        print_json(found.to_dict())
        return
    from predictor.report.training_run import choice_text  # noqa: PLC0415

    say(choice_text(found))


@predictor.command()
@click.argument("study", metavar="STUDY.toml", type=click.Path(path_type=Path))
@click.option("-o", "--output", metavar="OUT", type=click.Path(path_type=Path), required=True)
@click.option("--workers", type=click.IntRange(1, 1024), help="Processes; default: all processors.")
@click.option("--scheduler", metavar="ADDRESS", help="Of dask.distributed: tls://HOST:8786.")
@click.option("--insecure", is_flag=True, help="Allow a scheduler elsewhere without TLS.")
@json_flag
def study(
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


@predictor.command(params=case_options())
@click.argument("case", metavar="CASE.toml|MODEL", required=False)
@click.option(
    "--search",
    "search_results",
    metavar="RESULTS.json",
    type=click.Path(path_type=Path),
    help="What `predictor search --json` printed, in place of a case.",
)
@OUTPUT
def report(case: str | None, *, output: Path, search_results: Path | None, **flags: object) -> None:
    r"""Write one HTML file that shows and explains an estimate, or what a search found.

    \b
    predictor report examples/llama3_8b_one_node.toml -o report.html
    predictor report --search RESULTS.json -o search.html
    """
    if search_results is None:
        from predictor.report.page.case import write_report  # noqa: PLC0415

        write_report(read_case(case, flags), output)
    else:
        if case is not None or any(flags.values()):
            raise click.UsageError("--search shows a file of results; a case has no part in it")
        from predictor.report.page.search import write_search  # noqa: PLC0415

        write_search(search_results, output)
    say(f"wrote {output}", err=True)


@predictor.command()
@click.argument("operator")
@click.option("--gpu", "skus", required=True, metavar="SKU,...", help="GPUs, with commas between.")
@OUTPUT
@click.option("--where", multiple=True, metavar="FIELD=VALUE", help="Lines of that kind alone.")
def plot(operator: str, *, skus: str, output: Path, where: tuple[str, ...]) -> None:
    r"""Plot measured points of an operator with fitted curves: .svg, .png, .pdf or .html.

    \b
    predictor plot gemm --gpu h100-sxm5-80gb,h200-sxm5-141gb -o gemm.svg --where n=4096
    """
    from predictor.report.plot import plot_operator  # noqa: PLC0415

    wanted = dict(_pair(each) for each in where)
    points = plot_operator(operator, [sku for sku in skus.split(",") if sku], output, wanted)
    say(f"wrote {output}: {points} measured points", err=True)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not FIELD=VALUE", param_hint="--where")
    return key, value


@predictor.command()
@click.option("--gpu", required=True, metavar="SKU", help="GPU that the questions are about.")
@click.option("--jsonl", is_flag=True, required=True, help="JSON objects, one a line.")
@click.option("--strict", is_flag=True, help="Refuse what is not measured or fitted.")
def operators(gpu: str, *, jsonl: bool, strict: bool) -> None:
    r"""Answer questions about single operators: stdin to stdout, in the same order.

    \b
    predictor operators --gpu h100-sxm5-80gb --jsonl < examples/questions.jsonl
    """
    del jsonl  # the only form there is; the flag keeps room for others
    from predictor.costs.questions import answer  # noqa: PLC0415

    together = QUESTIONS_AT_ONCE if _is_file(sys.stdin) else 1  # a program may wait for each
    replies = answer(sys.stdin, sku=gpu, strict=strict, at_once=together)
    while some := [json_text(reply, indent=None) for reply in islice(replies, together)]:
        click.echo("\n".join(some))


def _is_file(stream: TextIO) -> bool:
    try:
        return S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):  # a stream of Python's own has no number
        return False


@predictor.command()
@click.argument("skus", nargs=-1, metavar="[SKU]...")
@click.option("--check", is_flag=True, help="Refit, write nothing, fail on drift.")
@click.option("--explain", metavar="OPERATOR", help="Print the regression of one operator.")
@click.option(
    "--plot",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="With --explain and one SKU: plot measured against fitted (.png, .svg).",
)
def fit(skus: tuple[str, ...], *, check: bool, explain: str | None, plot: Path | None) -> None:
    r"""Fit the cost functions of measured GPUs and write fit.json beside their tables.

    \b
    predictor fit h100-sxm5-80gb --explain gemm
    predictor fit --check
    """
    folders = _measured_folders(skus)
    if plot is not None and (explain is None or len(folders) != 1):
        raise click.UsageError("--plot needs --explain OPERATOR and one SKU")
    if explain is not None:
        _explain(folders, explain, plot)
        return
    from predictor.costs import fitting  # noqa: PLC0415

    drifts: list[str] = []
    for folder in folders:
        if check:
            drifts += fitting.check_fit(folder)
        else:
            say(f"wrote {fitting.write_fit(folder)}", err=True)
    for drift in drifts:
        say(drift, err=True)
    if drifts:
        raise click.exceptions.Exit(FAILED)


def _explain(folders: list[Path], operator: str, plot: Path | None) -> None:
    from predictor.report.fit import fit_text  # noqa: PLC0415

    for folder in folders:
        say(fit_text(folder, operator))
    if plot is not None:
        from predictor.report.fit_plot import plot_fit  # noqa: PLC0415

        plot_fit(folders[0], operator, plot)
        say(f"wrote {plot}", err=True)


def _measured_folders(skus: Iterable[str]) -> list[Path]:
    from predictor.case import bench_results_folder, load_gpu  # noqa: PLC0415
    from predictor.costs.families import FAMILIES  # noqa: PLC0415

    root = bench_results_folder()
    if chosen := [load_gpu(sku).sku for sku in skus]:
        return [root / sku for sku in chosen]
    return sorted({path.parent for name in FAMILIES for path in root.glob(f"*/{name}.csv")})


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; nothing is raised for what a user did."""
    try:
        code = predictor.main(arguments, prog_name="predictor", standalone_mode=False)
        return code if isinstance(code, int) else DONE
    except (click.ClickException, PredictorError) as error:
        words = error.format_message() if isinstance(error, click.ClickException) else str(error)
        return _fail(words, BAD_INPUT)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", FAILED)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - at exit
        return FAILED
    except Exception as error:
        if "--debug" in arguments:
            raise
        words = f"internal error: {type(error).__name__}: {error}; please report it"
        return _fail(words, FAILED)


def _fail(words: str, code: int) -> int:
    """Print one line on stderr, of a length that people read, and return the exit code."""
    line, half = " ".join(words.split()), MAX_ERROR_CHARACTERS // 2
    cut = f"{line[:half]} … {line[-half:]}" if len(line) > MAX_ERROR_CHARACTERS else line
    say(f"predictor: {cut}", err=True)
    return code
