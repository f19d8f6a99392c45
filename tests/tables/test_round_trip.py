"""Tables and runs survive the way to a file and back."""

from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.operators import KERNELS, OPERATORS, Gemm, column_fields
from predictor.tables import (
    Row,
    columns,
    read_runs,
    read_table,
    write_runs,
    write_table,
)

SECONDS = st.floats(min_value=1e-7, max_value=100, allow_nan=False)
WORDS = st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789-_ ,\"'é", min_size=1, max_size=12)
PAIRS = (
    {"compute": "gemm", "shape": "m=64 n=32 k=16 kind=wgrad accumulate=True"},
    {"compute": "memory_bound", "shape": "kernel=copy rows=8 cols=8"},
)
_MOST = {"experts": 300, "documents": 1, "query_length": 1}
OPTIONAL = st.none() | st.floats(min_value=1e-6, max_value=1e10)


@st.composite
def operators(draw: st.DrawFn, operator: str) -> Any:
    """Any legal operator of one class."""
    hints = get_type_hints(OPERATORS[operator])
    values: dict[str, Any] = {}
    for field in column_fields(OPERATORS[operator]):
        hint = hints[field.name]
        if get_args(hint):
            values[field.name] = draw(st.sampled_from(get_args(hint)))
        elif hint is int:
            most = _MOST.get(field.name, 1 << 20)
            values[field.name] = draw(st.integers(1, most))
        elif hint is float:
            values[field.name] = draw(st.floats(0, 4))
        elif hint is bool:
            values[field.name] = draw(st.booleans())
        elif field.name == "dtype":
            values[field.name] = draw(st.sampled_from(["bf16", "fp32"]))
        else:
            values[field.name] = draw(WORDS)
    if operator == "memory_bound":
        values["impl"] = draw(st.sampled_from(sorted(KERNELS)))
        values["kernel"] = draw(st.sampled_from(sorted(KERNELS[values["impl"]])))
    if operator == "interference":
        values |= draw(st.sampled_from(PAIRS))
    return OPERATORS[operator](**values)


@st.composite
def rows(draw: st.DrawFn, operator: str) -> Row:
    """Any legal row of one operator's table."""
    shape = draw(operators(operator))
    run = draw(WORDS)
    if draw(st.integers(0, 4)) == 0:
        status = draw(st.sampled_from(["oom", "timeout", "crash", "unsupported"]))
        return Row(operator=shape, status=status, run=run)
    low, middle, high = sorted(draw(st.tuples(SECONDS, SECONDS, SECONDS)))
    return Row(
        operator=shape,
        seconds=middle,
        seconds_low=low,
        seconds_high=high,
        rounds=draw(st.integers(1, 9)),
        samples=draw(st.integers(1, 9000)),
        regime=draw(st.sampled_from(["burst", "sustained"])),
        cache=draw(st.sampled_from(["cold", "warm"])),
        sm_clock_hz=draw(OPTIONAL),
        watts=draw(OPTIONAL),
        energy_joules=draw(OPTIONAL),
        status=draw(st.sampled_from(["ok", "throttled"])),
        run=run,
    )


@settings(max_examples=15, deadline=None)
@given(data=st.data(), operator=st.sampled_from(sorted(OPERATORS)))
def test_reading_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, operator: str
) -> None:
    written = data.draw(st.lists(rows(operator), max_size=8, unique_by=lambda row: row.key))
    path = tmp_path_factory.mktemp("table") / f"{operator}.csv"
    write_table(path, written)
    assert list(read_table(path).rows) == written


VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**62), 2**62),
    st.floats(allow_nan=False),
    st.text(max_size=20),
)


@settings(max_examples=20, deadline=None)
@given(
    runs=st.dictionaries(
        st.text(min_size=1, max_size=9),
        st.dictionaries(
            st.text(min_size=1, max_size=9),
            VALUES | st.lists(VALUES, max_size=3) | st.dictionaries(st.text(max_size=5), VALUES),
        ),
        max_size=3,
    )
)
def test_provenance_of_any_words_survives(
    tmp_path_factory: pytest.TempPathFactory, runs: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("runs") / "runs.toml"
    write_runs(path, runs)
    assert read_runs(path) == runs


def test_none_is_left_out_of_provenance(tmp_path: Path) -> None:
    write_runs(tmp_path / "runs.toml", {"r": {"git": None, "gpu": "toy"}})
    assert read_runs(tmp_path / "runs.toml") == {"r": {"gpu": "toy"}}


def test_columns_are_fields_then_measurements() -> None:
    assert columns("gemm")[:3] == ("m", "n", "k")
    assert columns("gemm")[-12:-9] == ("seconds", "seconds_low", "seconds_high")
    assert columns("gemm")[-1] == "run"


def test_columns_may_stand_in_another_order(tmp_path: Path) -> None:
    path = tmp_path / "gemm.csv"
    write_table(path, [gemm_row(m=3)])
    lines = [line.split(",") for line in path.read_text().splitlines()]
    path.write_text("".join(",".join(reversed(line)) + "\n" for line in lines))
    assert read_table(path).rows == (gemm_row(m=3),)


def test_a_failed_write_leaves_the_old_table(tmp_path: Path) -> None:
    path = tmp_path / "gemm.csv"
    write_table(path, [gemm_row(m=1)])
    before = path.read_bytes()
    with pytest.raises(Exception, match="seconds"):
        write_table(path, [gemm_row(m=2, seconds=-1.0)])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["gemm.csv"]


def gemm_row(*, m: int, seconds: float = 1e-3) -> Row:
    """A plain row."""
    return Row(
        operator=Gemm(m=m, n=8, k=8),
        seconds=seconds,
        seconds_low=seconds,
        seconds_high=seconds,
        rounds=3,
        samples=60,
        run="r",
    )
