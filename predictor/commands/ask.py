"""``predictor compare``, ``explain`` and ``what-if``: questions about estimates."""

from __future__ import annotations

from pathlib import Path

import click

from predictor.commands.case_flags import SUFFIXES, read_case
from predictor.commands.case_options import CaseCommand, case_options
from predictor.commands.common import json_flag, print_json, say


@click.command("compare", cls=CaseCommand, params=case_options())
@click.argument("cases", metavar="[CASE.toml|MODEL]...", nargs=-1)
@json_flag
def compare_command(cases: tuple[str | None, ...], *, as_json: bool, **flags: object) -> None:
    r"""Set cases side by side: what differs, where the time differs, why the faster is faster.

    Flags hold for every case; --gpu may list several GPUs, with commas between.

    \b
    predictor compare A.toml B.toml
    predictor compare llama3-8b qwen3-8b --gpu h100-sxm5-80gb --num-gpus 8
    predictor compare llama3-70b --gpu h100-sxm5-80gb,h200-sxm5-141gb --num-gpus 64
    predictor compare --from train.sh --gpu h100-sxm5-80gb,h200-sxm5-141gb
    """
    from predictor.iteration import estimate  # noqa: PLC0415
    from predictor.report.comparison import Comparison  # noqa: PLC0415
    from predictor.report.comparison_text import comparison_dict, comparison_text  # noqa: PLC0415

    gpus = _gpus(flags["gpu"])
    asked = [(case, gpu) for case in cases or (None,) for gpu in gpus]
    if len(asked) < 2:  # noqa: PLR2004 - one case has nothing beside it
        raise click.UsageError(
            "compare needs two cases or more, or --gpu SKU,SKU; `predictor estimate` shows one"
        )
    estimates = tuple(estimate(read_case(case, {**flags, "gpu": gpu})) for case, gpu in asked)
    compared = Comparison(names=_names(asked), estimates=estimates)
    if as_json:
        print_json(comparison_dict(compared))
        return
    say(comparison_text(compared))


def _gpus(flag: object) -> list[str | None]:
    """GPUs of the flag; one of None where it is absent."""
    return [None] if flag is None else [name.strip() for name in str(flag).split(",")]


def _names(asked: list[tuple[str | None, str | None]]) -> tuple[str, ...]:
    """What sets the cases apart: names of models or files, GPUs, or both; else also numbers."""
    cases = [case or "the case" for case, _ in asked]
    stems = [Path(case).stem if Path(case).suffix in SUFFIXES else case for case in cases]
    gpus = [str(gpu) for _, gpu in asked]
    both = [f"{stem} on {gpu}" for stem, gpu in zip(stems, gpus, strict=True)]
    for names in (stems, gpus, both, cases):
        if len(set(names)) == len(names):
            return tuple(names)
    return tuple(f"{at}: {case}" for at, case in enumerate(cases, start=1))


@click.command("explain", cls=CaseCommand, params=case_options())
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


@click.command("what-if", cls=CaseCommand, params=case_options())
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
    from predictor.report.comparison import Comparison  # noqa: PLC0415
    from predictor.report.comparison_text import comparison_dict, comparison_text  # noqa: PLC0415
    from predictor.report.table import WIDTH, paragraph  # noqa: PLC0415

    if not fields and not hardware:
        raise click.UsageError("what-if needs --set FIELD=VALUE or --hardware PROPERTY=CHANGE")
    found = what_if(read_case(case, flags), fields=fields, hardware=hardware)
    changes = [*fields, *hardware]
    pair = found.before, found.after
    compared = Comparison(names=("before", "after"), estimates=pair, beside=hardware)
    if as_json:
        print_json({"changes": changes, "notes": list(found.notes), **comparison_dict(compared)})
        return
    lines = paragraph(f"what if {', '.join(changes)}", WIDTH)
    notes = [line for note in found.notes for line in paragraph(f"note: {note}", WIDTH)]
    say("\n".join([*lines, "", comparison_text(compared), *(["", *notes] if notes else [])]))
