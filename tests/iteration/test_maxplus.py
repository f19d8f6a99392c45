"""The matrices of segments and programs against an event loop over single launches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.iteration.launches import Launch, Segment, Sync, Wait
from predictor.iteration.layout import Layout, Queue
from predictor.iteration.maxplus import HOST, Words, after, chain, essential, identity, power, then
from predictor.operators import AllReduce, MemoryBound

KERNEL = MemoryBound(kernel="copy", rows=1, cols=1)
COLLECTIVE = AllReduce(bytes=8, ranks=2, ranks_per_node=2)
SECONDS = st.floats(0, 10, allow_nan=False)
STEPS = st.one_of(
    st.tuples(st.just("compute"), SECONDS),
    st.tuples(st.sampled_from(["tensor", "data"]), SECONDS),
    st.tuples(st.sampled_from(["wait tensor", "wait data", "wait host"]), st.just(0.0)),
)


def segment_of(steps):
    made = []
    for name, _ in steps:
        if name == "wait host":
            made.append(Sync())
        elif name.startswith("wait"):
            made.append(Wait(name.removeprefix("wait ")))
        else:
            operator = KERNEL if name == "compute" else COLLECTIVE
            made.append(Launch(operator, stream=name))
    return Segment(label="any", phase="forward", steps=tuple(made))


def matrices_of(segments, gap=0.0, scale=1.0, queue=None):
    """Matrices by segment at made-up seconds, of pairs of its steps and its host seconds."""
    made = {segment_of(steps): place for place, (steps, _) in enumerate(segments)}
    seconds = [[s for n, s in steps if not n.startswith("wait")] for steps, _ in segments]
    layout = Layout(made, np.cumsum([0] + [len(each) for each in seconds]))
    flat = np.array([[x for each in seconds for x in each]], dtype=float)
    host = np.array([host for _, host in segments], dtype=float)
    rows = layout.even(host) if queue is None else queue
    return layout, Queue(layout, host, rows).matrices(scale * flat, gap)[:, 0]


def total(steps, host, gap=0.0, times=1):
    _, (matrix,) = matrices_of([(steps, host)], gap)
    return power(matrix, times).max()


def loop(state, steps, host, gap, names, queue=None):
    """One launch after another; ``queue`` has the host seconds of each."""
    state = dict(state)
    queue = iter(queue if queue is not None else ())
    launches = [step for step in steps if not step[0].startswith("wait")]
    if not launches:
        state["host"] += host
    for name, seconds in steps:
        if name.startswith("wait"):
            stream = name.removeprefix("wait ")
            if stream == "host":
                state["host"] = max(state["host"], state["compute"])
            elif stream in names:
                state["compute"] = max(state["compute"], state[stream])
            continue
        state["host"] += next(queue, host / len(launches))
        if name == "compute":
            state[name] = max(state[name], state["host"]) + gap + seconds
        else:
            state[name] = max(state[name], state["compute"], state["host"]) + seconds
    return state


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.lists(STEPS, max_size=12), SECONDS), min_size=1, max_size=3),
    st.floats(0, 1),
    st.integers(1, 4),
    st.lists(SECONDS, min_size=4, max_size=4),
)
def test_a_repeated_program_equals_the_event_loop(segments, gap, times, start):
    layout, matrices = matrices_of(segments, gap)
    word = [place for place in range(len(segments)) for _ in range(times)]
    ((matrix,),) = Words.of([word], len(segments)).products(matrices[:, None])
    names = ("host", *layout.streams)
    expected = dict(zip(("host", "compute", "tensor", "data"), start, strict=True))
    begin = np.array([expected[name] for name in names])
    for steps, host in segments:
        for _ in range(times):
            expected = loop(expected, steps, host, gap, names)
    assert (matrix + begin).max(axis=1) == pytest.approx([expected[name] for name in names])


@settings(deadline=None)
@given(st.lists(st.tuples(STEPS, SECONDS), min_size=1, max_size=12), st.floats(0, 1))
def test_launches_that_cost_the_host_unlike_seconds_equal_the_event_loop(each, gap):
    steps = [step for step, _ in each]
    queue = np.array([spent for (name, _), spent in each if not name.startswith("wait")])
    layout, (matrix,) = matrices_of([(steps, queue.sum())], gap, queue=queue)
    names = ("host", *layout.streams)
    start = dict.fromkeys(names, 0.0)
    expected = loop(start, steps, queue.sum(), gap, names, queue=queue)
    assert matrix.max(axis=1) == pytest.approx([expected[name] for name in names])


def test_a_kernel_behind_costly_launches_waits_for_them():
    steps = [("compute", 4.0), ("compute", 1.0), ("compute", 4.0)]
    spent = np.array([(1.0, 1.0, 7.0), (7.0, 1.0, 1.0)])
    late, early = (matrices_of([(steps, 9.0)], queue=queue)[1].max() for queue in spent)
    assert (late, early) == (9.0 + 4.0, 7.0 + 4.0 + 1.0 + 4.0)


def test_gpu_bound_launches_take_their_kernels_and_gaps():
    assert total([("compute", 5.0)] * 10, 1.0, gap=1.0) == pytest.approx(0.1 + 50.0 + 10.0)


def test_host_bound_launches_take_the_hosts_time_and_the_last_kernel():
    assert total([("compute", 1.0)] * 10, 50.0) == pytest.approx(51.0)


def test_a_collective_hides_behind_what_runs_before_the_wait():
    steps = [("compute", 1.0), ("tensor", 3.0), ("compute", 2.0), ("wait tensor", 0.0)]
    assert total(steps, 0.0) == pytest.approx(4.0)


@settings(deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=20), SECONDS)
def test_no_stream_is_shorter_than_its_work(steps, host):
    layout, (matrix,) = matrices_of([(steps, host)])
    ends = power(matrix, 3).max(axis=1)
    for place, stream in enumerate(layout.streams, start=1):
        assert ends[place] >= 3 * sum(s for name, s in steps if name == stream) - 1e-9
    assert ends[HOST] >= 3 * host - 1e-9


@settings(deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=20), SECONDS, st.floats(1, 3))
def test_slower_launches_never_end_sooner(steps, host, factor):
    (_, fast), (_, slow) = (matrices_of([(steps, host)], scale=each) for each in (1.0, factor))
    assert np.all(slow >= fast - 1e-9)


@pytest.mark.parametrize("numbers", [1, 200])
def test_a_product_leaves_the_later_of_all_ways_through_a_place_between(numbers):
    rng = np.random.default_rng(numbers)
    first, second = np.where(rng.random((2, numbers, 7, 7)) < 0.2, -np.inf, rng.random((7, 7)))
    ways = [[second[:, i, :] + first[:, :, j] for j in range(7)] for i in range(7)]
    expected = np.max(ways, axis=-1).transpose(2, 0, 1)
    assert np.array_equal(then(first, second), expected)


LETTERS = 5


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, LETTERS - 1), max_size=70), min_size=1, max_size=6))
def test_words_are_the_products_of_their_letters_one_by_one(words):
    letters = np.random.default_rng(0).random((LETTERS, 2, 3, 3))
    found = Words.of(words, LETTERS).products(letters)
    nothing = np.broadcast_to(identity(3), letters[0].shape)
    for word, product in zip(words, found, strict=True):
        assert product == pytest.approx(chain([nothing, *(letters[each] for each in word)]))


def test_a_word_of_equal_letters_takes_a_product_a_doubling():
    words = Words.of([[0] * 64, [0] * 32], 1)
    assert [len(first) for first, _ in words.levels] == [1] * 6


def test_states_behind_a_matrix_are_the_latest_of_earlier_ones():
    matrix = np.array([[1.0, -np.inf], [2.0, 5.0]])
    assert after(matrix, np.array([4.0, 0.0])).tolist() == [5.0, 6.0]


def test_powers_are_repeated_products():
    rng = np.random.default_rng(0)
    matrix = rng.random((4, 4))
    product = identity(4)
    for times in range(9):
        assert power(matrix, times) == pytest.approx(product)
        product = then(product, matrix)


@settings(deadline=None)
@given(st.lists(st.lists(STEPS, min_size=1, max_size=8), min_size=2, max_size=4), SECONDS)
def test_streams_that_are_left_out_change_nothing(programs, host):
    layout, whole = matrices_of([(steps, host) for steps in programs])
    kept = essential(whole)
    state, short = np.zeros(layout.size), np.zeros(len(kept))
    for matrix in [*whole, *whole]:
        state = (matrix + state).max(axis=1)
    for matrix in [*whole, *whole]:
        short = (matrix[np.ix_(kept, kept)] + short).max(axis=1)
    assert short == pytest.approx(state[kept])
    left_out = np.delete(state, kept)
    assert np.all(left_out <= state[1] + 1e-9)


def test_a_stream_that_is_joined_is_left_out_and_another_is_not():
    steps = [("tensor", 3.0), ("wait tensor", 0.0), ("compute", 2.0), ("data", 9.0)]
    layout, matrices = matrices_of([(steps, 0.0)])
    kept = [layout.streams[place - 1] for place in essential(matrices)[1:]]
    assert kept == ["compute", "data"]
