"""Seconds of a case's collectives on the links of its cluster."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from predictor.case import Case
from predictor.costs import Costs, Fabric, Prediction
from predictor.costs.fabric import NVLS_LEAST_RANKS
from predictor.operators import Collective

CollectiveCosts = Callable[[Sequence[Collective]], Prediction]


def collective_costs(case: Case, costs: Costs) -> CollectiveCosts:
    """The cost function of collectives on a case's cluster; switches reduce where they can."""
    fabric = Fabric.of(case.cluster, costs.gpu)

    def predict(operators: Sequence[Collective]) -> Prediction:
        return fabric.predict(
            [
                replace(op, nvls=fabric.nvls and op.ranks_per_node >= NVLS_LEAST_RANKS)
                for op in operators
            ]
        )

    return predict
