"""``predictor search``: the best plans, exactly estimated."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

import click

from predictor.commands.case_flags import base
from predictor.commands.case_options import CaseCommand, case_options
from predictor.commands.common import (
    FORCE,
    check_absent,
    json_flag,
    print_json,
    result_option,
    say,
    write_plan,
)
from predictor.errors import CaseError

if TYPE_CHECKING:
    from pathlib import Path

    from predictor.search.result import SearchResult

_OWN = frozenset({"gpu", "num_gpus", "global_batch_size"})
_NO_CONSTRAINTS = frozenset(
    {
        "data_parallel",
        "layers_per_stage",
        "stage_gpus",
        "expert_tokens",
        "from_files",
        "from_formats",
    }
)


def _constraints() -> list[click.Parameter]:
    """An option for each field of a case: one value, or several with commas."""
    options: list[click.Parameter] = []
    for option in case_options():
        if option.name in _OWN | _NO_CONSTRAINTS or not isinstance(option, click.Option):
            continue
        if not option.is_flag and option.name != "hf_config":
            option = copy(option)  # noqa: PLW2901 - that of other commands stays
            option.type, option.metavar = click.STRING, option.metavar or "A,B,..."
        options.append(option)
    return options


@click.command("search", cls=CaseCommand, params=_constraints())
@click.argument("case", metavar="CASE.toml|MODEL", required=False)
@click.option("--gpu", metavar="SKU,SKU,...", help="GPUs that compete.")
@click.option("--num-gpus", metavar="N|A,B|A-B", help="Counts; A-B doubles, A-B:STEP steps.")
@click.option("--global-batch-size", type=click.INT, help="Sequences of an iteration.")
@click.option("--objective", default="time", metavar="time|usd|energy|gpus", help="Least of what.")
@click.option("--pareto", metavar="A,B,...", help="Front of time, usd, energy, memory, gpus.")
@click.option("--top", type=click.INT, default=10, help="Plans to show (10).")
@click.option("--processes", type=click.INT, help="That work at it (one a core, 8 at most).")
@result_option("Write the best plan as a case file, for estimate, explain, report and trace.")
@FORCE
@json_flag
def search_command(  # noqa: PLR0913 - one argument an option
    case: str | None,
    *,
    output: Path | None,
    force: bool,
    objective: str,
    pareto: str | None,
    top: int,
    processes: int | None,
    as_json: bool,
    **flags: Any,  # noqa: ANN401 - a field each
) -> None:
    r"""Find the best plans; every other option fixes a field of the case or lists its values.

    \b
    predictor search llama3-70b --gpu h100-sxm5-80gb --num-gpus 256 --global-batch-size 512
    predictor search gpt3-175b --gpu a100-sxm4-80gb,h100-sxm5-80gb --num-gpus 256-1024 \
        --global-batch-size 1536 --tensor-parallel 4,8 --schedule 1f1b --objective usd
    predictor search CASE.toml -o best.toml
    """
    from predictor.search.cores import cores  # noqa: PLC0415
    from predictor.search.finding import search_for  # noqa: PLC0415

    if output is not None:
        check_absent(output, force=force)
    mapping, _ = base(case)
    if (config := flags.pop("hf_config")) is not None:
        mapping["model"] = {"hf_config": config}
    found = search_for(
        mapping,
        {name: value for name, value in flags.items() if value is not None},
        objective=objective,
        pareto=[name.strip() for name in pareto.split(",")] if pareto else (),
        top=top,
        processes=cores() if processes is None else processes,
    )
    if as_json:
        print_json(found.to_dict())
    else:
        from predictor.report.search import search_text  # noqa: PLC0415

        say(search_text(found))
    if output is not None:
        _write_best(found, output, force=force)


def _write_best(found: SearchResult, path: Path, *, force: bool) -> None:
    """Write the best plan as a case file.

    Raises:
        CaseError: No plan fits, or the file cannot be written.
    """
    if not found.plans:
        raise CaseError(f"{path}: not written, because no plan fits")
    origin = f"predictor search, least {found.objective}"
    write_plan(path, found.plans[0].case, origin, force=force)
