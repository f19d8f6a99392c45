"""A placement for people: at most 100 columns."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

from predictor.report.quantities import percent_text, seconds_text
from predictor.report.table import columns

if TYPE_CHECKING:
    from predictor.search.placement import Placement

WIDTH = 100


def placement_text(found: Placement) -> str:
    """Return what a placement gains, and the line of the case that makes it."""
    links = found.case.cluster.links
    order = list((links and links.placement) or ())
    low, high = (seconds_text(bound) for bound in found.estimate.interval_seconds)
    here = found.estimate.iteration_seconds
    rows = [
        ("iteration as given", seconds_text(found.given_seconds)),
        ("iteration placed", f"{seconds_text(here)}, 90 % in {low} to {high}"),
        ("gain", f"{percent_text(found.gain)} of the given time"),
        ("asked", f"{found.estimates} kinds of placement on the timeline"),
    ]
    told = wrap(f"placement = {order}", WIDTH, subsequent_indent="  ")
    return "\n".join([*columns(rows), "", "[cluster.links]", *told])
