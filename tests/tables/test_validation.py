"""Each rule of a table is enforced, and its message names the place and the rule."""

from collections.abc import Callable
from pathlib import Path

import pytest

from predictor.errors import TableError
from predictor.operators import Gemm
from predictor.tables import Row, read_folder, read_runs, read_table, write_runs, write_table

GOOD = {
    "operator": Gemm(m=64, n=64, k=64),
    "seconds": 2e-6,
    "seconds_low": 1e-6,
    "seconds_high": 3e-6,
    "rounds": 3,
    "samples": 60,
    "run": "r",
}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A legal table of one row, with its runs.toml."""
    write_table(tmp_path / "gemm.csv", [Row(**GOOD)])
    write_runs(tmp_path / "runs.toml", {"r": {"gpu": "toy"}})
    return tmp_path / "gemm.csv"


def spoil(table: Path, column: str, value: str) -> None:
    """Put a value into one cell of the table's only row."""
    header, row = (line.split(",") for line in table.read_text().splitlines())
    row[header.index(column)] = value
    table.write_text(",".join(header) + "\n" + ",".join(row) + "\n")


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("seconds", "nan", "seconds=nan must be 1e-09 to 100000 seconds"),
        ("seconds", "0.0", "seconds=0.0 must be 1e-09 to 100000 seconds"),
        ("seconds", "-1e-6", "seconds=-1e-06 must be 1e-09 to 100000 seconds"),
        ("seconds_high", "inf", "seconds_high=inf must be 1e-09 to 100000 seconds"),
        ("seconds", "", "seconds, seconds_low and seconds_high are needed"),
        ("seconds", "fast", "seconds='fast' must be a number"),
        ("seconds_low", "2.5e-6", "seconds_low=2.5e-06 <= seconds=2e-06"),
        ("seconds_high", "1.5e-6", "<= seconds_high=1.5e-06 must hold"),
        ("rounds", "0", "rounds=0 must be at least 1"),
        ("samples", "", "samples=0 must be at least 1"),
        ("rounds", "2.5", "rounds='2.5' must be a whole number"),
        ("status", "okay", "status='okay' must be one of ok, oom"),
        ("status", "oom", "must be empty in a row of status 'oom'"),
        ("regime", "hot", "regime='hot' must be one of burst, sustained"),
        ("cache", "tepid", "cache='tepid' must be one of cold, warm"),
        ("watts", "-3", "watts=-3.0 must be empty or a finite, positive number"),
        ("m", "64.5", "m='64.5' must be a whole number"),
        ("m", "0", "m=0 must be a whole number from 1 to 1099511627776"),
        ("n", "-64", "n=-64 must be a whole number from 1"),
        ("k", str(10**30), "must be a whole number from 1"),
        ("accumulate", "yes", "accumulate='yes' must be True or False"),
        ("kind", "sideways", "kind='sideways' must be one of forward, dgrad, wgrad"),
        ("dtype", "bf17", "dtype='bf17' is not known to the operator 'gemm'"),
        ("run", "elsewhere", "run='elsewhere' is not a key of runs.toml"),
        ("run", "", "run must name a key of runs.toml"),
    ],
)
def test_a_breach_is_refused_with_its_line_and_rule(
    table: Path, column: str, value: str, rule: str
) -> None:
    spoil(table, column, value)
    with pytest.raises(TableError) as caught:
        read_folder(table.parent)
    assert rule in str(caught.value)
    assert "gemm.csv:2: " in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (lambda text: text.replace("seconds_low", "seconds_lo"), "column 'seconds_low' is missing"),
        (lambda text: text.replace("rounds,", "seconds,"), "column 'seconds' is there twice"),
        (lambda text: text.replace(",run\n", ",run,extra\n", 1), "unknown column 'extra'"),
        (lambda text: text[: text.rindex(",")] + "\n", "truncated line: 22 of 23 cells"),
        (lambda text: text[:-3], "the last line is truncated"),
        (lambda _: "", "is empty; measure it again"),
        (lambda _: "\n", "column 'm' is missing"),
        (lambda text: text + '"open\n', "not a table"),
    ],
)
def test_a_damaged_file_is_refused(table: Path, damage: Callable[[str], str], rule: str) -> None:
    table.write_text(damage(table.read_text()))
    with pytest.raises(TableError, match=rule):
        read_folder(table.parent)


def without(column: str, text: str) -> str:
    lines = [line.split(",") for line in text.splitlines()]
    place = lines[0].index(column)
    return "".join(",".join([*line[:place], *line[place + 1 :]]) + "\n" for line in lines)


def test_a_table_from_before_a_field_was_added_takes_its_default(table: Path) -> None:
    rows = read_table(table).rows
    table.write_text(without("fill", without("gelu", table.read_text())))
    assert read_table(table).rows == rows


def test_a_field_without_a_default_needs_its_column(table: Path) -> None:
    table.write_text(without("n", table.read_text()))
    with pytest.raises(TableError, match="column 'n' is missing"):
        read_table(table)


def test_ok_rows_of_one_run_may_not_repeat(table: Path) -> None:
    text = table.read_text()
    table.write_text(text + text.splitlines()[1] + "\n")
    with pytest.raises(TableError, match=r"gemm.csv:3: repeats .*gemm.csv:2: no two 'ok' rows"):
        read_table(table)


def test_rows_that_differ_in_run_cache_or_regime_may_share_fields(tmp_path: Path) -> None:
    rows = [
        Row(**GOOD),
        Row(**GOOD | {"run": "other"}),
        Row(**GOOD, cache="warm"),
        Row(**GOOD, regime="sustained"),
        Row(**GOOD, status="throttled"),
    ]
    write_table(tmp_path / "gemm.csv", rows)
    assert read_table(tmp_path / "gemm.csv").rows == tuple(rows)


def test_an_unknown_operator_is_named_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "gem.csv").write_text("m\n")
    with pytest.raises(TableError, match="did you mean 'gemm'"):
        read_table(tmp_path / "gem.csv")


def test_rows_of_another_operator_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="does not belong"):
        write_table(tmp_path / "attention.csv", [Row(**GOOD)])


def test_a_table_without_runs_file_is_refused(table: Path) -> None:
    (table.parent / "runs.toml").unlink()
    with pytest.raises(TableError, match=r"not a key of runs.toml"):
        read_folder(table.parent)


@pytest.mark.parametrize("text", ["[r\n", "r = 3\n"])
def test_a_damaged_runs_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "runs.toml").write_text(text)
    with pytest.raises(TableError, match=r"runs.toml"):
        read_runs(tmp_path / "runs.toml")


def test_a_column_is_found_by_its_name(table: Path) -> None:
    read = read_table(table)
    assert read.column("m") == [64]
    assert read.column("seconds") == [2e-6]
    with pytest.raises(TableError, match="did you mean 'seconds'"):
        read.column("second")


@pytest.mark.parametrize("mark", ["\ufeff", ""])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_spreadsheets_mark_and_line_endings_are_taken(
    table: Path, mark: str, ending: str
) -> None:
    rows = read_table(table).rows
    text = mark + table.read_text().replace("\n", ending)
    table.write_bytes(text.encode())
    assert read_table(table).rows == rows


@pytest.mark.parametrize("separator", [";", "\t"])
def test_another_separator_is_named(table: Path, separator: str) -> None:
    table.write_text(table.read_text().replace(",", separator))
    with pytest.raises(TableError, match=r"gemm.csv:1: cells are separated by .* with commas"):
        read_table(table)
