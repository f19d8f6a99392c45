"""Laws of an iteration on many GPUs, whatever the plan."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from predictor.case import Case, resolve
from predictor.costs import load_costs
from predictor.errors import CaseError, NotPredictable
from predictor.iteration import estimate
from predictor.iteration.estimate import run_of
from predictor.iteration.pipeline import Pipeline

PLANS = st.fixed_dictionaries(
    {
        "tensor_parallel": st.sampled_from([1, 2, 4]),
        "context_parallel": st.sampled_from([1, 2]),
        "pipeline_parallel": st.sampled_from([1, 2, 4]),
        "virtual_pipeline": st.sampled_from([1, 2]),
        "schedule": st.sampled_from([None, "gpipe", "1f1b", "zb-h1", "zb-2p"]),
        "sharding": st.sampled_from(["none", "optimizer"]),
        "overlap_p2p": st.booleans(),
        "overlap_grad_reduce": st.booleans(),
        "overlap_param_gather": st.booleans(),
    }
)


def case_of(plan, gpus=16, cluster=None, **training):
    raw = {
        "model": {"preset": "llama3.2-1b", "num_layers": 8},
        "training": {"seq_length": 2048, "global_batch_size": 2 * gpus} | training,
        "plan": plan,
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": gpus, "gpus_per_node": 8}
        | (cluster or {}),
        "implementation": "megatron-core-te",
    }
    return Case.from_dict(raw)


def legal(plan, **more):
    try:
        case = case_of(plan, **more)
        return case, estimate(case)
    except (CaseError, NotPredictable):
        assume(False)  # noqa: FBT003 - hypothesis's own call
        raise


@settings(max_examples=25, deadline=None)
@given(PLANS)
def test_parts_add_up_and_none_is_negative(plan):
    _, answer = legal(plan)
    assert sum(answer.breakdown.values()) == pytest.approx(answer.iteration_seconds)
    assert min(answer.breakdown.values()) >= 0
    assert answer.bubble_seconds == answer.breakdown["bubble"]
    low, high = answer.interval_seconds
    assert 0 < low < answer.iteration_seconds < high


@settings(max_examples=10, deadline=None)
@given(PLANS)
def test_an_iteration_is_no_shorter_than_its_busiest_stream_and_its_own_launches(plan):
    case, answer = legal(plan)
    case = resolve(case).case
    run = run_of(case, load_costs(case.cluster.gpu))
    streams = {}
    for event in run.playback().events(launches=True):
        if event.stream not in {"passes", "host"}:
            key = event.stage, event.stream
            streams[key] = streams.get(key, 0.0) + event.seconds
    assert answer.iteration_seconds >= max(streams.values()) * (1 - 1e-9)


@settings(max_examples=15, deadline=None)
@given(PLANS, st.floats(1.1, 8.0))
def test_a_faster_network_is_never_slower(plan, factor):
    rate = {"inter_node_bytes_per_second_per_gpu": 25e9}
    faster = {"inter_node_bytes_per_second_per_gpu": 25e9 * factor}
    _, slow = legal(plan, cluster=rate)
    _, fast = legal(plan, cluster=faster)
    # Less waiting settles at a lower clock: that much may be lost again.
    assert fast.exposed_communication_seconds <= slow.exposed_communication_seconds * (1 + 1e-9)


@settings(max_examples=10, deadline=None)
@given(PLANS)
def test_more_replicas_change_no_computation_of_a_rank(plan):
    plan = plan | {"sharding": "none"}
    _, few = legal(plan, gpus=16)
    _, many = legal(plan, gpus=1024)
    for part in ("gemm", "attention"):
        # The clock alone may differ.
        assert many.breakdown[part] == pytest.approx(few.breakdown[part], rel=0.1)


@pytest.mark.parametrize("schedule", ["1f1b", "interleaved"])
@pytest.mark.parametrize("overlapped", [True, False])
def test_a_steady_state_swept_once_equals_the_whole_sweep(schedule, overlapped, monkeypatch):
    plan = {"tensor_parallel": 2, "pipeline_parallel": 4, "overlap_p2p": overlapped}
    plan |= {"virtual_pipeline": 2} if schedule == "interleaved" else {}
    long = case_of(plan, gpus=16, global_batch_size=2 * 64)
    short = estimate(long)
    whole = property(lambda self: self.micro_batches)
    monkeypatch.setattr(Pipeline, "swept", whole)
    swept = estimate(replace(long, model=replace(long.model, name="the same")))
    assert short.iteration_seconds == pytest.approx(swept.iteration_seconds, rel=1e-9)


def test_a_hundred_thousand_gpus_are_swept_like_five_hundred():
    plan = {"tensor_parallel": 8, "pipeline_parallel": 8, "virtual_pipeline": 3}
    orders = []
    for gpus in (512, 98_304):
        raw = {
            "model": {"preset": "gpt3-175b"},
            "training": {"seq_length": 2048, "global_batch_size": gpus},
            "plan": plan,
            "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": gpus},
        }
        case = resolve(Case.from_dict(raw)).case
        run = run_of(case, load_costs(case.cluster.gpu))
        orders.append(run.playback().order)
    assert np.array_equal(orders[0].kind, orders[1].kind)
