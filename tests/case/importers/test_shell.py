"""Words of a script: what the shell would make of them, and what only a run could tell."""

from __future__ import annotations

import pytest

from predictor.case.importers.shell import read_script
from predictor.errors import CaseError


def words_of(text: str, *, command: int = -1) -> list[str]:
    return [word.text for word in read_script("x.sh", text).commands[command]]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("run --a 1 --b 'x y'", ["run", "--a", "1", "--b", "x y"]),
        ("N=32\nrun --a $N --b ${N}k", ["run", "--a", "32", "--b", "32k"]),
        ("A=(--a 1\n  # no\n  --b 2)\nrun ${A[@]}", ["run", "--a", "1", "--b", "2"]),
        ('A="--a 1 \\\n --b 2"\nrun $A', ["run", "--a", "1", "--b", "2"]),
        ('A=("--a 1")\nA+=("--b 2")\nrun "${A[@]}"', ["run", "--a", "1", "--b", "2"]),
        ("run \\\n --a 1 \\\n --b 2 2>&1 | tee log", ["run", "--a", "1", "--b", "2"]),
        ("X=1 run --a 2", ["X=1", "run", "--a", "2"]),
        ("N=1; N=2\nM=$N\nrun $M", ["run", "2"]),
        ("cat <<EOF\nrun --a 1 'it\nEOF\nrun --b 2", ["run", "--b", "2"]),
        ("run --a 1 # --b 2", ["run", "--a", "1"]),
    ],
)
def test_words_are_those_of_the_shell(script: str, words: list[str]) -> None:
    assert words_of(script) == words


@pytest.mark.parametrize(
    "assigned",
    [
        "N=$(nproc)",
        "N=`nproc`",
        "N=${1:-8}",
        "if true; then\nN=8\nfi",
        "N=$((2*4))",
        "for i in 1; do N=1; done",
    ],
)
def test_a_value_that_only_a_run_could_tell_stays_missing(assigned: str) -> None:
    script = read_script("x.sh", f"{assigned}\nrun --a $N")
    value = script.commands[-1][2]
    assert value.missing
    assert value.text.startswith("$")


def test_a_condition_takes_away_what_was_known() -> None:
    script = read_script("x.sh", "N=1\nif [ -z $X ]; then\n  N=2\nfi\nrun --a $N")
    assert script.commands[-1][2].missing == "$N"


def test_options_under_a_condition_are_listed_with_their_line() -> None:
    script = read_script("x.sh", "A=()\nif true; then\n  A+=(--a 1)\nelse\n  run --b\nfi")
    assert [(word.text, word.line) for word in script.conditional] == [("--a", 3), ("--b", 5)]


def test_words_know_their_line() -> None:
    script = read_script("x.sh", "A=(\n  --a 1\n  --b 2\n)\nrun ${A[@]} \\\n  --c")
    assert {word.text: word.line for word in script.commands[-1]} == {
        "run": 5,
        "--a": 2,
        "1": 2,
        "--b": 3,
        "2": 3,
        "--c": 6,
    }


def test_nothing_is_executed(tmp_path: object) -> None:
    path = f"{tmp_path}/made"
    read_script("x.sh", f"A=$(touch {path})\ntouch {path}\nrun `touch {path}` --a")
    from pathlib import Path  # noqa: PLC0415

    assert not Path(path).exists()


def test_expansion_ends() -> None:
    doubled = "\n".join(f"V{n}=(${{V{n - 1}[@]}} ${{V{n - 1}[@]}})" for n in range(1, 40))
    with pytest.raises(CaseError, match="expands to more than"):
        read_script("x.sh", f"V0=(--a --b)\n{doubled}\nrun ${{V39[@]}}")


@pytest.mark.parametrize("script", ["run 'x", 'run "x', "A=(--a", "A=$(b"])
def test_what_is_not_closed_is_one_error(script: str) -> None:
    with pytest.raises(CaseError, match=r"x\.sh.*not closed"):
        read_script("x.sh", script)
