"""The sweep over levels against an event loop that knows nothing of levels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.errors import NotPredictable
from predictor.iteration.course import course_of
from predictor.iteration.maxplus import COMPUTE, HOST, identity
from predictor.iteration.net import net_of
from predictor.iteration.pipeline import SWEPT_GROUPS, SWEPT_GROUPS_BLOCKING
from predictor.iteration.schedules import ORDERS, SPLIT_BACKWARD, PassSeconds, order_of
from predictor.iteration.schedules.order import B, F
from predictor.iteration.timeline import Passes, Which, run

KINDS = 3


def matrix_of(seconds, host=0.0):
    matrix = identity(2)
    matrix[COMPUTE, COMPUTE] = seconds
    matrix[COMPUTE, HOST] = seconds + host
    matrix[HOST, HOST] = host
    return matrix


def passes_of(order, seconds, messages=None, *, overlapped=True, host=0.0):
    """Passes whose seconds are given by kind and stage."""
    stage = np.arange(order.kind.size) // order.passes
    which = order.kind.ravel() * order.stages + stage
    matrix = np.array([[matrix_of(s, host) for s in np.ravel(seconds)]])
    if messages is None:
        messages = np.zeros((2, order.stages))
    return Passes(order, matrix, Which(which), np.asarray(messages)[None], overlapped)


class Loop:
    """Tries every stage in turn until nothing is left to run."""

    def __init__(self, order, seconds, messages, *, overlapped):
        self.order, self.seconds, self.messages = order, seconds, messages
        self.overlapped = overlapped
        self.meet = not overlapped and order.chunks == 1
        self.source, self.target = {}, {}
        self.end, self.arrival, self.link = {}, {}, {}
        self.free = [0.0] * order.stages
        self.connect()

    def connect(self):
        p, n, order = self.order.stages, self.order.passes, self.order
        tables = (order.kind, order.micro_batch, order.chunk)
        name = {
            s * n + k: (int(tables[0][s, k]), int(tables[1][s, k]), s, int(tables[2][s, k]))
            for s in range(p)
            for k in range(n)
        }
        number = {key: me for me, key in name.items()}
        for me, (kind, micro, s, c) in name.items():
            route = order.routes[order.route_of[micro]]
            place = route.index((s, c))
            if kind == F:
                key = (F, micro, *route[place - 1]) if place else None
            elif kind == B and place + 1 < len(route):
                key = (B, micro, *route[place + 1])
            else:
                key = (kind - 1, micro, s, c)
            if key is not None:
                self.source[me] = number[key]
                if key[2] != s:
                    self.target[number[key]] = me
        leaves = order.departs if order.departs is not None else range(p * n)
        self.leaves = {me: int(leaves[me]) for me in range(p * n)}
        self.released = {}
        for sender in self.target:
            self.released.setdefault(self.leaves[sender], []).append(sender)

    def message(self, sender):
        n = self.order.passes
        down = self.target[sender] // n == (sender // n + 1) % self.order.stages
        return (0 if down else 1), sender // n

    def begin(self, me):
        """When a pass can start, or None if what it needs has not run."""
        n = self.order.passes
        free, needed = self.free[me // n], self.source.get(me)
        remote = needed is not None and needed // n != me // n
        if needed is not None and (self.leaves[needed] if remote else needed) not in self.end:
            return None
        if self.overlapped:
            return max(free, self.arrival[needed]) if remote else free
        start = free
        if remote:
            start = max(free, self.end[needed]) + self.messages[self.message(needed)]
        last = me - 1 if me % n else None
        if last in self.target:
            before = self.target[last] - 1 if self.target[last] % n and self.meet else None
            if before is not None and before not in self.end:
                return None
            gone = max(free, self.end[before]) if before is not None else free
            start = max(start, gone + self.messages[self.message(last)])
        return start

    def run(self):
        p, n = self.order.stages, self.order.passes
        at = [0] * p
        while min(at) < n:
            waiting = [s for s in range(p) if at[s] < n]
            begun = [(s, self.begin(s * n + at[s])) for s in waiting]
            stage, start = next((s, t) for s, t in begun if t is not None)
            me = stage * n + at[stage]
            end = start + self.seconds[self.order.kind[stage, at[stage]]][stage]
            self.end[me] = self.free[stage] = end
            for sender in self.released.get(me, ()):
                link = self.message(sender)
                self.link[link] = max(end, self.link.get(link, 0.0)) + self.messages[link]
                self.arrival[sender] = self.link[link]
            at[stage] += 1
        return [self.end[me] for me in range(p * n)]


SHAPES = st.one_of(
    st.tuples(st.sampled_from(["gpipe", "1f1b"]), st.integers(2, 5), st.integers(1, 9), st.just(1)),
    st.tuples(
        st.sampled_from(["zb-h1", "zb-h2", "zb-1p", "zb-2p"]),
        st.integers(2, 4),
        st.integers(1, 9),
        st.just(1),
    ),
    st.tuples(st.just("dualpipe"), st.just(4), st.sampled_from([8, 10, 14]), st.just(1)),
    st.tuples(st.integers(2, 4), st.integers(1, 3), st.integers(2, 3)).map(
        lambda shape: ("interleaved", shape[0], shape[0] * shape[1], shape[2])
    ),
)


@settings(deadline=None, max_examples=60)
@given(SHAPES, st.booleans(), st.integers(0, 2**32 - 1))
def test_the_sweep_equals_the_event_loop(shape, overlapped, seed):
    order = order_of(*shape)
    overlapped = overlapped or shape[0] in SPLIT_BACKWARD
    rng = np.random.default_rng(seed)
    seconds = rng.random((KINDS, order.stages)) + 0.1
    messages = rng.random((2, order.stages))
    line = run(passes_of(order, seconds, messages, overlapped=overlapped))
    loop = Loop(order, seconds, messages, overlapped=overlapped)
    assert line.end[0] == pytest.approx(loop.run())


FIRST_F, NEXT_F, FIRST_B, NEXT_B, LAST_B = range(5)


def of_groups(shape, matrix, messages, *, overlapped):
    """A pipeline; matrices are of the passes named above, stage by stage."""
    order = order_of(*shape)
    first, last = order.micro_batch == 0, order.micro_batch == len(order.route_of) - 1
    back = np.where(last, LAST_B, np.where(first, FIRST_B, NEXT_B))
    slot = np.where(order.kind == F, np.where(first, FIRST_F, NEXT_F), back)
    which = slot * order.stages + np.arange(order.stages)[:, None]
    return Passes(order, matrix, Which(which.ravel()), messages, overlapped)


def random_matrices(rng, scenarios, count, size, host):
    """Of passes, a third of which are equal, on hosts that are faster or slower than they."""
    matrix = np.broadcast_to(identity(size), (scenarios, count, size, size)).copy()
    seconds = np.where(rng.random((scenarios, count)) < 1 / 3, 0.5, rng.random((scenarios, count)))
    queued = host * rng.random((scenarios, count))
    matrix[..., COMPUTE, COMPUTE] = seconds
    matrix[..., COMPUTE, HOST] = queued + seconds * rng.random((scenarios, count))
    matrix[..., HOST, HOST] = queued
    for stream in range(2, size):
        matrix[..., stream, COMPUTE] = rng.random((scenarios, count))
        matrix[..., COMPUTE, stream] = rng.random((scenarios, count)) - 0.5
    return matrix


@settings(deadline=None, max_examples=80)
@given(
    st.sampled_from([("1f1b", 1), ("interleaved", 2), ("interleaved", 3)]),
    st.integers(2, 5),
    st.tuples(st.integers(0, 4), st.integers(1, 40)),
    st.booleans(),
    st.tuples(st.sampled_from([0.01, 0.7, 2.0]), st.sampled_from([0.0, 0.05, 0.5, 3.0])),
    st.integers(0, 2**32 - 1),
)
def test_groups_that_are_not_swept_add_what_they_add_when_swept(
    schedule, stages, groups, overlapped, slow, seed
):
    (name, chunks), (rest, more), (host, message) = schedule, groups, slow
    rng = np.random.default_rng(seed)
    matrix = random_matrices(rng, 2, 5 * stages, int(rng.integers(2, 4)), host)
    messages = message * rng.random((2, 2, stages))
    rest = rest % stages if chunks == 1 else 0
    swept = SWEPT_GROUPS_BLOCKING if chunks == 1 and not overlapped else SWEPT_GROUPS
    short, long = (
        of_groups((name, stages, count, chunks), matrix, messages, overlapped=overlapped)
        for count in (swept * stages + rest, (swept + more) * stages + rest)
    )
    part, whole = run(short, more), run(long)
    assert part.state == pytest.approx(whole.state, rel=1e-9)
    first = (slice(None), slice(None), 0)
    began, ended = (each.start.reshape(2, stages, -1)[first] for each in (part, whole))
    assert began == pytest.approx(ended)


def test_a_host_that_has_run_ahead_is_caught_up_with():
    """The GPU is faster, and waits for its host once it has made up for a late start.

    Two stages run passes of 1 s, which their hosts queue in 1.02 s each. The very first pass takes
    50 s more, so hosts are far ahead; but they lose 0.04 s in every micro-batch, and after some
    1,250 of them the GPUs run as late as they do.
    """
    stages, count = 2, 3000
    matrix = np.array([[matrix_of(1.0, 1.02)] * 5 * stages])
    matrix[0, FIRST_F * stages, COMPUTE, COMPUTE] += 50.0
    short, long = (
        of_groups(("1f1b", stages, each, 1), matrix, np.zeros((1, 2, 2)), overlapped=True)
        for each in (4 * stages, count)
    )
    part, whole = run(short, count // stages - 4), run(long)
    hosts = 1.02 * 2 * count
    assert part.state[0, :, HOST] == pytest.approx(hosts)
    assert part.state[0, :, COMPUTE] == pytest.approx([hosts + 2.0, hosts + 1.0])  # and not 6,051
    assert part.state == pytest.approx(whole.state, rel=1e-9)


@pytest.mark.parametrize("overlapped", [True, False])
@pytest.mark.parametrize("queued", [True, False])
@pytest.mark.parametrize("chunks", [1, 2, 3, 4])
def test_what_is_swept_holds_a_group_that_repeats_another(chunks, queued, overlapped):
    name = "1f1b" if chunks == 1 else "interleaved"
    groups = SWEPT_GROUPS_BLOCKING if chunks == 1 and not overlapped else SWEPT_GROUPS
    for stages in range(2, 10):
        for rest in range(stages if chunks == 1 else 1):
            order = order_of(name, stages, groups * stages + rest, chunks)
            course = course_of(order, meet=not overlapped and chunks == 1)
            net = net_of(course, 2, overlapped=overlapped, queued=queued and overlapped)
            levels = course.number.reshape(-1, stages) >= 0
            rows = slice(net.block.begin // net.spacing, net.block.end // net.spacing)
            assert levels[rows].sum(axis=0).tolist() == [2 * chunks * stages] * stages


@pytest.mark.parametrize("overlapped", [True, False])
@pytest.mark.parametrize(
    ("schedule", "stages", "micro_batches", "chunks"),
    [("gpipe", 4, 8, 1), ("1f1b", 4, 8, 1), ("1f1b", 5, 3, 1), ("interleaved", 4, 8, 3)],
)
def test_bubbles_are_those_of_the_papers(schedule, stages, micro_batches, chunks, overlapped):
    order = order_of(schedule, stages, micro_batches, chunks)
    seconds = np.array([[1.0] * stages, [2.0] * stages, [0.0] * stages])
    line = run(passes_of(order, seconds, overlapped=overlapped))
    work = 3.0 * micro_batches * chunks
    bubble = line.state[0, :, COMPUTE].max() - work
    assert bubble == pytest.approx((stages - 1) * 3.0)
    assert bubble / work == pytest.approx((stages - 1) / (micro_batches * chunks))


UNEQUAL = (1.0, 1.2, 0.8)


def spans(order, forward, backward, weight):
    """Idle seconds of the worst stage between its first and its last pass."""
    seconds = np.array([[each] * order.stages for each in (forward, backward, weight)])
    line = run(passes_of(order, seconds))
    start = line.start[0].reshape(order.stages, -1)
    end = line.end[0].reshape(order.stages, -1)
    work = (forward + backward + weight) * order.passes / 3
    return (end[:, -1] - start[:, 0]).max() - work


@pytest.mark.parametrize(("stages", "micro_batches"), [(2, 8), (4, 12), (8, 32)])
@pytest.mark.parametrize("seconds", [(1.0, 1.0, 1.0), UNEQUAL])
def test_zero_bubbles_by_hand_idle_as_the_paper_says(stages, micro_batches, seconds):
    f, b, w = seconds
    h1 = spans(order_of("zb-h1", stages, micro_batches, 1), f, b, w)
    h2 = spans(order_of("zb-h2", stages, micro_batches, 1), f, b, w)
    assert h1 == pytest.approx((stages - 1) * (f + b - w))
    assert h2 == pytest.approx((stages - 1) * (f + b - 2 * w), abs=1e-9)


@pytest.mark.parametrize("seconds", [(1.0, 1.0, 1.0), UNEQUAL, (1.0, 1.05, 0.6)])
@pytest.mark.parametrize(("stages", "micro_batches"), [(4, 12), (8, 24), (4, 40)])
def test_the_search_is_no_worse_than_the_hand_and_keeps_its_limit(stages, micro_batches, seconds):
    f, b, w = seconds
    given = PassSeconds(forward=f, backward=b, weight=w)
    for groups, hand in ((1, "zb-h1"), (2, "zb-h2")):
        found = order_of(f"zb-{groups}p", stages, micro_batches, 1, given)
        by_hand = order_of(hand, stages, micro_batches, 1)
        assert found.in_flight.max() <= groups * stages
        assert spans(found, f, b, w) <= spans(by_hand, f, b, w) + 1e-9


def test_twice_the_memory_leaves_no_bubble_where_passes_are_equal():
    assert spans(order_of("zb-2p", 8, 24, 1), 1.0, 1.0, 1.0) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(("stages", "micro_batches"), [(4, 8), (8, 20), (16, 64)])
def test_dualpipe_idles_and_holds_as_the_paper_says(stages, micro_batches):
    order = order_of("dualpipe", stages, micro_batches, 1)
    # F&B = F + B + W and the whole backward pass B + W: (p/2 - 1)(F&B + (B + W) - 3W).
    assert spans(order, 1.0, 1.0, 1.0) == pytest.approx((stages / 2 - 1) * 2.0)
    assert spans(order, *UNEQUAL) <= (stages / 2 - 1) * (3.0 + 2.0 - 2.4) + 1e-9
    assert set(order.in_flight.sum(axis=1).tolist()) == {stages + 1}


@pytest.mark.parametrize(("stages", "micro_batches"), [(3, 12), (4, 7), (4, 6)])
def test_dualpipe_refuses_what_it_cannot_run(stages, micro_batches):
    with pytest.raises(NotPredictable, match="dualpipe"):
        order_of("dualpipe", stages, micro_batches, 1)


def test_interleaving_refuses_micro_batches_left_over():
    with pytest.raises(NotPredictable, match="multiples of pipeline_parallel"):
        order_of("interleaved", 4, 10, 2)


def test_one_f_one_b_holds_as_many_micro_batches_as_stages_are_left():
    assert order_of("1f1b", 4, 8, 1).in_flight.ravel().tolist() == [4, 3, 2, 1]
    assert order_of("1f1b", 4, 2, 1).in_flight.ravel().tolist() == [2, 2, 2, 1]
    assert order_of("gpipe", 4, 8, 1).in_flight.ravel().tolist() == [8] * 4


def test_interleaving_holds_a_little_more_than_the_plain_schedule():
    held = order_of("interleaved", 4, 16, 2).in_flight.sum(axis=1)
    # Stage 0 runs 2(p - 1) + (v - 1)p forward passes ahead of its first backward pass, and one.
    assert held[0] == 2 * 3 + 4 + 1


@pytest.mark.parametrize("schedule", sorted(ORDERS))
def test_a_stalled_host_delays_every_pass(schedule):
    chunks = 2 if schedule == "interleaved" else 1
    order = order_of(schedule, 4, 8, chunks)
    line = run(passes_of(order, np.ones((KINDS, 4)), host=10.0))
    assert line.state[0, :, COMPUTE].min() >= 10.0 * order.passes
