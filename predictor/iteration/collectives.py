"""Seconds of a case's collectives on the links of its cluster."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from predictor.case import Case
from predictor.costs import Costs, Fabric, Prediction
from predictor.costs.fabric import NVLS_LEAST_RANKS
from predictor.operators import Collective

CollectiveCosts = Callable[[Sequence[Collective]], Prediction]


def collective_costs(case: Case, costs: Costs) -> CollectiveCosts:
    """The cost function of collectives on a case's cluster; switches reduce where they can.

    A group inside one scale-up domain takes what such a group took on this SKU, where one was
    measured: the domain is the GPU's own. Others take what the links of the cluster say.
    """
    fabric = Fabric.of(case.cluster, costs.gpu)

    def predict(operators: Sequence[Collective]) -> Prediction:
        asked = [
            replace(op, nvls=fabric.nvls and op.ranks_per_node >= NVLS_LEAST_RANKS)
            for op in operators
        ]
        measured = [op.ranks == op.ranks_per_node and costs.measured_group(op) for op in asked]
        return costs.merge(asked, np.array(measured, dtype=bool), costs.predict, fabric.predict)

    return predict
