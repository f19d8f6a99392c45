"""The queue's closed form against a loop, and the laws of a timeline."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.iteration.timeline import run_queue

TIMES = st.lists(st.floats(0, 10, allow_nan=False), min_size=1, max_size=40)


def loop(durations, host, gap):
    queued = end = 0.0
    for duration, cost in zip(durations, host, strict=True):
        queued += cost
        end = max(queued, end) + gap + duration
    return end


def test_gpu_bound_steps_take_their_kernels_and_gaps():
    line = run_queue(np.full(10, 5.0), np.full(10, 0.1), gap_seconds=1.0)
    assert line.total_seconds == pytest.approx(0.1 + 50.0 + 10.0)


def test_host_bound_steps_take_the_hosts_time_and_the_last_kernel():
    line = run_queue(np.full(10, 1.0), np.full(10, 5.0), gap_seconds=0.0)
    assert line.total_seconds == pytest.approx(50.0 + 1.0)


@given(TIMES, st.floats(0, 1), st.data())
def test_closed_form_equals_the_event_loop(durations, gap, data):
    size = len(durations)
    host = data.draw(st.lists(st.floats(0, 10, allow_nan=False), min_size=size, max_size=size))
    line = run_queue(np.array(durations), np.array(host), gap_seconds=gap)
    expected = loop(durations, host, gap)
    assert line.end_seconds[-1] == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(TIMES, TIMES)
def test_total_is_no_shorter_than_the_busiest_stream(durations, host):
    size = min(len(durations), len(host))
    line = run_queue(np.array(durations[:size]), np.array(host[:size]), gap_seconds=0.0)
    assert line.total_seconds >= line.busy_seconds - 1e-9
    assert line.total_seconds >= sum(host[:size]) - 1e-9
    assert np.all(np.diff(line.start_seconds) >= -1e-9)
