"""What is printed in pages is what the code prints; examples run."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from predictor import Case
from predictor.case import bench_results_folder, resolve
from predictor.cli import run
from predictor.iteration import implementations

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))
MEASURED = (bench_results_folder() / "h100-sxm5-80gb" / "fit.json").is_file()


def generated(*pages: str) -> str:
    """Return what docs/generate.py finds out of date."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check", *pages],
        check=False,
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr


def test_the_case_reference_follows_from_the_schema() -> None:
    assert generated("case") == ""


def test_the_page_on_reliability_shows_what_the_tests_ask_for() -> None:
    assert generated("reliability") == ""


@pytest.mark.skipif(not MEASURED, reason="no fitted tables of the H100")
def test_the_readme_and_the_accuracy_page_show_what_the_commands_print() -> None:
    assert generated("readme", "accuracy") == ""


@pytest.mark.skipif(not MEASURED, reason="no fitted tables of the H100")
def test_every_python_gives_the_same_estimates() -> None:
    assert generated("golden") == ""


def test_every_number_of_an_implementation_stands_in_its_page_with_its_value() -> None:
    page = (ROOT / "docs" / "implementations.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| `(\w+\.[A-Z0-9_]+)` \| ([^|]+) \|", page, re.MULTILINE))
    assert told == dict(carried())


def carried() -> Iterator[tuple[str, str]]:
    """Module-level numbers of the implementations, and numbers by pass, as their page writes them.

    Columns that a flat buffer is walked in are no fact about a stack.
    """
    plain = {"FLAT_COLUMNS"}
    for found in pkgutil.iter_modules(implementations.__path__):
        module = importlib.import_module(f"{implementations.__name__}.{found.name}")
        tree = ast.parse(inspect.getsource(module))
        own = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and stored(node)}
        for name in sorted(own - plain):
            value = getattr(module, name, None)
            numbers = list(value.values()) if isinstance(value, dict) else [value]
            if name.isupper() and all(isinstance(each, int | float) for each in numbers):
                yield f"{found.name}.{name}", ", ".join(map(str, numbers))


def stored(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_a_legal_case(path: Path) -> None:
    resolve(Case.from_file(path))


@pytest.mark.skipif(not MEASURED, reason="no fitted tables of the H100")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_fits_its_gpu(path: Path) -> None:
    from predictor import estimate  # noqa: PLC0415

    assert estimate(Case.from_file(path)).fits


SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
OWN_PAGES = ("quick_start.md", "seeing.md")
"""Pages whose commands run as they stand."""


@pytest.mark.skipif(not MEASURED, reason="no fitted tables of the H100")
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_script_runs(path: Path, capsys: pytest.CaptureFixture) -> None:
    runpy.run_path(str(path), run_name="__main__")
    assert len(capsys.readouterr().out.splitlines()) > 3


def commands_of(page: str) -> list[str]:
    """Return the commands of a page's blocks of code."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(r"^ {4,}(predictor .*)$", text, re.MULTILINE)


@pytest.mark.skipif(not MEASURED, reason="no fitted tables of the H100")
@pytest.mark.parametrize("command", sorted({c for page in OWN_PAGES for c in commands_of(page)}))
def test_a_command_of_a_page_runs(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for suffix, package in ((".svg", "matplotlib"), (".png", "matplotlib"), (".html", "plotly")):
        if suffix in command:
            pytest.importorskip(package)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    assert run(shlex.split(command)[1:]) == 0, capsys.readouterr().err


def test_every_test_that_a_page_names_is_there() -> None:
    sources = (ROOT / "tests").rglob("test_*.py")
    there = {name for path in sources for name in re.findall(r"def (test_\w+)", path.read_text())}
    for page in (ROOT / "docs").glob("*.md"):
        named = set(re.findall(r"`(test_\w+)`", page.read_text(encoding="utf-8")))
        assert named <= there, page.name


def test_every_page_is_in_the_contents() -> None:
    contents = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    missing = [p.name for p in (ROOT / "docs").glob("*.md") if f": {p.name}\n" not in contents]
    assert missing == []


def test_every_link_between_pages_leads_somewhere() -> None:
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
