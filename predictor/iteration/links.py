"""The messages between pipeline stages, with their seconds."""

from collections.abc import Sequence

import numpy as np

from predictor.case import Case
from predictor.iteration.collectives import CollectiveCosts
from predictor.iteration.groups import message
from predictor.iteration.places import Places
from predictor.operators import Collective


class Links:
    """Messages between stages, and the sum of the gradients of tied tables.

    Attributes:
        messages: Seconds of a message by direction (0: down) and sending stage.
        tied_seconds: Seconds of the sum between the first and the last stage.
    """

    def __init__(
        self,
        case: Case,
        messages: Sequence[Sequence[float]],
        wait_seconds: float,
        tied: Collective | None,
        collectives: CollectiveCosts,
    ) -> None:
        """Price what a pipeline sends down and up: so many bytes each, one after another.

        Args:
            case: The cluster and its stages.
            messages: Bytes of what goes down, and up, for one micro-batch.
            wait_seconds: That either direction takes beyond it.
            tied: Sum of the gradients of tied tables.
            collectives: What messages cost.
        """
        stages = case.plan.pipeline_parallel
        ways = Places.of(case).messages(stages) if stages > 1 else ()
        sent = {
            (crossing, size): message(size, same_node=crossing[0], slower=crossing[1])
            for crossings, sizes in zip(ways, messages, strict=False)
            for crossing in dict.fromkeys(crossings)
            for size in sizes
        }
        asked = [*sent.values(), *([tied] if tied is not None else [])]
        found = collectives(asked).seconds.tolist() if asked else []
        seconds = dict(zip(sent, found, strict=False))
        self.messages = np.zeros((2, stages))
        for direction, (crossings, sizes) in enumerate(zip(ways, messages, strict=False)):
            self.messages[direction] = [
                wait_seconds + sum(seconds[crossing, size] for size in sizes)
                for crossing in crossings
            ]
        self.tied_seconds = found[-1] if tied is not None else 0.0
