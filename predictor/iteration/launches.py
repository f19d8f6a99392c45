"""What a step is made of: launches on the compute stream, grouped into segments that repeat.

An implementation names the launches of one layer once; a :class:`Segment` repeats them for every
layer and says what the host spends to queue one repetition. No seconds live here.
"""

from dataclasses import dataclass

from predictor.operators import Attention, Gemm, Host, MemoryBound, Operator, Optimizer

FAMILIES = (Gemm.name, Attention.name, MemoryBound.name, Optimizer.name)


@dataclass(frozen=True, slots=True)
class Launch:
    """One operator on the compute stream.

    Attributes:
        operator: What runs.
        bytes_since_production: Bytes moved between the writing of its largest input and this
            read; below the size of L2 the input may still be there. Infinity means cold.
        kernels: GPU kernels that the operator launches (a gap before each).
    """

    operator: Operator
    bytes_since_production: float = float("inf")
    kernels: int = 1

    @property
    def family(self) -> str:
        """The operator family it counts under in a breakdown."""
        return self.operator.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A run of launches that is repeated back to back.

    Attributes:
        label: Name in traces and reports (``layer forward``).
        phase: ``forward``, ``backward`` or ``optimizer``.
        launches: Launches of one repetition, in order.
        repeats: Repetitions in one micro-batch (or in one step, for the optimizer).
        host: Host activities spent in queueing one repetition, each with how often.
        host_launches: Bare launches that the host queues, where no measured activity stands for
            the segment; they cost the measured seconds of a launch each.
    """

    label: str
    phase: str
    launches: tuple[Launch, ...]
    repeats: int = 1
    host: tuple[tuple[Host, int], ...] = ()
    host_launches: int = 0

    @classmethod
    def queued(
        cls,
        label: str,
        phase: str,
        launches: tuple[Launch, ...],
        repeats: int = 1,
        *activities: Host,
    ) -> "Segment":
        """Build a segment whose kernels each cost the host a bare launch, beside ``activities``."""
        return cls(
            label=label,
            phase=phase,
            launches=launches,
            repeats=repeats,
            host=tuple((activity, 1) for activity in activities),
            host_launches=sum(launch.kernels for launch in launches),
        )


class Tape:
    """Collects the launches of one repetition and knows how many bytes went by since any of them.

    ``run`` appends; ``mark`` remembers a place; ``fresh`` launches read what the previous launch
    wrote; ``since=mark`` launches read what was written at the mark.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._launches: list[Launch] = []
        self._bytes = 0.0

    def mark(self) -> float:
        """Bytes moved so far."""
        return self._bytes

    def run(self, operator: Operator, *, since: float | None = None, kernels: int = 1) -> float:
        """Append a launch whose largest input was written at ``since`` and return the new mark."""
        distance = float("inf") if since is None else self._bytes - since
        self._launches.append(Launch(operator, distance, kernels))
        self._bytes += operator.bytes
        return self._bytes

    def fresh(self, operator: Operator, *, kernels: int = 1) -> float:
        """Append a launch that reads what the previous launch wrote."""
        return self.run(operator, since=self._bytes, kernels=kernels)

    def launches(self) -> tuple[Launch, ...]:
        """Everything appended, in order."""
        return tuple(self._launches)
