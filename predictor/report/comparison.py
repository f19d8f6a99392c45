"""Cases side by side: what differs in them and in their time, and why the faster is faster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from predictor.report.quantities import (
    bytes_text,
    count_text,
    percent_text,
    seconds_text,
    seconds_texts,
    usd_text,
)
from predictor.report.table import columns, paragraph, shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from predictor.iteration import Estimate

WIDTH = 100
LABEL_WIDTH = 26
SIDE_BY_SIDE = 4
NAME_WIDTH = 16
SHOWN_DIFFERENCES = 24
SAME_SHARE = 0.01
"""A relative difference below which two estimates are called equal."""

LEAST_SHARE = 0.005
MILLION = 1e6
_LEFT_OUT = frozenset({"model.notes", "model.name"})
# Fields that bear on a part of the time, by the end of their path.
_BEARING: dict[str, tuple[str, ...]] = {
    "communication": (
        "tensor_parallel", "sequence_parallel", "context_parallel", "expert_parallel", "sharding",
        "network", "num_gpus", "gpus_per_node", "data_parallel", "overlap_", "tp_overlap", "gpu",
        "moe_dispatcher", "moe_overlap", "inter_node", "implementation", "micro_batch_size",
    ),
    "bubble": (
        "pipeline_parallel", "virtual_pipeline", "schedule", "micro_batch_size",
        "global_batch_size", "layers_per_stage", "data_parallel",
    ),
    "host": ("implementation", "micro_batch_size", "gpu", "num_layers", "tensor_parallel"),
}  # fmt: skip
_COMPUTING = (
    "gpu", "implementation", "precision", "fp8_recipe", "recompute", "tensor_parallel",
    "context_parallel", "pipeline_parallel", "micro_batch_size", "global_batch_size", "seq_length",
    "num_gpus", "optimizer", "sharding", "sequence_parallel", "num_layers", "hidden_size", "preset",
    "moe", "layers_per_stage",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Difference:
    """A field in which cases differ.

    Attributes:
        path: Dotted path.
        values: Of each case, in order; None where it is absent.
    """

    path: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Estimates of several cases, the first of them the one that others are measured by.

    Attributes:
        names: Of the cases, all different.
        estimates: In the same order.
        beside: What differs beside fields of the cases, if anything.
    """

    names: tuple[str, ...]
    estimates: tuple[Estimate, ...]
    beside: tuple[str, ...] = ()

    @property
    def scales(self) -> tuple[float, ...]:
        """By what an estimate's seconds are multiplied to compare equal work.

        One where all cases do the same iteration on as many GPUs; else GPU-seconds for a million
        tokens.
        """
        work = {(_tokens(each), each.case.cluster.num_gpus) for each in self.estimates}
        if len(work) == 1:
            return (1.0,) * len(self.estimates)
        return tuple(
            each.case.cluster.num_gpus * MILLION / _tokens(each) for each in self.estimates
        )

    @property
    def seconds(self) -> tuple[float, ...]:
        """Of equal work, by :attr:`scales`."""
        pairs = zip(self.estimates, self.scales, strict=True)
        return tuple(each.iteration_seconds * scale for each, scale in pairs)

    @property
    def unit(self) -> str:
        """What :attr:`seconds` are."""
        same = set(self.scales) == {1.0}
        return "seconds of an iteration" if same else "GPU-seconds for a million tokens"

    def differences(self) -> tuple[Difference, ...]:
        """Fields of the resolved cases that are not the same in all."""
        flat = [_flat(each.case.to_dict()) for each in self.estimates]
        paths = dict.fromkeys(path for case in flat for path in case)
        found = []
        for path in paths:
            values = tuple(case.get(path) for case in flat)
            if path not in _LEFT_OUT and any(value != values[0] for value in values):
                found.append(Difference(path, values))
        return tuple(found)

    def parts(self) -> dict[str, tuple[float, ...]]:
        """Seconds of equal work by part of the breakdown, for each case."""
        names = dict.fromkeys(name for each in self.estimates for name in each.breakdown)
        pairs = list(zip(self.estimates, self.scales, strict=True))
        return {
            name: tuple(each.breakdown.get(name, 0.0) * scale for each, scale in pairs)
            for name in names
        }

    def reasons(self) -> tuple[str, ...]:
        """Why the fastest case is faster than each other one, in a sentence or two each."""
        best = min(range(len(self.names)), key=lambda at: self.seconds[at])
        return tuple(
            _reason(self, best, other) for other in range(len(self.names)) if other != best
        )

    def to_dict(self) -> dict[str, Any]:
        """As ``compare --json`` prints it."""
        return {
            "unit": self.unit,
            "cases": [
                {"name": name, "seconds": seconds, **each.to_dict()}
                for name, seconds, each in zip(
                    self.names, self.seconds, self.estimates, strict=True
                )
            ],
            "differences": [
                {"field": each.path, "values": list(each.values)} for each in self.differences()
            ],
            "seconds_by_part": {name: list(values) for name, values in self.parts().items()},
            "reasons": list(self.reasons()),
        }


def _tokens(estimate: Estimate) -> int:
    training = estimate.case.training
    return int(training.seq_length * training.global_batch_size)


