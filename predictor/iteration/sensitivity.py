"""What one number of the hardware is worth: the iteration with it 10 % better, over that without.

The same estimates as ``predictor what-if --hardware``: measured times, times the ratio of bounds
(:mod:`predictor.costs.change`). The published curve of a network belongs to its rate, so it is left
aside in all of them.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from predictor.case import Case, load_gpu
from predictor.case.reading import case_from_sections
from predictor.costs import Costs, load_costs
from predictor.costs.change import Change, changed_gpu, costs_with
from predictor.iteration.built import run_of
from predictor.values import frozen

STEP: Final = 0.1
MORE: Final = f"+{100 * STEP:.0f} %"
LESS: Final = MORE.replace("+", "-")

PROPERTIES: Final = {
    "tensor_peak": "tensor cores",
    "hbm_bandwidth": "memory bandwidth",
    "nvlink": "NVLink",
    "power_cap": "power cap",
}
"""Properties of a GPU that are changed, in words."""


@frozen(kw_only=True)
class Sensitivity:
    """What a change of one property does.

    Attributes:
        change: In words: ``+10 % NVLink``.
        share: Change of the iteration's seconds over them; negative is faster.
    """

    change: str
    share: float


def sensitivities(case: Case) -> tuple[Sensitivity, ...]:
    """Effects of each property on a resolved case, the largest first."""
    raw = case.to_dict()
    raw["cluster"].pop("network", None)
    case = case_from_sections(raw)
    base = run_of(case, load_costs(case.cluster.gpu)).iteration_seconds
    found = [
        Sensitivity(change=words, share=run_of(asked, costs).iteration_seconds / base - 1.0)
        for words, asked, costs in _changes(case)
    ]
    return tuple(sorted(found, key=lambda each: each.share))


def _changes(case: Case) -> Iterator[tuple[str, Case, Costs]]:
    """Each property by itself; what the case does not use is left out."""
    sku = case.cluster.gpu
    for name, words in PROPERTIES.items():
        if name != "nvlink" or case.cluster.num_gpus > 1:
            gpu = changed_gpu(load_gpu(sku), [Change(name, f"+{100 * STEP:g}%")])
            yield f"{MORE} {words}", case, costs_with(sku, gpu)
    costs = load_costs(sku)
    host = {activity: seconds * (1.0 - STEP) for activity, seconds in costs.host.items()}
    yield f"{LESS} host time", case, replace(costs, host=host)
    rate = case.cluster.inter_node_bytes_per_second_per_gpu
    if rate is not None:
        faster = replace(case.cluster, inter_node_bytes_per_second_per_gpu=rate * (1.0 + STEP))
        yield f"{MORE} network", replace(case, cluster=faster), costs
