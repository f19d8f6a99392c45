"""``predictor operators``, ``fit`` and ``plot``: measured points and what is fitted to them."""

from __future__ import annotations

import os
import sys
from itertools import islice
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING

import click

from predictor.commands.common import FAILED, OUTPUT, json_text, say
from predictor.errors import TableError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

QUESTIONS_AT_ONCE = 4096


@click.command("plot")
@click.argument("operator")
@click.option("--gpu", "skus", required=True, metavar="SKU,...", help="GPUs, with commas between.")
@OUTPUT
@click.option("--where", multiple=True, metavar="FIELD=VALUE", help="Lines of that kind alone.")
def plot_command(operator: str, *, skus: str, output: Path, where: tuple[str, ...]) -> None:
    r"""Plot measured points of an operator with fitted curves: .svg, .png, .pdf or .html.

    \b
    predictor plot gemm --gpu h100-sxm5-80gb,h200-sxm5-141gb -o gemm.svg --where n=4096
    """
    from predictor.report.plot import plot_operator  # noqa: PLC0415

    wanted = dict(_pair(each) for each in where)
    named = [sku for sku in skus.split(",") if sku]
    if not named:
        raise click.BadParameter("names no GPU; `predictor gpus` lists them", param_hint="--gpu")
    points = plot_operator(operator, named, output, wanted)
    say(f"wrote {output}: {points} measured points", err=True)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not FIELD=VALUE", param_hint="--where")
    return key, value


@click.command("operators")
@click.option("--gpu", required=True, metavar="SKU", help="GPU that the questions are about.")
@click.option("--jsonl", is_flag=True, required=True, help="JSON objects, one a line.")
@click.option("--strict", is_flag=True, help="Refuse what is not measured or fitted.")
def operators_command(gpu: str, *, jsonl: bool, strict: bool) -> None:
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


@click.command("fit")
@click.argument("skus", nargs=-1, metavar="[SKU]...")
@click.option("--check", is_flag=True, help="Refit, write nothing, fail on drift.")
@click.option("--explain", metavar="OPERATOR", help="Print the regression of one operator.")
@click.option(
    "--plot",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="With --explain and one SKU: plot measured against fitted (.png, .svg).",
)
def fit_command(
    skus: tuple[str, ...], *, check: bool, explain: str | None, plot: Path | None
) -> None:
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
    from predictor.search.cores import cores, spread  # noqa: PLC0415

    if not check:
        for path in spread(fitting.write_fit, folders, cores()):
            say(f"wrote {path}", err=True)
        return
    drifts = [drift for found in spread(fitting.check_fit, folders, cores()) for drift in found]
    for drift in drifts:
        say(drift, err=True)
    if drifts:
        raise click.exceptions.Exit(FAILED)
    names = ", ".join(folder.name for folder in folders)
    say(f"fit.json follows from the tables of {names}", err=True)


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
    found = sorted({path.parent for name in FAMILIES for path in root.glob(f"*/{name}.csv")})
    if not found:
        raise TableError(f"{root}: holds no table; `bench-run` or `predictor import` writes some")
    return found
