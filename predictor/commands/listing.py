"""``predictor models``, ``gpus`` and ``implementations``: what an estimate may be asked for."""

from __future__ import annotations

from typing import Any

import click

from predictor.case import bench_results_folder
from predictor.commands.common import json_flag, print_json, say
from predictor.errors import TableError


@click.command("models")
@json_flag
def models_command(*, as_json: bool) -> None:
    r"""List the model presets.

    \b
    predictor models --json
    """
    from predictor.report.listing import models_listing  # noqa: PLC0415

    _show(models_listing(), as_json=as_json)


@click.command("gpus")
@json_flag
def gpus_command(*, as_json: bool) -> None:
    r"""List the GPUs, and which of them were measured.

    \b
    predictor gpus
    """
    from predictor.report.listing import gpus_listing  # noqa: PLC0415

    rows = gpus_listing()
    if not rows and not as_json:
        folder = bench_results_folder()
        raise TableError(
            f"{folder}: no folder in it holds a gpu.toml; docs/adding_a_gpu.md says how"
        )
    _show(rows, as_json=as_json)


@click.command("implementations")
@json_flag
def implementations_command(*, as_json: bool) -> None:
    r"""List the training stacks.

    \b
    predictor implementations
    """
    from predictor.iteration.implementations import descriptions  # noqa: PLC0415

    rows = [{"name": name, "description": words} for name, words in descriptions().items()]
    _show(rows, as_json=as_json)


def _show(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    from predictor.report.listing import listing_text  # noqa: PLC0415

    say(listing_text(rows))
