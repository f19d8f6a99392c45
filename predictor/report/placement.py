"""A placement for people: at most 100 columns."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

from predictor.report.quantities import bytes_text, percent_text, seconds_text, usd_text
from predictor.report.table import WIDTH, columns

if TYPE_CHECKING:
    from predictor.search.mixed import MixedEstimate
    from predictor.search.placement import Placement


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


def mixed_text(found: MixedEstimate) -> str:
    """Return a pipeline of several GPUs: its seconds, and each stage's GPU, layers and memory."""
    low, high = (seconds_text(bound) for bound in found.interval_seconds)
    head = [("iteration", f"{seconds_text(found.iteration_seconds)}, 90 % in {low} to {high}")]
    if found.usd_per_iteration is not None:
        head.append(("price", f"{usd_text(found.usd_per_iteration)} at the datasheets' prices"))
    if not found.fits:
        head.append(("memory", "DOES NOT FIT"))
    layers = list(found.case.plan.layers_per_stage or ())
    stages = zip(found.stage_gpus, layers, found.memory_reserved_bytes, strict=True)
    rows = [
        (f"  stage {number}", sku, f"{count} layers", f"{bytes_text(used)} reserved")
        for number, (sku, count, used) in enumerate(stages)
    ]
    line = wrap(f"layers_per_stage = {layers}", WIDTH, subsequent_indent="  ")
    return "\n".join([*columns(head), "", *columns(rows, right=(2, 3)), "", "[plan]", *line])
