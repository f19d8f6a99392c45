"""Host seconds of launches, section by section, by hand."""

import pytest

from predictor.costs import load_costs
from predictor.iteration.hosts import _by_section, _host_seconds
from predictor.iteration.launches import Launch, Section, Segment
from predictor.operators import Host, MemoryBound

COSTS = load_costs("h100-sxm5-80gb")
CALL = Host(stack="torch", phase="forward", quantity="launch")
ONE = COSTS.host_seconds(CALL)
KERNEL = Launch(MemoryBound(kernel="copy", rows=1, cols=1))


def queued(host_seconds, *steps):
    segment = Segment(label="any", phase="forward", steps=steps)
    return _by_section(segment, host_seconds, COSTS)


def test_a_section_takes_its_own_and_the_others_share_what_is_left():
    section = (Section(((CALL, 3.0),)), KERNEL, KERNEL, Section())
    found = queued(10 * ONE, KERNEL, *section, KERNEL, KERNEL)
    assert found == pytest.approx([7 / 3 * ONE, 1.5 * ONE, 1.5 * ONE, 7 / 3 * ONE, 7 / 3 * ONE])


def test_sections_that_cost_more_than_the_whole_share_it():
    first, second = Section(((CALL, 3.0),)), Section(((CALL, 9.0),))
    found = queued(6 * ONE, KERNEL, first, KERNEL, second, KERNEL)
    assert found == pytest.approx([0.0, 1.5 * ONE, 4.5 * ONE])


def test_a_section_that_launches_nothing_costs_nothing():
    found = queued(2 * ONE, Section(((CALL, 1.0),)), Section(), KERNEL, KERNEL)
    assert found == pytest.approx([ONE, ONE])


def test_without_others_sections_share_the_whole():
    found = queued(8 * ONE, Section(((CALL, 1.0),)), KERNEL, Section(((CALL, 3.0),)), KERNEL)
    assert found == pytest.approx([2 * ONE, 6 * ONE])


def test_sections_are_paid_beside_the_launches_of_a_host_that_was_not_measured():
    steps = (KERNEL, Section(((CALL, 3.0),)), KERNEL, Section(), KERNEL)
    segment = Segment(label="any", phase="forward", steps=steps, launch_seconds=50e-6)
    assert _host_seconds(segment, COSTS) == pytest.approx(2 * 50e-6 + 3 * ONE)
