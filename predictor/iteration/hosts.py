"""What the host spends on segments and on each of their launches, in seconds."""

import numpy as np

from predictor.costs import Costs
from predictor.costs.prediction import Floats
from predictor.iteration.launches import BARE_LAUNCH, HostWork, Launch, Section, Segment
from predictor.iteration.layout import Layout, Queue
from predictor.iteration.slowest import latest_host_factor
from predictor.operators import Collective


def host_queue(layout: Layout, costs: Costs) -> Queue:
    """Host seconds of segments and launches, on the last of the hosts that meet in a segment."""
    host_seconds = np.array([_host_seconds(segment, costs) for segment in layout.segments])
    meeting = [segment.meeting for segment in layout.segments]
    last = [latest_host_factor(*each) for each in zip(meeting, host_seconds, strict=True)]
    queued = _queued(layout, host_seconds, costs)
    return Queue(layout, host_seconds * last, queued * np.repeat(last, layout.counts))


def _host_seconds(segment: Segment, costs: Costs) -> float:
    calls = sum(isinstance(launch.operator, Collective) for launch in segment.launches)
    waited = calls * segment.call_seconds
    if segment.host is None or segment.launch_seconds:
        each = segment.launch_seconds or costs.host_seconds(BARE_LAUNCH)
        return waited + sum(
            _spent(work, costs)
            if work is not None
            else sum(launch.kernels for launch in launches) * each
            for work, launches in _sections(segment)
            if launches
        )
    return waited + _spent(segment.host, costs)


def _sections(segment: Segment) -> list[tuple[HostWork | None, list[Launch]]]:
    """Host work of a segment's sections, and what each launches; those in no section first."""
    found: list[tuple[HostWork | None, list[Launch]]] = [(None, [])]
    for step in segment.steps:
        if isinstance(step, Section):
            found.append((step.host, []))
        elif isinstance(step, Launch):
            found[-1][1].append(step)
    return found


def _spent(work: HostWork, costs: Costs) -> float:
    return float(sum(times * costs.host_seconds(activity) for activity, times in work))


def _queued(layout: Layout, host_seconds: Floats, costs: Costs) -> Floats:
    """Host seconds of each launch: those of its section in equal parts, or of what is left."""
    seconds = layout.even(host_seconds)
    for segment, place in layout.segments.items():
        if any(isinstance(step, Section) for step in segment.steps):
            mine = slice(layout.first[place], layout.first[place + 1])
            seconds[mine] = _by_section(segment, float(host_seconds[place]), costs)
    return seconds


def _by_section(segment: Segment, host_seconds: float, costs: Costs) -> list[float]:
    """Host seconds of each launch of a segment with sections.

    Measured parts may add up to more than a measured whole: what is left is at least nothing, and
    sections then take their shares of the whole.
    """
    parts = [(work, len(launches)) for work, launches in _sections(segment)]
    spent = [max(_spent(work, costs), 0.0) if work and n else 0.0 for work, n in parts]
    others = sum(n for work, n in parts if work is None)
    inside = sum(spent)
    left = max(host_seconds - inside, 0.0) if others else 0.0
    scale = (host_seconds - left) / inside if inside else 1.0
    found: list[float] = []
    for (work, n), seconds in zip(parts, spent, strict=True):
        each = left / max(others, 1) if work is None else scale * seconds / max(n, 1)
        found += [each] * n
    return found
