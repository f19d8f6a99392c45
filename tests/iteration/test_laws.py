"""Laws of an iteration on many GPUs, whatever the plan."""

from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from predictor.case import Case, Moe, load_gpu, resolve
from predictor.costs import load_costs
from predictor.costs.change import Change, changed_gpu, costs_with
from predictor.costs.power import Heat
from predictor.errors import CaseError, NotPredictable
from predictor.iteration import estimate
from predictor.iteration.built import run_of
from predictor.iteration.implementations import STACKS
from predictor.iteration.maxplus import COMPUTE, identity
from predictor.iteration.moe.imbalance import load_of
from predictor.iteration.pipeline import Pipeline
from predictor.iteration.schedules import ORDERS, SEARCHED, order_of
from predictor.iteration.schedules.order import Order
from predictor.iteration.timeline import Passes, Which
from predictor.iteration.timeline import run as run_passes

SLACK = 1 + 1e-9

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


def case_of(plan, gpus=16, cluster=None, model=None, **training):
    raw = {
        "model": model or {"preset": "llama3.2-1b", "num_layers": 8},
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


@pytest.mark.parametrize("implementation", STACKS)
def test_parts_add_up_in_every_implementation_that_runs_a_schedule(implementation):
    """Each schedule and depth that an implementation does not refuse, beside its own."""
    summed = 0
    sizes = [(1, 1, 1), (16, 1, 1), (16, 4, 1), (16, 4, 2)]
    for schedule, (gpus, stages, chunks) in product([None, *ORDERS, *SEARCHED], sizes):
        plan = {"pipeline_parallel": stages, "virtual_pipeline": chunks, "schedule": schedule}
        try:
            raw = case_of(plan | {"tensor_parallel": 1}, gpus, global_batch_size=64).to_dict()
            answer = estimate(Case.from_dict(raw | {"implementation": implementation}))
        except (CaseError, NotPredictable):
            continue
        assert sum(answer.breakdown.values()) == pytest.approx(answer.iteration_seconds)
        assert min(answer.breakdown.values()) >= 0
        assert sum(answer.origin.values()) == pytest.approx(1.0)
        summed += 1
    assert summed


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


@contextmanager
def one_clock():
    """Heat bends laws: less waiting settles at a lower clock."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Heat, "settled_clock_hz", lambda self, _: self.max_clock_hz)
        yield


def at_one_clock(plan, **more):
    with one_clock():
        return legal(plan, **more)[1]


@settings(max_examples=15, deadline=None)
@given(PLANS, st.floats(1.0, 8.0))
def test_a_faster_network_is_never_slower_at_one_clock(plan, factor):
    slow, fast = (
        at_one_clock(plan, cluster={"inter_node_bytes_per_second_per_gpu": rate})
        for rate in (25e9, 25e9 * factor)
    )
    assert fast.iteration_seconds <= slow.iteration_seconds * SLACK


@settings(max_examples=15, deadline=None)
@given(PLANS, st.sampled_from(["nvlink", "hbm_bandwidth"]), st.integers(1, 300))
def test_faster_links_and_memory_of_a_gpu_are_never_slower_at_one_clock(plan, name, percent):
    case, _ = legal(plan)
    case, sku = resolve(case).case, case.cluster.gpu
    faster = changed_gpu(load_gpu(sku), [Change(name, f"+{percent}%")])
    with one_clock():
        slow, fast = (run_of(case, costs) for costs in (load_costs(sku), costs_with(sku, faster)))
    assert fast.iteration_seconds <= slow.iteration_seconds * SLACK


@settings(max_examples=10, deadline=None)
@given(PLANS, st.sampled_from([64, 1024, 98_304]))
def test_more_replicas_change_no_computation_of_a_rank(plan, gpus):
    # A gradient reduction beside computation slows it, the longer it takes: none is beside.
    plan = plan | {"sharding": "none", "overlap_grad_reduce": False, "overlap_param_gather": False}
    few, many = at_one_clock(plan, gpus=16), at_one_clock(plan, gpus=gpus)
    for part in ("gemm", "attention", "memory_bound"):
        assert many.breakdown[part] == pytest.approx(few.breakdown[part], rel=1e-9)


EXPERT_PLANS = st.fixed_dictionaries(
    {
        "tensor_parallel": st.sampled_from([1, 2]),
        "pipeline_parallel": st.sampled_from([1, 2]),
        "expert_parallel": st.sampled_from([1, 2, 8]),
        "expert_tensor_parallel": st.sampled_from([1, 2]),
        "sharding": st.sampled_from(["none", "optimizer"]),
    }
)


@settings(max_examples=10, deadline=None)
@given(EXPERT_PLANS, st.sampled_from([64, 1024, 16_384]))
def test_more_replicas_change_no_computation_of_experts_and_need_no_more_memory(plan, gpus):
    plan = plan | {"overlap_grad_reduce": False, "overlap_param_gather": False}
    model = {"preset": "qwen3-30b-a3b", "num_layers": 4}
    few, many = (at_one_clock(plan, gpus=each, model=model) for each in (16, gpus))
    # Less of the masters is a rank's own to cast back where the optimizer's states are split.
    streams = () if plan["sharding"] == "optimizer" else ("memory_bound",)
    for part in ("gemm", "grouped_gemm", "attention", *streams):
        assert many.breakdown[part] == pytest.approx(few.breakdown[part], rel=1e-9)
    assert many.memory_bytes_per_gpu <= few.memory_bytes_per_gpu * SLACK


@settings(max_examples=15, deadline=None)
@given(PLANS, st.integers(0, 3))
def test_twice_the_micro_batches_take_longer_than_one_step_and_no_longer_than_two(plan, doubled):
    gpus = 16
    one, two = (
        at_one_clock(plan, gpus=gpus, global_batch_size=gpus * 2**doubled * times)
        for times in (1, 2)
    )
    assert one.iteration_seconds < two.iteration_seconds <= 2 * one.iteration_seconds * SLACK


@settings(max_examples=15, deadline=None)
@given(PLANS, st.sampled_from(["megatron-core-te", "megatron-core-local", "nanotron"]))
def test_recomputing_more_never_saves_time_and_never_keeps_more(plan, implementation):
    found = []
    for recompute in ("none", "selective", "full"):
        try:
            case = case_of(plan, recompute=recompute).to_dict()
            with one_clock():
                found.append(estimate(Case.from_dict(case | {"implementation": implementation})))
        except (CaseError, NotPredictable):
            assume(False)  # noqa: FBT003 - hypothesis's own call
    for less, more in pairwise(found):
        assert more.iteration_seconds >= less.iteration_seconds / SLACK
        assert more.memory_reserved_bytes_per_gpu <= less.memory_reserved_bytes_per_gpu * SLACK


@settings(max_examples=10, deadline=None)
@given(PLANS)
def test_an_iteration_is_no_shorter_than_the_way_of_any_micro_batch(plan):
    case, answer = legal(plan)
    case = resolve(case).case
    way = {}
    for event in run_of(case, load_costs(case.cluster.gpu)).playback().events(launches=False):
        if event.stream == "passes" and event.name.startswith(("forward", "backward")):
            way[event.micro_batch] = way.get(event.micro_batch, 0.0) + event.seconds
    way.pop(-1, None)
    assert answer.iteration_seconds >= max(way.values()) / SLACK


def renamed(order, name):
    """The order with another name for each stage."""
    back = np.argsort(name)
    routes = tuple(tuple((int(name[s]), c) for s, c in route) for route in order.routes)
    tables = (order.kind[back], order.micro_batch[back], order.chunk[back])
    return Order(*tables, routes, order.route_of), back


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["gpipe", "1f1b", "interleaved", "zb-h1"]),
    st.integers(3, 6),
    st.integers(1, 3),
    st.tuples(st.integers(0, 5), st.booleans()),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_renaming_the_stages_of_a_ring_changes_nothing(
    schedule, stages, groups, turned, overlapped, seed
):
    overlapped = overlapped or schedule == "zb-h1"
    order = order_of(schedule, stages, groups * stages, 2 if schedule == "interleaved" else 1)
    turn, turned_round = turned
    name = (np.arange(stages) + turn) % stages
    name = name[::-1] if turned_round else name
    other, back = renamed(order, name)
    rng = np.random.default_rng(seed)
    matrix = np.array([identity(2)] * 3 * stages)
    matrix[:, COMPUTE, COMPUTE] = rng.random(3 * stages) + 0.1
    messages = 0.3 * rng.random((1, 2, stages))
    mirrored = messages[:, ::-1] if turned_round else messages
    which = order.kind * stages + np.arange(stages)[:, None]
    one = run_passes(Passes(order, matrix[None], Which(which.ravel()), messages, overlapped))
    two = run_passes(
        Passes(other, matrix[None], Which(which[back].ravel()), mirrored[:, :, back], overlapped)
    )
    assert two.state == pytest.approx(one.state[:, back])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 1000), min_size=8, max_size=8).filter(any),
    st.permutations(range(4)),
)
def test_renaming_expert_ranks_changes_no_load(counts, name):
    moved = [tokens for rank in name for tokens in counts[2 * rank : 2 * rank + 2]]
    here, there = (
        load_of(
            Moe(num_experts=8, top_k=1, expert_ffn_hidden_size=64, expert_tokens=tuple(tokens)),
            ranks=4,
            copies=4096,
        )
        for tokens in (counts, moved)
    )
    assert there.fullest == pytest.approx(here.fullest)
