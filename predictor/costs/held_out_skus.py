"""How far off is a GPU that nobody measured: a measured one, predicted from another's tables.

Three questions: H200 from H100's cost functions and H200's datasheet alone; A100's products and
attention from H100's alone; and H200's backward passes from its forward ones and H100's ratios
(:mod:`predictor.costs.transfer`, eq. 21), which is how SKUs with imported tables get theirs.
"""

from dataclasses import replace

import numpy as np

from predictor.case import bench_results_folder, load_gpu
from predictor.costs.fitting import merge
from predictor.costs.loading import borrowed_costs, load_costs
from predictor.costs.model import Costs
from predictor.tables import read_folder
from predictor.values import frozen

H100, H200, A100 = "h100-sxm5-80gb", "h200-sxm5-141gb", "a100-sxm4-80gb"
SHORTEST_SECONDS = 20e-6
"""Shorter kernels are launches; their errors say little about a GPU."""


@frozen(kw_only=True)
class Score:
    """Errors of one family on one GPU.

    Attributes:
        target: Predicted SKU.
        source: SKU whose cost functions were taken.
        family: Operators.
        kind: One pass of the family, or empty for all.
        way: ``datasheet`` alone, or by the ``twin`` measured on the target.
        points: Measured shapes of 20 us and more.
        median: Absolute relative error.
        p90: Of the same.
        bias: Median of the signed error.
        coverage: Share of the measurements inside the 90 % interval.
    """

    target: str
    source: str
    family: str
    kind: str
    way: str
    points: int
    median: float
    p90: float
    bias: float
    coverage: float


def score(costs: Costs, source: str, family: str, way: str, kind: str = "") -> Score:
    """Compare predictions with the target's cold burst rows."""
    target = costs.gpu.sku
    table = read_folder(bench_results_folder() / target).tables[family]
    measured = {
        operator: float(np.median([row.seconds or 0.0 for row in rows]))
        for operator, rows in merge(table.rows, regime="burst", cache="cold").items()
        if not kind or getattr(operator, "kind", "") == kind
    }
    chosen = [op for op, seconds in measured.items() if seconds >= SHORTEST_SECONDS]
    seconds = np.array([measured[op] for op in chosen])
    predicted = costs.predict(chosen)
    error = predicted.seconds / seconds - 1.0
    return Score(
        target=target,
        source=source,
        family=family,
        kind=kind,
        way=way,
        points=len(chosen),
        median=round(float(np.median(np.abs(error))), 4),
        p90=round(float(np.quantile(np.abs(error), 0.9)), 4),
        bias=round(float(np.median(error)), 4),
        coverage=round(float(np.mean((predicted.low <= seconds) & (seconds <= predicted.high))), 4),
    )


def forward_only(costs: Costs, reference: Costs) -> Costs:
    """Forget all but forward passes, as an imported table has it."""
    surfaces = {}
    for name in ("gemm", "attention"):
        surface = costs.surfaces[f"{name}/cold"]
        table = read_folder(bench_results_folder() / costs.gpu.sku).tables[name]
        forward = [
            row.operator for row in table.rows if getattr(row.operator, "kind", "") == "forward"
        ]
        groups = costs.groups_of(forward)
        surfaces[f"{name}/cold"] = replace(surface, known=np.array(sorted(groups), dtype=np.int64))
    return replace(costs, surfaces=surfaces, measured={}, reference=reference)


def scores() -> list[Score]:
    """All three questions."""
    h200 = borrowed_costs(load_gpu(H200), H100)
    a100 = borrowed_costs(load_gpu(A100), H100)
    families = ("gemm", "attention", "memory_bound", "optimizer")
    found = [score(h200, H100, family, "datasheet") for family in families]
    found += [score(a100, H100, family, "datasheet") for family in ("gemm", "attention")]
    thin = forward_only(load_costs(H200), h200)
    found += [score(thin, H100, "gemm", "twin", kind) for kind in ("dgrad", "wgrad")]
    found.append(score(thin, H100, "attention", "twin", "backward"))
    return found
