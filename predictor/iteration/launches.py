"""What a rank is made to do: launches on streams, waits between them, and the segments they form.

A stack names the launches of one layer once; a :class:`Segment` holds them and what the host spends
to queue them, and a program repeats segments. No seconds live here.

Streams are those of CUDA: launches of one stream run in order, streams run beside each other. A
launch on a communication stream begins when its stream is free, the host has queued it, and
everything queued on the compute stream before it has ended; a :class:`Wait` makes the compute
stream wait for everything queued on another stream before it. A blocking collective is a launch on
its stream with a wait right behind it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import field
from typing import Final, Literal

from predictor.operators import (
    Attention,
    Collective,
    Gemm,
    GroupedGemm,
    Host,
    MemoryBound,
    Operator,
    Optimizer,
)
from predictor.values import frozen

COMMUNICATION: Final = "communication"


def family_of(operator: Operator) -> str:
    """The family that an operator counts under in a breakdown."""
    return COMMUNICATION if isinstance(operator, Collective) else operator.name


FAMILIES: Final = (
    Gemm.name,
    GroupedGemm.name,
    Attention.name,
    MemoryBound.name,
    Optimizer.name,
    COMMUNICATION,
)

BARE_LAUNCH: Final = Host(stack="torch", phase="forward", quantity="launch")
"""What the host spends on one kernel where nothing more is known about a stack."""

HostWork = tuple[tuple[Host, float], ...]
"""Host activities, each with how often."""

Stream = Literal["compute", "tensor", "data", "gather", "expert", "context"]
STREAMS: Final[tuple[Stream, ...]] = (
    "compute",
    "tensor",
    "data",
    "gather",
    "expert",
    "context",
)


@frozen
class Launch:
    """One operator on a stream.

    Attributes:
        operator: What runs.
        bytes_since_production: Bytes moved between the writing of its largest input and this
            read; below the size of L2 the input may still be there. Infinity means cold.
        kernels: GPU kernels that the operator launches (a gap before each).
        stream: Where it runs.
    """

    operator: Operator
    bytes_since_production: float = float("inf")
    kernels: int = 1
    stream: Stream = "compute"

    @property
    def family(self) -> str:
        """The operator family it counts under in a breakdown."""
        return family_of(self.operator)

    @property
    def deferrable(self) -> bool:
        """Whether a zero-bubble schedule may run it later: the weight gradient of a product."""
        return isinstance(self.operator, Gemm | GroupedGemm) and self.operator.kind == "wgrad"


@frozen
class Wait:
    """The compute stream waits until everything queued on ``stream`` so far has ended."""

    stream: Stream


@frozen
class Sync:
    """The host reads a result: it waits until the compute stream has done all that was queued.

    Attributes:
        ranks: Whose hosts meet here, since what is read comes from all of them.
    """

    ranks: int = 1


@frozen
class Section:
    """Where what is queued next costs the host something else.

    Attributes:
        host: What queueing the launches up to the next section costs, of the segment's host work;
            None: these share what no section has.
    """

    host: HostWork | None = None


Step = Launch | Wait | Sync | Section


@frozen(kw_only=True, eq=False)
class Segment:
    """A run of launches; its identity, not its content, makes it one.

    Attributes:
        label: Name in traces and reports (``layer forward``).
        phase: ``forward``, ``backward`` or ``optimizer``.
        steps: Launches and waits of one repetition, in the order in which the host queues them.
        host: What queueing one repetition costs the host, in equal parts for its launches where
            no section says otherwise; None stands for a bare launch of every kernel.
        launch_seconds: Host seconds of every kernel's launch, of a stack whose host cannot be
            measured; 0 with measured activities.
        call_seconds: Host seconds that each of its collectives waits beyond being queued.
        parameters: Parameters whose gradients are ready once it has run, those of routed experts
            apart.
        expert_parameters: Parameters of routed experts among them.
        company: Other segments whose collectives run beside one repetition, each with the share of
            their seconds that does.
        launches: Its steps without waits.
        meeting: Ranks whose hosts meet in it.
    """

    label: str
    phase: str
    steps: tuple[Step, ...]
    host: HostWork | None = None
    launch_seconds: float = 0.0
    call_seconds: float = 0.0
    parameters: int = 0
    expert_parameters: int = 0
    company: tuple[tuple["Segment", float], ...] = ()
    launches: tuple[Launch, ...] = field(init=False)
    meeting: int = field(init=False)

    def __post_init__(self) -> None:
        """Sort out the launches, and whom they wait for."""
        launches = tuple([step for step in self.steps if isinstance(step, Launch)])
        object.__setattr__(self, "launches", launches)
        met = [step.ranks for step in self.steps if isinstance(step, Sync)]
        object.__setattr__(self, "meeting", max(met, default=1))


Program = tuple[tuple[Segment, int], ...]
"""Segments in order, each with how often it runs back to back."""


class Tape:
    """Collects the launches of one repetition and knows how many bytes went by since any of them.

    ``run`` appends; ``mark`` remembers a place; ``fresh`` launches read what the previous launch
    wrote; ``since=mark`` launches read what was written at the mark. ``start`` queues a collective
    beside the compute stream, ``wait`` waits for it, ``collective`` does both.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._steps: list[Step] = []
        self._bytes = 0.0

    def mark(self) -> float:
        """Bytes moved so far."""
        return self._bytes

    def run(self, operator: Operator, *, since: float | None = None, kernels: int = 1) -> float:
        """Append a launch whose largest input was written at ``since`` and return the new mark."""
        distance = float("inf") if since is None else self._bytes - since
        self._steps.append(Launch(operator, distance, kernels))
        self._bytes += operator.bytes
        return self._bytes

    def fresh(self, operator: Operator, *, kernels: int = 1) -> float:
        """Append a launch that reads what the previous launch wrote."""
        return self.run(operator, since=self._bytes, kernels=kernels)

    def start(self, collective: Collective | None, stream: Stream) -> None:
        """Queue a collective beside the compute stream; None, of a group of one, is nothing."""
        if collective is not None:
            self._steps.append(Launch(collective, stream=stream))

    def wait(self, stream: Stream) -> None:
        """Let the compute stream wait for what was queued on ``stream``."""
        self._steps.append(Wait(stream))

    def sync(self, ranks: int = 1) -> None:
        """Let the host wait for the compute stream, and so for the hosts of ``ranks``."""
        self._steps.append(Sync(ranks))

    def section(self, host: HostWork, steps: Sequence[Step]) -> None:
        """Append what another tape collected, queued by host work of its own."""
        self._steps += [Section(host), *steps, Section()]

    def collective(self, collective: Collective | None, stream: Stream = "tensor") -> None:
        """Run a collective that the compute stream waits for."""
        if collective is not None:
            self.start(collective, stream)
            self.wait(stream)

    def play(self, other: "Tape") -> None:
        """Append what another tape collected, its bytes too; it reads nothing that was before."""
        self._steps += other._steps  # noqa: SLF001 - one of its kind
        self._bytes += other._bytes  # noqa: SLF001

    def extend(self, steps: Sequence[Step]) -> None:
        """Append what another tape collected."""
        self._steps.extend(steps)

    def steps(self) -> tuple[Step, ...]:
        """Everything appended, in order."""
        return tuple(self._steps)


def distinct(programs: Sequence[Program]) -> Iterator[Segment]:
    """Every segment of some programs, once, in the order in which they appear."""
    return iter(dict.fromkeys(segment for program in programs for segment, _ in program))
