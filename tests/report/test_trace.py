"""A trace obeys the format that viewers read, and its arrows begin and end inside passes."""

from __future__ import annotations

import json

import jsonschema
import pytest

from predictor.case import Case, bench_results_folder
from predictor.report.trace import THREADS, trace_of, write_trace

MEASURED = (bench_results_folder() / "h100-sxm5-80gb" / "fit.json").is_file()
pytestmark = pytest.mark.skipif(not MEASURED, reason="no fitted tables of the H100")

TIME = {"type": "number", "minimum": 0}
ROW = {"pid": {"type": "integer", "minimum": 0}, "tid": {"type": "integer", "minimum": 0}}
NAME = {"type": "string", "minLength": 1}


def event(phase, needed, **properties):
    common = {"ph": {"const": phase}, "name": NAME, **ROW}
    return {
        "properties": {**common, **properties},
        "required": ["ph", "name", "pid", "tid", *needed],
        "additionalProperties": False,
    }


SLICE = event(
    "X",
    ["ts", "dur", "cat"],
    ts=TIME,
    dur=TIME,
    cat={"enum": list(THREADS)},
    args={"properties": {"micro_batch": {"type": "integer", "minimum": -1}}},
)
META = event(
    "M",
    ["args"],
    name={"enum": ["process_name", "thread_name", "process_sort_index", "thread_sort_index"]},
    args={"properties": {"name": NAME, "sort_index": {"type": "integer"}}, "minProperties": 1},
)
FLOW = {"ts": TIME, "id": {"type": "integer"}, "cat": NAME}
START = event("s", ["ts", "id", "cat"], **FLOW)
FINISH = event("f", ["ts", "id", "cat", "bp"], **FLOW, bp={"const": "e"})
SCHEMA = {
    "properties": {
        "displayTimeUnit": {"enum": ["ms", "ns"]},
        "otherData": {"type": "object"},
        "traceEvents": {"type": "array", "items": {"oneOf": [SLICE, META, START, FINISH]}},
    },
    "required": ["displayTimeUnit", "traceEvents"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def case() -> Case:
    return Case.from_dict(
        {
            "model": {"preset": "llama3.2-1b", "num_layers": 4, "name": '<script>"&\n'},
            "training": {"seq_length": 1024, "global_batch_size": 8},
            "plan": {"tensor_parallel": 1, "pipeline_parallel": 4, "data_parallel": 1},
            "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 4},
        }
    )


@pytest.fixture(scope="module")
def trace(case: Case) -> dict:
    return trace_of(case)


def test_every_event_is_one_that_the_format_knows(trace: dict) -> None:
    jsonschema.validate(trace, SCHEMA)


def test_every_row_is_named_and_ordered(trace: dict) -> None:
    events = trace["traceEvents"]
    rows = {(e["pid"], e["tid"]) for e in events if e["ph"] == "X"}
    for kind in ("thread_name", "thread_sort_index"):
        assert {(e["pid"], e["tid"]) for e in events if e["name"] == kind} == rows
    stages = [e["args"]["name"] for e in events if e["name"] == "process_name"]
    assert stages == ["stage 0", "stage 1", "stage 2", "stage 3"]
    assert {m["args"]["micro_batch"] for m in events if m.get("cat") == "passes"} == {*range(8)}


def test_slices_of_a_row_follow_each_other_to_the_nanosecond(trace: dict) -> None:
    """Perfetto cuts microseconds to whole nanoseconds and drops a slice that begins too early."""
    ends: dict[int, int] = {}
    slices = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    for each in sorted(slices, key=lambda e: e["ts"]):
        start, seconds = int(each["ts"] * 1e3), int(each["dur"] * 1e3)
        assert start >= ends.get(each["tid"], 0)
        assert abs(each["ts"] * 1e3 - start) < 1e-3
        ends[each["tid"]] = start + seconds


def test_streams_have_threads_of_their_own_and_none_is_thread_zero(trace: dict) -> None:
    slices = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    stages = {e["tid"]: e["pid"] for e in slices}
    assert 0 not in stages
    assert {(e["tid"], e["pid"]) for e in slices} == set(stages.items())


def test_an_arrow_joins_two_passes_of_neighbouring_stages(trace: dict) -> None:
    events = trace["traceEvents"]
    passes = [e for e in events if e.get("cat") == "passes"]

    def around(flow: dict) -> set[str]:
        return {
            each["name"]
            for each in passes
            if each["pid"] == flow["pid"] and each["ts"] <= flow["ts"] < each["ts"] + each["dur"]
        }

    starts = {e["id"]: e for e in events if e["ph"] == "s"}
    finishes = {e["id"]: e for e in events if e["ph"] == "f"}
    assert starts.keys() == finishes.keys()
    assert len(starts) == 2 * 3 * 8
    for number, start in starts.items():
        finish = finishes[number]
        assert start["ts"] < finish["ts"]
        assert abs(start["pid"] - finish["pid"]) == 1
        # A pass and the message's taker belong to the same micro-batch and direction.
        assert around(start) == around(finish)
        assert len(around(start)) == 1


def test_names_are_data_whatever_they_hold(trace: dict, case: Case, tmp_path) -> None:
    path = tmp_path / "trace.json"
    write_trace(case, path)
    assert json.loads(path.read_text())["otherData"]["model"] == '<script>"&\n'
    assert trace["otherData"]["iteration_seconds"] > 0
