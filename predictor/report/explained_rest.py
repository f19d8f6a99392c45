"""Paragraphs on memory, on how sure an estimate is, and on what would make it faster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from predictor.case import load_gpu
from predictor.report.paragraph import LEAST_SHARE, Paragraph
from predictor.report.quantities import bytes_text, percent_text, signed_percent_text

if TYPE_CHECKING:
    from predictor.iteration.account import Account
    from predictor.iteration.sensitivity import Sensitivity

LEAST_TERM = LEAST_SHARE / 5
"""Share of an iteration below which a term of the interval, or a gain, is not mentioned."""

LEAST_ORIGIN = 0.0005
"""Share of the seconds below which an origin would be shown as 0.0 %."""

SHOWN_TERMS = SHOWN_CHANGES = 3
_TERMS = {
    "model of a step": "what the model of a step leaves out: how far published runs were off",
    "communication": "the links, which were fitted to published curves and not measured here",
    "device": "that devices of one kind differ",
}


def memory(account: Account) -> Paragraph:
    """What the fullest GPU holds at its peak."""
    answer = account.estimate
    capacity = load_gpu(answer.case.cluster.gpu).memory_bytes
    reserved, allocated = answer.memory_reserved_bytes_per_gpu, answer.memory_bytes_per_gpu
    ranked = sorted(answer.memory_parts.items(), key=lambda item: -item[1])
    parts = ", ".join(
        f"{name.replace('_', ' ')} {bytes_text(size)} ({percent_text(size / allocated)})"
        for name, size in ranked
        if size / allocated >= LEAST_SHARE
    )
    room = capacity - reserved
    verdict = f"{bytes_text(room)} stay free" if room >= 0 else f"{bytes_text(-room)} are missing"
    sentences = (
        (
            f"the fullest GPU allocates {bytes_text(allocated)} at its peak and reserves "
            f"{bytes_text(reserved)} of {bytes_text(capacity)}: {verdict}."
        ),
        f"At the peak: {parts}.",
    )
    numbers = {"parts": dict(answer.memory_parts), "capacity_bytes": capacity}
    return Paragraph("memory", sentences, numbers)


def certainty(account: Account) -> Paragraph:
    """Which terms make the interval wide, and what the seconds rest on."""
    answer = account.estimate
    whole = answer.iteration_seconds
    half = (answer.interval_seconds[1] - answer.interval_seconds[0]) / 2
    squares = sum(term * term for term in account.uncertainties.values())
    ranked = sorted(account.uncertainties.items(), key=lambda item: -item[1])
    told = ", ".join(
        f"{name.replace('_', ' ')} ±{percent_text(term / whole)}"
        for name, term in ranked[:SHOWN_TERMS]
        if term / whole >= LEAST_TERM
    )
    first, largest = ranked[0]
    origin = ", ".join(
        f"{percent_text(share)} {name}"
        for name, share in answer.origin.items()
        if share > LEAST_ORIGIN
    )
    sentences = (
        f"±{percent_text(half / whole)} covers nine of ten steps; the widest terms: {told}.",
        (
            f"{percent_text(largest * largest / squares)} of the variance is "
            f"{_TERMS.get(first, f'the cost function of {first}')}."
        ),
        f"The seconds are {origin}.",
    )
    numbers = {"half_seconds": half, "terms": dict(account.uncertainties)}
    return Paragraph("how sure", sentences, numbers)


def changes(found: tuple[Sensitivity, ...]) -> Paragraph | None:
    """Which hardware would help most; None where nothing would."""
    worth = [each for each in found if each.share <= -LEAST_TERM][:SHOWN_CHANGES]
    numbers = {"shares": {each.change: each.share for each in found}}
    if not worth:
        return None
    told = ", ".join(f"{each.change}: {signed_percent_text(each.share)}" for each in worth)
    return Paragraph("what would help", (f"{told} of the time.",), numbers)