def _flat(table: dict[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        here = f"{path}.{key}" if path else key
        flat |= _flat(value, here) if isinstance(value, dict) else {here: value}
    return flat


def _reason(told: Comparison, best: int, other: int) -> str:
    fast, slow = told.seconds[best], told.seconds[other]
    winner, loser = told.names[best], told.names[other]
    if slow / fast - 1 < SAME_SHARE:
        return f"{winner} and {loser} take the same time within {SAME_SHARE:.0%}."
    gained = {name: values[other] - values[best] for name, values in told.parts().items()}
    ranked = sorted(gained.items(), key=lambda item: -abs(item[1]))
    worth = [(name, gain) for name, gain in ranked if abs(gain) >= LEAST_SHARE * slow]
    less = [f"{seconds_text(gain)} less on {_part(name)}" for name, gain in worth if gain > 0]
    more = [f"{seconds_text(-gain)} more on {_part(name)}" for name, gain in worth if gain < 0]
    but = f", though {_listed(more[:2])}" if more else ""
    unit = "" if set(told.scales) == {1.0} else ", in GPU-seconds for a million tokens"
    sentence = (
        f"{winner} is {slow / fast:.2f} times as fast as {loser} ({seconds_text(fast)} against "
        f"{seconds_text(slow)}{unit}): it spends {_listed(less[:3])}{but}."
    )
    return f"{sentence}{_cause(told, best, other, worth[0][0])}"


def _part(name: str) -> str:
    words = {
        "gemm": "matrix products",
        "host": "waiting for the host",
        "bubble": "the pipeline's bubble",
    }
    return words.get(name, name.replace("_", " "))


def _listed(words: Sequence[str]) -> str:
    if len(words) < 2:  # noqa: PLR2004 - one needs no "and"
        return "".join(words) or "a little less on many parts"
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _cause(told: Comparison, best: int, other: int, part: str) -> str:
    """The fields that differ and bear on the part that differs most."""
    bearing = _BEARING.get(part, _COMPUTING)
    found = [
        f"{each.path} ({_value(each.values[best])} against {_value(each.values[other])})"
        for each in told.differences()
        if each.values[best] != each.values[other]
        and any(word in each.path.rpartition(".")[2] for word in bearing)
    ]
    if not found:
        return ""
    more = f" and {len(found) - 3} more fields" if len(found) > 3 else ""  # noqa: PLR2004
    return f" What bears on {_part(part)} and differs: {', '.join(found[:3])}{more}."


def _value(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def comparison_text(told: Comparison) -> str:
    """Return figures, differences, time by part and reasons, at most 100 columns wide."""
    blocks = [_legend(told)]
    for begin in range(0, len(told.names), SIDE_BY_SIDE):
        shown = range(begin, min(begin + SIDE_BY_SIDE, len(told.names)))
        blocks += [_figures(told, shown), _differences(told, shown), _parts(told, shown)]
    blocks.append([line for words in told.reasons() for line in paragraph(words, WIDTH)])
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _legend(told: Comparison) -> list[str]:
    """Whole names, where a column's head had to cut them."""
    pairs = zip(_heads(told), told.names, strict=True)
    return [f"{head}: {name}" for head, name in pairs if head != name]


def _heads(told: Comparison) -> list[str]:
    if all(len(name) <= NAME_WIDTH for name in told.names):
        return list(told.names)
    return [f"case {at}" for at in range(1, len(told.names) + 1)]


def _figures(told: Comparison, shown: range) -> list[str]:
    heads = _heads(told)
    cases = [told.estimates[at] for at in shown]
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


def _differences(told: Comparison, shown: range) -> list[str]:
    found = told.differences()
    if not found and not told.beside:
        return ["the cases are the same"]
    rows = [
        [
            f"  {shortened(each.path, LABEL_WIDTH + 8)}",
            *(shortened(_value(each.values[at]), NAME_WIDTH - 1) for at in shown),
        ]
        for each in found[:SHOWN_DIFFERENCES]
    ]
    table = columns(rows, right=range(1, len(rows[0]))) if rows else []
    lines = ["what differs", *(f"  {words}" for words in told.beside), *table]
    more = len(found) - SHOWN_DIFFERENCES
    return [*lines, f"  ... and {more} more; --json lists all"] if more > 0 else lines


def _parts(told: Comparison, shown: range) -> list[str]:
    """Seconds by part; beside two cases, how much the second differs."""
    ranked = sorted(told.parts().items(), key=lambda item: -max(item[1]))
    least = LEAST_SHARE * max(told.seconds)
    pair = len(told.names) == 2  # noqa: PLR2004 - a difference is between two
    kept = [(name, values) for name, values in ranked if max(values) >= least]
    kept.append(("all", told.seconds))
    texts = iter(seconds_texts(values[at] for _, values in kept for at in shown))
    rows = []
    for name, values in kept:
        row = [f"  {name.replace('_', ' ')}", *(next(texts) for _ in shown)]
        if pair:
            row.append(f"{(values[1] - values[0]) / told.seconds[0] * 100:+.1f} %")
        rows.append(row)
    lines = columns(rows, right=range(1, len(rows[0])))
    last = "; last column: second less first, of the first's whole" if pair else ""
    return [f"time by part, {told.unit}{last}", *lines]
