"""The journal survives torn lines and is not mixed up with another device's."""

from pathlib import Path

import pytest

from predictor.bench.journal import Journal, read_records, resume_key
from predictor.bench.points import Point
from predictor.errors import BenchError
from predictor.operators import Gemm

IDENTITY = {"harness": 1, "sku": "toy", "driver": "1", "libraries": {"cublas": "13.1"}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def test_a_torn_last_line_is_skipped_and_written_past(path: Path) -> None:
    with Journal.create(path, IDENTITY) as journal:
        journal.append({"record": "point", "key": "a"})
    path.write_bytes(path.read_bytes() + b'{"record": "point", "key": "b')
    with Journal.resume(path, IDENTITY) as journal:
        assert journal.done_keys() == {"a"}
        journal.append({"record": "point", "key": "c"})
    assert [r.get("key") for r in read_records(path)] == [None, "a", "c"]


def test_each_record_is_on_disk_when_append_returns(path: Path) -> None:
    with Journal.create(path, IDENTITY) as journal:
        for key in "abc":
            journal.append({"record": "point", "key": key})
            assert read_records(path)[-1]["key"] == key


def test_a_record_may_not_hold_what_json_cannot(path: Path) -> None:
    with Journal.create(path, IDENTITY) as journal, pytest.raises(ValueError, match="JSON"):
        journal.append({"record": "point", "seconds": float("nan")})
    assert len(read_records(path)) == 1


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"driver": "2"}, "driver was '1', is '2'"),
        ({"sku": "other"}, "sku was 'toy', is 'other'"),
        ({"harness": 2}, "harness was 1, is 2"),
        ({"libraries": {"cublas": "13.2"}}, "13.2"),
    ],
)
def test_resume_refuses_another_identity(
    path: Path, changed: dict[str, object], words: str
) -> None:
    Journal.create(path, IDENTITY).close()
    with pytest.raises(BenchError, match=words):
        Journal.resume(path, IDENTITY | changed)


def test_measurements_that_never_reached_a_table_are_not_overwritten(path: Path) -> None:
    with Journal.create(path, IDENTITY) as journal:
        journal.append({"record": "point", "key": "a"})
    with pytest.raises(BenchError, match="--resume"):
        Journal.create(path, IDENTITY)
    with Journal.resume(path, IDENTITY) as journal:
        journal.append({"record": "end"})
    Journal.create(path, IDENTITY).close()
    assert [r["record"] for r in read_records(path)] == ["header"]


def test_the_resume_key_knows_point_policy_and_identity() -> None:
    point = Point(operator=Gemm(m=8, n=8, k=8))
    keys = {
        resume_key(point, IDENTITY),
        resume_key(Point(operator=Gemm(m=16, n=8, k=8)), IDENTITY),
        resume_key(Point(operator=Gemm(m=8, n=8, k=8), cache="warm"), IDENTITY),
        resume_key(Point(operator=Gemm(m=8, n=8, k=8), sustained_seconds=3), IDENTITY),
        resume_key(Point(operator=Gemm(m=8, n=8, k=8), anchor=True), IDENTITY),
        resume_key(point, IDENTITY | {"driver": "2"}),
    }
    assert len(keys) == 6
    assert resume_key(Point(operator=Gemm(m=8, n=8, k=8), tier=3), IDENTITY) in keys
