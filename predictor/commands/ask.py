"""``predictor compare``, ``explain`` and ``what-if``: questions about estimates."""

from __future__ import annotations

from pathlib import Path

import click

from predictor.commands.case_flags import SUFFIXES, case_options, read_case
from predictor.commands.common import json_flag, print_json, say


@click.command("compare", params=case_options())
@click.argument("cases", metavar="CASE.toml|MODEL...", nargs=-1, required=True)
@json_flag
def compare_command(cases: tuple[str, ...], *, as_json: bool, **flags: object) -> None:
    r"""Set cases side by side: what differs, where the time differs, why the faster is faster.

    Flags hold for every case.

    \b
    predictor compare A.toml B.toml
    predictor compare llama3-8b qwen3-8b --gpu h100-sxm5-80gb --num-gpus 8
    """
    from predictor.iteration import estimate  # noqa: PLC0415
    from predictor.report.comparison import Comparison, comparison_text  # noqa: PLC0415

    if len(cases) < 2:  # noqa: PLR2004 - one case has nothing beside it
        raise click.UsageError("compare needs two cases or more; estimate shows one")
    estimates = tuple(estimate(read_case(case, dict(flags))) for case in cases)
    told = Comparison(names=_names(cases), estimates=estimates)
    if as_json:
        print_json(told.to_dict())
        return
    say(comparison_text(told))


def _names(cases: tuple[str, ...]) -> tuple[str, ...]:
    """Short names of files, where they are all different; else the paths."""
    short = tuple(Path(case).stem if Path(case).suffix in SUFFIXES else case for case in cases)
    if len(set(short)) == len(short):
        return short
    if len(set(cases)) == len(cases):
        return cases
    return tuple(f"{at}: {case}" for at, case in enumerate(cases, start=1))


@click.command("explain", params=case_options())
@click.argument("case", metavar="CASE.toml|MODEL", required=False)
@json_flag
def explain_command(case: str | None, *, as_json: bool, **flags: object) -> None:
    r"""Say in plain words what bounds a step, where MFU is lost, and how sure the estimate is.

    \b
    predictor explain examples/llama3_8b_one_node.toml
    """
    from predictor.report.explanation import explanation_of, explanation_text  # noqa: PLC0415

    told = explanation_of(read_case(case, flags))
    if as_json:
        print_json(told.to_dict())
        return
    say(explanation_text(told))


@click.command("what-if", params=case_options())
@click.argument("case", metavar="CASE.toml|MODEL", required=False)
@click.option(
    "--set", "fields", metavar="FIELD=VALUE", multiple=True, help="As plan.tensor_parallel=4."
)
@click.option(
    "--hardware",
    metavar="PROPERTY=CHANGE",
    multiple=True,
    help="As hbm_bandwidth=x2, power_cap=500W, num_sms=+10%; also tensor_peak, memory_bytes, "
    "l2_bytes, nvlink, network, network_latency.",
)
@json_flag
def what_if_command(
    case: str | None,
    *,
    fields: tuple[str, ...],
    hardware: tuple[str, ...],
    as_json: bool,
    **flags: object,
) -> None:
    r"""Estimate a case as it is and with other fields or other hardware, side by side.

    \b
    predictor what-if examples/llama3_8b_one_node.toml --set plan.tensor_parallel=4
    predictor what-if examples/llama3_8b_one_node.toml --hardware hbm_bandwidth=x2
    """
    from predictor.iteration.what_if import what_if  # noqa: PLC0415
    from predictor.report.comparison import Comparison, comparison_text  # noqa: PLC0415
    from predictor.report.table import paragraph  # noqa: PLC0415

    if not fields and not hardware:
        raise click.UsageError("what-if needs --set FIELD=VALUE or --hardware PROPERTY=CHANGE")
    found = what_if(read_case(case, flags), fields=fields, hardware=hardware)
    changes = [*fields, *hardware]
    pair = found.before, found.after
    told = Comparison(names=("before", "after"), estimates=pair, beside=hardware)
    if as_json:
        print_json({"changes": changes, "notes": list(found.notes), **told.to_dict()})
        return
    lines = paragraph(f"what if {', '.join(changes)}", 100)
    notes = [line for note in found.notes for line in paragraph(f"note: {note}", 100)]
    say("\n".join([*lines, "", comparison_text(told), *(["", *notes] if notes else [])]))
