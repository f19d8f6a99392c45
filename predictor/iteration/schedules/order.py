"""The order of a pipeline's passes, and what each of them needs.

A pass is forward (F), backward (B) or, where weight gradients are deferred, weight (W) of one
micro-batch through one chunk of one stage. A micro-batch follows a route through chunks of stages:
F goes along it, B comes back, W is at home. Routes say all there is to know about placement: one
route down the stages is a plain pipeline, one that goes round several times is interleaved, two
in opposite directions are a bidirectional pipeline.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np

from predictor.costs.prediction import Ints
from predictor.values import frozen

F, B, W = 0, 1, 2
Pass = tuple[int, int, int]
"""Kind, micro-batch, chunk."""


@frozen
class PassSeconds:
    """Relative seconds of the passes of a stage, and memory between B and W.

    Attributes:
        forward: Of F.
        backward: Of B, the input's gradient.
        weight: Of W.
        message: From one stage to the next.
        held: Share of a micro-batch's activations that B leaves for W.
    """

    forward: float = 1.0
    backward: float = 1.0
    weight: float = 1.0
    message: float = 0.0
    held: float = 1.0


@frozen(eq=False, slots=False)
class Order:
    """What each stage runs, in order; every stage has as many passes.

    Attributes:
        kind: F, B or W of each pass, by stage and place.
        micro_batch: Its micro-batch.
        chunk: Its chunk of the stage.
        routes: For each route, the (stage, chunk) pairs that a micro-batch visits.
        route_of: The route of each micro-batch.
        departs: Number of the pass at whose end each pass's message leaves, where passes are run as
            one; None: each message leaves at the end of its own pass.
    """

    kind: Ints
    micro_batch: Ints
    chunk: Ints
    routes: tuple[tuple[tuple[int, int], ...], ...]
    route_of: Ints
    departs: Ints | None = None

    @classmethod
    def of(
        cls,
        passes: Sequence[Sequence[Pass]],
        routes: Sequence[Sequence[tuple[int, int]]],
        route_of: Ints | None = None,
    ) -> "Order":
        """From a list of passes for each stage."""
        table = np.array(passes, dtype=np.int64)
        count = int(np.max(table[:, :, 1])) + 1
        which = np.zeros(count, dtype=np.int64) if route_of is None else route_of
        return cls(
            table[:, :, 0],
            table[:, :, 1],
            table[:, :, 2],
            tuple(tuple(route) for route in routes),
            which,
        )

    @property
    def stages(self) -> int:
        """Stages of the pipeline."""
        return int(self.kind.shape[0])

    @property
    def passes(self) -> int:
        """Passes of each stage; pass ``k`` of stage ``s`` has the number ``s·passes + k``."""
        return int(self.kind.shape[1])

    @cached_property
    def chunks(self) -> int:
        """Chunks of each stage."""
        return int(np.max(self.chunk)) + 1

    @cached_property
    def number(self) -> Ints:
        """Number of each pass, by kind, micro-batch, stage and chunk; -1 where there is none."""
        shape = (3, len(self.route_of), self.stages, self.chunks)
        table = np.full(shape, -1, dtype=np.int64)
        stage = np.broadcast_to(np.arange(self.stages)[:, None], self.kind.shape)
        numbers = np.arange(self.kind.size).reshape(self.kind.shape)
        table[self.kind, self.micro_batch, stage, self.chunk] = numbers
        return table

    @cached_property
    def neighbours(self) -> tuple[Ints, Ints, Ints, Ints]:
        """Stage and chunk visited before each, and those visited after each.

        By route, stage and chunk; -1 at a route's start and end.
        """
        shape = (4, len(self.routes), self.stages, self.chunks)
        table = np.full(shape, -1, dtype=np.int64)
        for index, route in enumerate(self.routes):
            for here, there in pairwise(route):
                table[:2, index, *there] = here
                table[2:, index, *here] = there
        return table[0], table[1], table[2], table[3]

    @cached_property
    def source(self) -> Ints:
        """Number of the pass whose message or result each pass needs; -1: none."""
        stage = np.broadcast_to(np.arange(self.stages)[:, None], self.kind.shape)
        where = (self.route_of[self.micro_batch], stage, self.chunk)
        stage_before, chunk_before, stage_after, chunk_after = (
            table[where] for table in self.neighbours
        )
        from_before = self.number[F, self.micro_batch, stage_before, chunk_before]
        from_before = np.where(stage_before < 0, -1, from_before)
        from_after = self.number[B, self.micro_batch, stage_after, chunk_after]
        own_forward = self.number[F, self.micro_batch, stage, self.chunk]
        own_backward = self.number[B, self.micro_batch, stage, self.chunk]
        from_after = np.where(stage_after < 0, own_forward, from_after)
        found = np.choose(self.kind, [from_before, from_after, own_backward])
        return np.asarray(found.ravel(), dtype=np.int64)

    @cached_property
    def remote(self) -> "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]":
        """Whether what a pass needs comes from another stage."""
        stage = np.repeat(np.arange(self.stages), self.passes)
        return np.asarray((self.source >= 0) & (self.source // self.passes != stage))

    @cached_property
    def needs(self) -> Ints:
        """Number of the pass that must have ended before each pass can start; -1: none."""
        if self.departs is None:
            return self.source
        return np.where(self.remote, self.departs[self.source], self.source)

    @cached_property
    def target(self) -> Ints:
        """Number of the pass of another stage that needs each pass; -1: none."""
        found = np.full(self.kind.size, -1, dtype=np.int64)
        numbers = np.flatnonzero(self.remote)
        found[self.source[numbers]] = numbers
        return found

    @cached_property
    def meeting(self) -> Ints:
        """For each pass that sends, what its receiver runs before it can receive; else -1."""
        target = self.target
        first = target % self.passes == 0
        return np.where((target < 0) | first, -1, target - 1)

    def levels(self, *, meet: bool) -> list[Ints]:
        """Numbers of passes in an order in which all that each needs comes before it.

        Each level holds at most one pass of a stage. With ``meet``, a stage goes on only when the
        receiver of its last message has come to receive it.

        Raises:
            ValueError: The order waits for itself.
        """
        count = self.kind.size
        always, never = count, count + 1  # behind the passes: one that is done, one that is not
        done = np.zeros(count + 2, dtype=bool)
        done[always] = True
        held = np.full(count, -1)
        if meet:  # of the pass before it on its stage
            held[1:] = self.meeting[:-1]
            held[:: self.passes] = -1
        source, held = (
            np.append(np.where(each < 0, always, each), never) for each in (self.needs, held)
        )
        following = np.arange(1, count + 1)
        following[self.passes - 1 :: self.passes] = -1  # as the next one of a stage that has ended
        number = np.arange(0, count, self.passes)
        found: list[Ints] = []
        left = count
        while left:
            ready = done[source[number]]
            if meet:
                ready &= done[held[number]]
            chosen = number[ready]
            if not len(chosen):
                raise ValueError("the schedule waits for itself")
            done[chosen] = True
            number[ready] = following[chosen]
            left -= len(chosen)
            found.append(chosen)
        return found

    @cached_property
    def in_flight(self) -> Ints:
        """Micro-batches whose activations each chunk holds when a stage holds the most."""
        release = W if (self.kind == W).any() else B
        change = np.where(self.kind == F, 1, np.where(self.kind == release, -1, 0))
        chunk = np.arange(self.chunks)[:, None]
        held = np.cumsum(np.where(self.chunk[:, None] == chunk, change[:, None], 0), axis=2)
        fullest = np.argmax(held.sum(axis=1), axis=1)
        return np.asarray(held[np.arange(self.stages), :, fullest])


def straight(stages: int, chunks: int = 1) -> tuple[tuple[tuple[int, int], ...], ...]:
    """The one route of a pipeline that goes round ``chunks`` times."""
    return (tuple((stage, chunk) for chunk in range(chunks) for stage in range(stages)),)
