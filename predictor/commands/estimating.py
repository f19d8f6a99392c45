"""``predictor estimate``, ``trace``, ``place`` and ``report``: one case and what shows it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from predictor.commands.case_flags import read_case
from predictor.commands.case_options import CaseCommand, case_options
from predictor.commands.common import OUTPUT, json_flag, print_json, say

if TYPE_CHECKING:
    from predictor.search.mixed import MixedEstimate


@click.command("estimate", cls=CaseCommand, params=case_options())
@click.argument("case", metavar="CASE.toml|MODEL", required=False)
@click.option("--strict", is_flag=True, help="Refuse what is not measured or fitted.")
@json_flag
def estimate_command(case: str | None, *, strict: bool, as_json: bool, **flags: object) -> None:
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


@click.command("trace", cls=CaseCommand, params=case_options())
@click.argument("case", metavar="CASE.toml|MODEL", required=False)
@OUTPUT
def trace_command(case: str | None, *, output: Path, **flags: object) -> None:
    r"""Write one iteration as a Chrome trace, for Perfetto: streams, stages, micro-batches.

    \b
    predictor trace examples/llama3_8b_one_node.toml -o trace.json
    """
    from predictor.report.trace import write_trace  # noqa: PLC0415

    count = write_trace(read_case(case, flags), output)
    say(f"wrote {output}: {count} events", err=True)


@click.command("place", cls=CaseCommand, params=case_options())
@click.argument("case", metavar="CASE.toml|MODEL", required=False)
@json_flag
def place_command(case: str | None, *, as_json: bool, **flags: object) -> None:
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


@click.command("report", cls=CaseCommand, params=case_options())
@click.argument("case", metavar="CASE.toml|MODEL", required=False)
@click.option(
    "--search",
    "search_results",
    metavar="RESULTS.json",
    type=click.Path(path_type=Path),
    help="What `predictor search --json` printed, in place of a case.",
)
@OUTPUT
def report_command(
    case: str | None, *, output: Path, search_results: Path | None, **flags: object
) -> None:
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
