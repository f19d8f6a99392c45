"""The programs that the chunks of a stage run for its micro-batches.

Every chunk of a stage has a forward and a backward program; a schedule that defers weight gradients
has the backward split in two. The first forward pass of a step may gather parameters, the last
backward pass may reduce gradients; both are programs of their own.
"""

from collections.abc import Iterator

from predictor.iteration.launches import Program
from predictor.values import frozen


@frozen(kw_only=True)
class ChunkPrograms:
    """What a chunk runs.

    Attributes:
        first_forward: Of the first micro-batch of a step.
        forward: Of the others.
        backward: Of a micro-batch that is neither the first nor the last.
        first_backward: Of the first, which accumulates onto nothing.
        last_backward: Of the last, after which gradients are whole; of the only one, if there is
            one.
        weight: Deferred weight gradients; empty where the backward pass makes them.
        last_weight: Of the last micro-batch.
    """

    first_forward: Program
    forward: Program
    first_backward: Program
    backward: Program
    last_backward: Program
    weight: Program = ()
    last_weight: Program = ()

    def programs(self) -> tuple[Program, ...]:
        """All of them, in the order of the fields."""
        return (
            self.first_forward,
            self.forward,
            self.first_backward,
            self.backward,
            self.last_backward,
            self.weight,
            self.last_weight,
        )


@frozen(kw_only=True, eq=False)
class StagePrograms:
    """What a stage runs.

    Attributes:
        chunks: Its chunks.
        reduce: Once the last backward pass has ended: waits for gradients, and what follows.
        step: Once all stages have come so far: the optimizer, and gathers of parameters.
    """

    chunks: tuple[ChunkPrograms, ...]
    reduce: Program
    step: Program

    def programs(self) -> Iterator[Program]:
        """All of them."""
        for chunk in self.chunks:
            yield from chunk.programs()
        yield self.reduce
        yield self.step

    def alone(self) -> tuple[Program, Program, Program, Program]:
        """What it runs in a round of its chunks: the first, each between, the last, the only."""
        first: Program = ()
        between: Program = ()
        last: Program = ()
        only: Program = ()
        for chunk in self.chunks:
            first += chunk.first_forward + chunk.first_backward + chunk.weight
            between += chunk.forward + chunk.backward + chunk.weight
            last += chunk.forward + chunk.last_backward + chunk.last_weight
            only += chunk.first_forward + chunk.last_backward + chunk.last_weight
        ends = self.reduce + self.step
        return first, between, last + ends, only + ends
