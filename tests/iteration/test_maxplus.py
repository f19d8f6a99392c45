"""The matrices of segments and programs against an event loop over single launches."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.iteration.launches import Launch, Segment, Wait
from predictor.iteration.maxplus import HOST, PLACE, SIZE, Matrices, identity, power, then
from predictor.iteration.priced import Sheet
from predictor.operators import AllReduce, MemoryBound

KERNEL = MemoryBound(kernel="copy", rows=1, cols=1)
COLLECTIVE = AllReduce(bytes=8, ranks=2, ranks_per_node=2)
SECONDS = st.floats(0, 10, allow_nan=False)
STEPS = st.one_of(
    st.tuples(st.just("compute"), SECONDS),
    st.tuples(st.sampled_from(["tensor", "data"]), SECONDS),
    st.tuples(st.sampled_from(["wait tensor", "wait data"]), st.just(0.0)),
)


def segment_of(steps):
    made = []
    for name, _ in steps:
        if name.startswith("wait"):
            made.append(Wait(name.removeprefix("wait ")))
        else:
            operator = KERNEL if name == "compute" else COLLECTIVE
            made.append(Launch(operator, stream=name))
    return Segment(label="any", phase="forward", steps=tuple(made))


def sheet_of(segments):
    """A sheet of made-up seconds: pairs of a segment's steps and its host seconds."""
    made = {segment_of(steps): place for place, (steps, _) in enumerate(segments)}
    seconds = [[s for n, s in steps if not n.startswith("wait")] for steps, _ in segments]
    flat = np.array([x for each in seconds for x in each], dtype=float)
    nothing = np.zeros(len(flat), dtype=np.int64)
    return Sheet(
        segments=made,
        first=np.cumsum([0] + [len(each) for each in seconds]),
        operators=(KERNEL,),
        operator=nothing,
        seconds=flat,
        half=flat,
        origin=nothing,
        family=nothing,
        bandwidth=flat,
        host_seconds=np.array([host for _, host in segments], dtype=float),
    )


def loop(state, steps, host, gap):
    """One launch after another."""
    launches = [step for step in steps if not step[0].startswith("wait")]
    share = host / max(len(launches), 1)
    for name, seconds in steps:
        if name.startswith("wait"):
            stream = PLACE[name.removeprefix("wait ")]
            state[PLACE["compute"]] = max(state[PLACE["compute"]], state[stream])
            continue
        state[HOST] += share
        place = PLACE[name]
        if name == "compute":
            state[place] = max(state[place], state[HOST]) + gap + seconds
        else:
            ready = max(state[PLACE["compute"]], state[HOST])
            state[place] = max(state[place], ready) + seconds
    if not launches:
        state[HOST] += host
    return state


@settings(deadline=None)
@given(st.lists(STEPS, max_size=20), SECONDS, st.floats(0, 1), st.integers(1, 4), st.data())
def test_a_repeated_segment_equals_the_event_loop(steps, host, gap, times, data):
    start = data.draw(st.lists(SECONDS, min_size=SIZE, max_size=SIZE))
    sheet = sheet_of([(steps, host)])
    (segment,) = sheet.segments
    matrix = Matrices(sheet, gap).program(((segment, times),))
    expected = list(start)
    for _ in range(times):
        expected = loop(expected, steps, host, gap)
    assert (matrix + np.array(start)).max(axis=1) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_gpu_bound_launches_take_their_kernels_and_gaps():
    sheet = sheet_of([([("compute", 5.0)] * 10, 1.0)])
    (segment,) = sheet.segments
    total = Matrices(sheet, 1.0).program(((segment, 1),)).max()
    assert total == pytest.approx(0.1 + 50.0 + 10.0)


def test_host_bound_launches_take_the_hosts_time_and_the_last_kernel():
    sheet = sheet_of([([("compute", 1.0)] * 10, 50.0)])
    (segment,) = sheet.segments
    assert Matrices(sheet, 0.0).program(((segment, 1),)).max() == pytest.approx(51.0)


def test_a_collective_hides_behind_what_runs_before_the_wait():
    steps = [("compute", 1.0), ("tensor", 3.0), ("compute", 2.0), ("wait tensor", 0.0)]
    sheet = sheet_of([(steps, 0.0)])
    (segment,) = sheet.segments
    assert Matrices(sheet, 0.0).program(((segment, 1),)).max() == pytest.approx(4.0)


@given(st.lists(STEPS, min_size=1, max_size=20), SECONDS)
def test_no_stream_is_shorter_than_its_work(steps, host):
    sheet = sheet_of([(steps, host)])
    (segment,) = sheet.segments
    matrix = Matrices(sheet, 0.0).program(((segment, 3),))
    ends = matrix.max(axis=1)
    for stream, place in PLACE.items():
        assert ends[place] >= 3 * sum(s for name, s in steps if name == stream) - 1e-9
    assert ends[HOST] >= 3 * host - 1e-9


@given(st.lists(STEPS, min_size=1, max_size=20), SECONDS, st.floats(1, 3))
def test_slower_launches_never_end_sooner(steps, host, factor):
    sheet = sheet_of([(steps, host)])
    (segment,) = sheet.segments
    fast = Matrices(sheet, 0.0).segment(segment)
    slow = Matrices(replace(sheet, seconds=sheet.seconds * factor), 0.0).segment(segment)
    assert np.all(slow >= fast - 1e-9)


def test_powers_are_repeated_products():
    rng = np.random.default_rng(0)
    matrix = rng.random((SIZE, SIZE))
    product = identity()
    for times in range(9):
        assert power(matrix, times) == pytest.approx(product)
        product = then(product, matrix)
