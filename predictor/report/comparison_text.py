"""A comparison for people, at most 100 columns wide, and as ``compare --json`` prints it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from predictor.report.quantities import (
    bytes_text,
    count_text,
    percent_text,
    seconds_text,
    seconds_texts,
    signed_percent_text,
    usd_text,
)
from predictor.report.reasons import LEAST_SHARE, reasons, value_text
from predictor.report.table import WIDTH, columns, paragraph, shortened

if TYPE_CHECKING:
    from predictor.iteration import Estimate
    from predictor.report.comparison import Comparison

LABEL_WIDTH = 34
SIDE_BY_SIDE = 4
NAME_WIDTH = 16
SHOWN_DIFFERENCES = 24


def comparison_text(compared: Comparison) -> str:
    """Return figures, differences, time by part and reasons."""
    blocks = [_legend(compared)]
    for begin in range(0, len(compared.names), SIDE_BY_SIDE):
        shown = range(begin, min(begin + SIDE_BY_SIDE, len(compared.names)))
        blocks += [
            _figures(compared, shown),
            _differences(compared, shown),
            _parts(compared, shown),
        ]
    blocks.append([line for words in reasons(compared) for line in paragraph(words, WIDTH)])
    return "\n\n".join("\n".join(block) for block in blocks if block)


def comparison_dict(compared: Comparison) -> dict[str, Any]:
    """Return the content of ``compare --json``."""
    cases = zip(compared.names, compared.seconds, compared.estimates, strict=True)
    return {
        "unit": compared.unit,
        "cases": [
            {"name": name, "seconds": seconds, **each.to_dict()} for name, seconds, each in cases
        ],
        "differences": [
            {"field": each.path, "values": list(each.values)} for each in compared.differences()
        ],
        "seconds_by_part": {name: list(values) for name, values in compared.parts().items()},
        "reasons": list(reasons(compared)),
    }


def _legend(compared: Comparison) -> list[str]:
    """Whole names, where they are too long for the head of a column."""
    pairs = zip(_heads(compared), compared.names, strict=True)
    return [f"{head}: {name}" for head, name in pairs if head != name]


def _heads(compared: Comparison) -> list[str]:
    if all(len(name) <= NAME_WIDTH for name in compared.names):
        return list(compared.names)
    return [f"case {at}" for at in range(1, len(compared.names) + 1)]


def _figures(compared: Comparison, shown: range) -> list[str]:
    heads = _heads(compared)
    cases = [compared.estimates[at] for at in shown]
    rows = [
        ["", *(heads[at] for at in shown)],
        ["iteration", *(seconds_text(each.iteration_seconds) for each in cases)],
        ["90 % from", *(seconds_text(each.interval_seconds[0]) for each in cases)],
        ["90 % to", *(seconds_text(each.interval_seconds[1]) for each in cases)],
        ["tokens/s a GPU", *(count_text(each.tokens_per_second_per_gpu) for each in cases)],
        ["MFU", *(percent_text(each.mfu) for each in cases)],
        ["memory reserved", *(bytes_text(each.memory_reserved_bytes_per_gpu) for each in cases)],
        ["fits", *("yes" if each.fits else "NO" for each in cases)],
        ["price", *(_usd(each) for each in cases)],
    ]
    return columns(rows, right=range(1, len(rows[0])))


def _usd(estimate: Estimate) -> str:
    usd = estimate.usd_per_iteration
    return "-" if usd is None else usd_text(usd)


def _differences(compared: Comparison, shown: range) -> list[str]:
    found = compared.differences()
    if not found and not compared.beside:
        return ["the cases are the same"]
    rows = [
        [
            f"  {shortened(each.path, LABEL_WIDTH)}",
            *(shortened(value_text(each.values[at]), NAME_WIDTH - 1) for at in shown),
        ]
        for each in found[:SHOWN_DIFFERENCES]
    ]
    table = columns(rows, right=range(1, len(rows[0]))) if rows else []
    lines = ["what differs", *(f"  {words}" for words in compared.beside), *table]
    more = len(found) - SHOWN_DIFFERENCES
    return [*lines, f"  ... and {more} more; --json lists all"] if more > 0 else lines


def _parts(compared: Comparison, shown: range) -> list[str]:
    """Seconds by part; of two cases, also their difference."""
    ranked = sorted(compared.parts().items(), key=lambda item: -max(item[1]))
    least = LEAST_SHARE * max(compared.seconds)
    kept = [(name, values) for name, values in ranked if max(values) >= least]
    kept.append(("all", compared.seconds))
    texts = iter(seconds_texts(values[at] for _, values in kept for at in shown))
    rows = [
        [f"  {name.replace('_', ' ')}", *(next(texts) for _ in shown), *_change(compared, values)]
        for name, values in kept
    ]
    title = f"time by part, {compared.unit}"
    if _change(compared, compared.seconds):
        title += "; last column: change, in shares of the first case"
    return [title, *columns(rows, right=range(1, len(rows[0])))]


def _change(compared: Comparison, values: tuple[float, ...]) -> list[str]:
    """The second of two cases less the first, as a share of the first's whole time."""
    if len(values) != 2:  # noqa: PLR2004 - a difference is between two
        return []
    return [signed_percent_text((values[1] - values[0]) / compared.seconds[0])]
