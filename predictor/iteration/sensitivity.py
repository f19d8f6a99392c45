"""What one number of the hardware is worth: the iteration with it 10 % better, over that without.

Both estimates take efficiencies as shares of the datasheet (:func:`changed_costs`), so they differ
in nothing but the number; the published curve of a network, which belongs to its rate, is left
aside in both.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from predictor.case import Case, Gpu, load_gpu
from predictor.case.reading import case_from_sections
from predictor.costs import Costs
from predictor.costs.loading import changed_costs
from predictor.iteration.estimate import run_of

STEP: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
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
    gpu = replace(load_gpu(case.cluster.gpu), sku=f"{case.cluster.gpu} changed")
    base = run_of(case, changed_costs(gpu, case.cluster.gpu)).iteration_seconds
    found = [
        Sensitivity(change=words, share=run_of(asked, costs).iteration_seconds / base - 1.0)
        for words, asked, costs in _changes(case, gpu)
    ]
    return tuple(sorted(found, key=lambda each: each.share))


def _changes(case: Case, gpu: Gpu) -> Iterator[tuple[str, Case, Costs]]:
    """Each property by itself; what the case does not use is left out."""
    sku = case.cluster.gpu
    more = f"+{STEP:.0%}".replace("%", " %")
    for words, changed in _datasheets(gpu, linked=case.cluster.num_gpus > 1):
        yield f"{more} {words}", case, changed_costs(changed, sku)
    costs = changed_costs(gpu, sku)
    host = {activity: seconds * (1.0 - STEP) for activity, seconds in costs.host.items()}
    yield f"{more.replace('+', '-')} host time", case, replace(costs, host=host)
    rate = case.cluster.inter_node_bytes_per_second_per_gpu
    if rate is not None:
        faster = replace(case.cluster, inter_node_bytes_per_second_per_gpu=rate * (1.0 + STEP))
        yield f"{more} network", replace(case, cluster=faster), costs


def _datasheets(gpu: Gpu, *, linked: bool) -> Iterator[tuple[str, Gpu]]:
    up = 1.0 + STEP
    peaks = {name: rate * up for name, rate in gpu.peak_flops_per_second.items()}
    yield "tensor cores", replace(gpu, peak_flops_per_second=peaks)
    memory = gpu.memory_bytes_per_second * up
    yield "memory bandwidth", replace(gpu, memory_bytes_per_second=memory)
    if linked:
        links = gpu.scaleup_bytes_per_second * up
        yield "NVLink", replace(gpu, scaleup_bytes_per_second=links)
    yield "power cap", replace(gpu, power_watts=gpu.power_watts * up)
