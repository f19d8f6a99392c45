"""``predictor case``: the case file of what people already run, and the schema for editors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from predictor.commands.case_flags import read_brought
from predictor.commands.case_options import CaseCommand, case_options
from predictor.commands.common import FORCE, result_option, say, write_case

if TYPE_CHECKING:
    from pathlib import Path


@click.command("case", cls=CaseCommand, params=case_options())
@click.argument("case", metavar="[CASE.toml|MODEL]", required=False)
@result_option("File to write; default: stdout.")
@FORCE
@click.option("--schema", is_flag=True, help="Print the JSON schema of a case, for editors.")
def case_command(
    case: str | None, *, output: Path | None, force: bool, schema: bool, **flags: object
) -> None:
    r"""Write a case file, with a comment on every field: where it was found, or its default.

    \b
    predictor case --from config.json --from train.sh --gpu h100-sxm5-80gb -o case.toml
    predictor case llama3-8b --gpu h100-sxm5-80gb --num-gpus 8
    predictor case --schema > case.schema.json
    """
    if schema:
        from predictor.case.json_schema import case_schema  # noqa: PLC0415

        text = json.dumps(case_schema(), indent=2) + "\n"
    else:
        from predictor.case.importers import case_file  # noqa: PLC0415

        text = case_file(*read_brought(case, flags))
    if output is None:
        say(text, nl=False)
        return
    write_case(output, text, force=force)
