"""What several commands share: a group that keeps examples as they are, JSON, the file to write."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from predictor.errors import CaseError
from predictor.files import write_result
from predictor.printable import hidden_as, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from predictor.case import Case

FAILED = 1
"""Exit code of what went wrong, other than by bad input."""

OUTPUT = click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="File to write.",
)


def result_option(words: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command ``-o FILE`` as ``output``, which may be absent."""
    kind = click.Path(dir_okay=False, path_type=Path)
    return click.option("-o", "--output", metavar="FILE", type=kind, help=words)


FORCE = click.option("--force", is_flag=True, help="Replace FILE if it exists.")


def check_absent(path: Path, *, force: bool) -> None:
    """Check that a case file may be written, before the work whose result it will hold.

    Raises:
        CaseError: It exists and is not to be replaced, or its folder does not exist.
    """
    if not path.parent.is_dir():
        raise CaseError(
            f"{path}: cannot be written (No such file or directory); name a file in a folder that "
            "exists"
        )
    if os.path.lexists(path) and not force:
        raise CaseError(f"{path}: exists; --force replaces it")


def write_case(path: Path, text: str, *, force: bool) -> None:
    """Write a case file, whole or not at all, and say so.

    Raises:
        CaseError: It exists and is not to be replaced, or cannot be written.
    """
    check_absent(path, force=force)
    write_result(path, text, CaseError)
    say(f"wrote {path}", err=True)


def write_plan(path: Path, case: Case, origin: str, *, force: bool) -> None:
    """Write a case that was chosen as a case file, which says where it comes from.

    Raises:
        CaseError: As :func:`write_case`.
    """
    from predictor.case.importers import Brought, case_file  # noqa: PLC0415

    write_case(path, case_file(case, Brought(origin=origin, fields={})), force=force)


def json_flag(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--json`` as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def json_text(value: object, *, indent: int | None = 2) -> str:
    """Strict JSON, for people too: characters that a terminal would obey are escaped."""
    text = json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False)
    return hidden_as(text, lambda character: json.dumps(character)[1:-1])


def print_json(value: object) -> None:
    """Print strict JSON on stdout."""
    click.echo(json_text(value))


def say(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print text; what a terminal would obey is shown and not sent."""
    click.echo(printable(text), err=err, nl=nl)


class Group(click.Group):
    """Commands whose docstrings mark lines that stay as they are by a backslash and b."""

    group_class = type

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Put in the character that click looks for; lists tell a command's sentence whole."""
        cmd.help = (cmd.help or "").replace("\\b\n", "\b\n")
        cmd.short_help = " ".join(cmd.help.partition("\n\n")[0].split())
        super().add_command(cmd, name)
