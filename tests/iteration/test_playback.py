"""A step played launch by launch ends when its estimate says."""

import json

import pytest

from predictor.case import Case, resolve
from predictor.costs import load_costs
from predictor.errors import CaseError
from predictor.iteration.built import run_of
from predictor.report.trace import trace_of, write_trace

PLANS = [
    (1, {}),
    (4, {"tensor_parallel": 2}),
    (4, {"pipeline_parallel": 4}),
    (4, {"pipeline_parallel": 4, "overlap_p2p": True}),
    (4, {"pipeline_parallel": 4, "virtual_pipeline": 2}),
    (8, {"pipeline_parallel": 4, "schedule": "zb-h1"}),
    (4, {"pipeline_parallel": 4, "schedule": "dualpipe"}),
]


def case_of(gpus, plan):
    raw = {
        "model": {"preset": "llama3.2-1b", "num_layers": 8},
        "training": {"seq_length": 1024, "global_batch_size": 8 * gpus},
        "plan": {"tensor_parallel": 1} | plan,
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": gpus},
        "implementation": "megatron-core-te",
    }
    return resolve(Case.from_dict(raw)).case


@pytest.mark.parametrize(("gpus", "plan"), PLANS)
@pytest.mark.parametrize("launches", [False, True])
def test_the_last_event_ends_with_the_iteration(gpus, plan, launches):
    case = case_of(gpus, plan)
    run = run_of(case, load_costs(case.cluster.gpu))
    events = list(run.playback().events(launches=launches))
    end = max(event.start_seconds + event.seconds for event in events)
    assert end == pytest.approx(run.iteration_seconds, rel=1e-6)
    assert min(event.start_seconds for event in events) >= 0


def test_experts_one_by_one_end_with_the_iteration():
    raw = {
        "model": {"preset": "mixtral-8x7b", "num_layers": 2},
        "training": {"seq_length": 1024, "global_batch_size": 8},
        "plan": {"tensor_parallel": 2, "expert_parallel": 2},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 4},
        "implementation": "megatron-core-local",
    }
    case = resolve(Case.from_dict(raw)).case
    run = run_of(case, load_costs(case.cluster.gpu))
    ends = [e.start_seconds + e.seconds for e in run.playback().events(launches=True)]
    assert max(ends) == pytest.approx(run.iteration_seconds, rel=1e-6)


def test_launches_of_a_stream_do_not_overlap():
    case = case_of(4, {"tensor_parallel": 2})
    events = run_of(case, load_costs(case.cluster.gpu)).playback().events(launches=True)
    streams = {}
    for event in events:
        if event.stream not in {"passes", "host"}:
            before = streams.get((event.stage, event.stream), 0.0)
            assert event.start_seconds >= before - 1e-12
            streams[event.stage, event.stream] = event.start_seconds + event.seconds
    assert {stream for _, stream in streams} >= {"compute", "tensor", "data"}


def test_a_trace_names_its_stages_and_draws_its_messages(tmp_path):
    case = case_of(4, {"pipeline_parallel": 4})
    trace = trace_of(case)
    phases = [event["ph"] for event in trace["traceEvents"]]
    # Every micro-batch crosses three borders twice.
    assert phases.count("s") == phases.count("f") == 2 * 3 * 32
    names = {e["args"]["name"] for e in trace["traceEvents"] if "name" in e.get("args", {})}
    assert {"stage 0", "stage 3", "compute stream", "micro-batches"} <= names
    path = tmp_path / "trace.json"
    assert write_trace(case, path) == len(json.loads(path.read_text())["traceEvents"])


def test_a_trace_that_cannot_be_written_is_an_error_to_act_on(tmp_path):
    with pytest.raises(CaseError, match="folder that exists"):
        write_trace(case_of(1, {}), tmp_path / "nowhere" / "trace.json")
