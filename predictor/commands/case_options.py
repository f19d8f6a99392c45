"""The options that stand for a case, a flag a field, and the help that tells them by section."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Any

import click

from predictor.case.kinds import Choice, Count, Flag, Kind, Real, Sequence, Text
from predictor.case.model_schema import Mla, Moe
from predictor.case.schema import SECTIONS, field_paths
from predictor.case.section import Section, kinds
from predictor.case.whole import IMPLEMENTATION

_SECTIONS: tuple[type[Section], ...] = (*SECTIONS.values(), Moe, Mla)

if TYPE_CHECKING:
    _Lists = click.ParamType[list[int]]
    _Words = click.ParamType[list[str]]
else:
    _Lists = _Words = click.ParamType  # generic since click 8.4


class _WordList(_Words):
    """Words with commas between them."""

    name = "a,b,..."

    def convert(self, value: Any, param: Any, ctx: Any) -> list[str]:  # noqa: ANN401
        """Split."""
        del param, ctx
        return [part.strip() for part in str(value).split(",")]


class _CountList(_Lists):
    """Whole numbers with commas between them."""

    name = "n,n,..."

    def convert(self, value: Any, param: Any, ctx: Any) -> list[int]:  # noqa: ANN401
        """Split and convert."""
        try:
            return [int(part) for part in str(value).split(",")]
        except ValueError:
            self.fail(f"{value!r} is not a list of whole numbers", param, ctx)


class CaseCommand(click.Command):
    """A command about a case: its help tells its own options, then the case's by section."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under a heading each."""
        paths = case_flags()
        rows: dict[str, list[tuple[str, str]]] = {"": []}
        rows |= {section.path: [] for section in _SECTIONS}
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx)
            if record is None or not isinstance(option, click.Option):
                continue
            section = ".".join(paths.get(str(option.name), ())[:-1])
            rows[section].append(record)
        for section, told in rows.items():
            if told:
                with formatter.section(f"The case, [{section}]" if section else "Options"):
                    formatter.write_dl(told)


def case_flags() -> dict[str, tuple[str, ...]]:
    """Return the path of the case's field behind each parameter of ``estimate``."""
    files = {"hf_config": ("model", "hf_config"), "links": ("cluster", "links")}
    return {**files, **field_paths()}


def _option(name: str, kind: Kind, description: str) -> click.Option:
    dashed = name.replace("_", "-")
    if isinstance(kind, Flag):
        return click.Option([f"--{dashed}/--no-{dashed}"], default=None, help=description)
    types: dict[type, Any] = {Count: click.INT, Real: click.FLOAT, Sequence: _CountList()}
    if isinstance(kind, Sequence) and isinstance(kind.of, Text | Choice):
        types[Sequence] = _WordList()
    options = getattr(kind, "options", ())
    metavar = "|".join(options) if options else None
    return click.Option(
        [f"--{dashed}"], type=types.get(type(kind), str), metavar=metavar, help=description
    )


def case_options() -> list[click.Parameter]:
    """Return the options that stand for a case: other tools' files, then a flag a field."""
    return list(_case_options())


@cache
def _case_options() -> tuple[click.Parameter, ...]:
    """Make them once: several commands share them, and every command is made at each start."""
    options: list[click.Parameter] = [
        click.Option(
            ["--from", "from_files"],
            metavar="FILE",
            multiple=True,
            help="Configuration of another tool, or a line of Megatron-LM's arguments; may be "
            "given several times.",
        ),
        click.Option(
            ["--from-format", "from_formats"],
            metavar="huggingface|megatron|torchtitan|nemo|nanotron|deepspeed",
            multiple=True,
            help="Format of --from, where it is not found by itself; once, or once a file.",
        ),
        click.Option(
            ["--hf-config"], metavar="FILE", help="Hugging Face config.json of the model."
        ),
        click.Option(
            ["--links"], metavar="FILE.csv", help="Links of the cluster, one line a pair."
        ),
    ]
    for section in _SECTIONS:
        words = {each.name: each.metadata.get("description", "") for each in fields(section)}
        options += [
            _option(name, kind, words[name])
            for name, kind in kinds(section).items()
            if name != "notes"
        ]
    return (*options, _option("implementation", IMPLEMENTATION, "Training stack."))
