"""Every command's --help has an example, and those that need nothing else run as they stand."""

from __future__ import annotations

import io
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from predictor.case import bench_results_folder
from predictor.cli import predictor, run

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
MEASURED = (bench_results_folder() / "h100-sxm5-80gb" / "fit.json").is_file()
PLACEHOLDER = re.compile(r"\b[A-Z]{3,}\b|\b[A-Z]\.toml|\.\.\.|my[-_]|://|--from (?!examples)")
LONG = ("fit --check", "validate --measure", "search gpt3-175b")
"""Minutes, or a GPU."""

NEEDS = {
    "import nccl-tests": "logs of nccl-tests",
    "import aiconfigurator": "aiconfigurator-core",
}
EXTRAS = {".svg": "matplotlib", ".png": "matplotlib", ".html": "plotly", ".parquet": "pyarrow"}


def test_the_list_of_commands_cuts_no_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    assert "..." not in capsys.readouterr().out.partition("Commands:")[2]


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its name."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(commands(predictor))


def examples(command: click.Command) -> list[str]:
    """Return the lines of a help text that are commands."""
    text = command.get_help(click.Context(command, info_name="x"))
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [line.strip() for line in lines if line.strip().startswith("predictor ")]


def runnable(example: str) -> bool:
    """Return whether an example needs nothing but the repository."""
    arguments = example.removeprefix("predictor ")
    return not PLACEHOLDER.search(arguments) and not arguments.startswith(LONG)


RUNNABLE = [line for command in COMMANDS.values() for line in examples(command) if runnable(line)]


def test_help_tells_a_commands_own_options_before_the_fields_of_a_case(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["search", "--help"]) == 0
    own, *sections = capsys.readouterr().out.split("\nThe case, ")
    assert all(f"--{name}" in own for name in ("gpu", "num-gpus", "objective", "output"))
    assert [each.partition(":")[0] for each in sections] == [
        *("[model]", "[training]", "[plan]", "[cluster]", "[model.moe]", "[model.mla]")
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_an_example_that_runs(name: str) -> None:
    found = examples(COMMANDS[name])
    assert found, "the docstring lacks an example in a paragraph that begins with \\b"
    if name not in NEEDS:
        assert any(map(runnable, found))


@pytest.mark.skipif(not MEASURED, reason="no fitted tables of the H100")
@pytest.mark.parametrize("example", RUNNABLE)
def test_an_example_runs(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for suffix, package in EXTRAS.items():
        if suffix in example:
            pytest.importorskip(package)
    for folder in ("examples", "tests"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(tmp_path)
    command, _, source = example.partition(" > ")[0].partition(" < ")
    text = Path(source).read_text(encoding="utf-8") if source else ""
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    assert run(shlex.split(command)[1:]) == 0, capsys.readouterr().err


def test_the_shell_completes_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("_PREDICTOR_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "predictor est")
    monkeypatch.setenv("COMP_CWORD", "1")
    with pytest.raises(SystemExit):
        run([])
    assert capsys.readouterr().out.split() == ["plain,estimate"]
