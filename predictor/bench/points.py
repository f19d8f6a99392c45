"""A point: one operator in one regime and cache state, with what it costs to measure."""

from dataclasses import dataclass
from typing import Any, Final

from predictor.operators import (
    Attention,
    Collective,
    GroupedGemm,
    Host,
    Interference,
    Memcpy,
    MemoryBound,
    Operator,
    column_fields,
)
from predictor.tables import Cache, Regime

MIN_SAMPLES: Final = 3
MAX_SAMPLES_WANTED: Final = 20
IDLE_SECONDS: Final = 0.02

# Rough rates of a 2023 data-centre GPU. They only budget a run; no result depends on them.
_EXPECTED_FLOPS_PER_SECOND: Final = 500e12
_EXPECTED_BYTES_PER_SECOND: Final = 2e12
_LAUNCH_SECONDS: Final = 5e-6
_USED: Final = 0.5
"""Share of a round's time after which its median is sure enough (an H100's run)."""
_COLLECTIVE_SECONDS: Final = 1e-5
_RANK_BYTES_PER_SECOND: Final = 300e9
_WINDOW_SECONDS: Final = 0.03  # in which compute and a collective run side by side
_LINK_BYTES_PER_SECOND: Final = {"h2d": 25e9, "d2h": 25e9, "d2d": 1e12, "peer": 100e9}
_PAGEABLE_BYTES_PER_SECOND: Final = 5e9

# Wall seconds to build one workload and to check its result, by whose code it is.
_PREPARE_SECONDS: Final = {
    "native": 0.03,
    "looped": 0.03,
    "multi_stream": 0.03,
    "cublas_grouped": 0.03,
    "cublaslt_grouped": 0.03,
    "cudnn": 0.1,  # its plan was built beside the chunk before
    "cudnn_moe": 0.25,
    "torch": 0.05,
    "flash": 0.05,
    "inductor": 2.0,
    "host": 2.5,
    "host-compile": 8.0,  # the quantities of a block share half a minute of compilation
}
_KIND_FIELDS: Final = (
    *("kernel", "kind", "api", "algorithm", "causal", "bias", "gelu", "accumulate"),
    *("window", "documents", "head_dim", "value_head_dim", "dtype", "stack", "block"),
    *("direction", "pinned"),
)
_HOST_IMPLS: Final = {"hf-compile": "host-compile", "cuda": "native"}

_THROUGH_PYTHON: Final = frozenset({"torch", "flash", "inductor", "host", "host-compile"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What to measure.

    Attributes:
        operator: Shape and kind.
        cache: ``cold`` or ``warm``.
        sustained_seconds: Shortest load of the sustained regime; 0 is the burst regime.
        tier: Importance; lower tiers are measured first.
        anchor: Measured in more rounds, for the uncertainty between rounds.
    """

    operator: Operator
    cache: Cache = "cold"
    sustained_seconds: float = 0.0
    tier: int = 1
    anchor: bool = False

    @property
    def regime(self) -> Regime:
        """``sustained`` if a shortest load is given."""
        return "sustained" if self.sustained_seconds else "burst"

    @property
    def identity(self) -> tuple[Operator, Regime, Cache]:
        """What makes two points the same row of a table."""
        return self.operator, self.regime, self.cache

    @property
    def fields(self) -> dict[str, Any]:
        """The operator's fields by name."""
        return {f.name: getattr(self.operator, f.name) for f in column_fields(self.operator)}

    @property
    def arguments(self) -> dict[str, Any]:
        """What the native benchmark is given: the fields and what it must not derive anew."""
        if isinstance(self.operator, GroupedGemm):
            return self.fields | {"counts": list(self.operator.counts)}
        if isinstance(self.operator, Attention) and self.operator.documents > 1:
            return self.fields | {"document_lengths": list(self.operator.document_lengths)}
        return self.fields

    @property
    def impl(self) -> str:
        """Whose code runs: the operator's ``impl``, ``native`` where it has none, or a host."""
        if isinstance(self.operator, Host):
            return _HOST_IMPLS.get(self.operator.stack, "host")
        return str(getattr(self.operator, "impl", "native"))

    @property
    def is_native(self) -> bool:
        """Whether the native extension runs it by itself."""
        return self.impl not in _THROUGH_PYTHON

    @property
    def kind(self) -> tuple[object, ...]:
        """What tends to fail together: operator, implementation, kernel and pass, not the shape."""
        return (self.operator.name, self.impl, *(self.fields.get(name) for name in _KIND_FIELDS))

    @property
    def rounds(self) -> int:
        """Rounds wanted: a sustained load is long enough to stand alone."""
        if self.sustained_seconds:
            return 1
        return 5 if self.anchor else 3

    @property
    def round_seconds(self) -> float:
        """Loaded time of one round; memory-bound kernels settle sooner."""
        return 0.02 if isinstance(self.operator, MemoryBound) else 0.03

    @property
    def expected_seconds(self) -> float:
        """Rough seconds of one launch."""
        if isinstance(self.operator, Memcpy):
            rate = _LINK_BYTES_PER_SECOND[self.operator.direction]
            if not self.operator.pinned:
                rate = min(rate, _PAGEABLE_BYTES_PER_SECOND)
            return _LAUNCH_SECONDS + self.operator.bytes / rate
        if isinstance(self.operator, Collective):
            return _COLLECTIVE_SECONDS + self.operator.bus_bytes / _RANK_BYTES_PER_SECOND
        if isinstance(self.operator, Interference):
            return _WINDOW_SECONDS / MIN_SAMPLES
        return _LAUNCH_SECONDS + max(
            self.operator.flops / _EXPECTED_FLOPS_PER_SECOND,
            self.operator.bytes / _EXPECTED_BYTES_PER_SECOND,
        )

    @property
    def policy(self) -> dict[str, float | int]:
        """Arguments of ``SamplingPolicy``; long launches are sampled less often."""
        wanted = int(self.round_seconds / self.expected_seconds)
        policy: dict[str, float | int] = {
            "round_seconds": self.round_seconds,
            "min_samples": max(MIN_SAMPLES, min(MAX_SAMPLES_WANTED, wanted)),
            "timeout_seconds": 10.0,
        }
        if self.sustained_seconds:
            policy |= {"sustained_seconds": self.sustained_seconds, "timeout_seconds": 40.0}
        return policy

    @property
    def prepare_seconds(self) -> float:
        """Rough wall seconds to build the workload and check its result."""
        return _PREPARE_SECONDS[self.impl]

    @property
    def sampling_seconds(self) -> float:
        """Rough wall seconds of all rounds."""
        if isinstance(self.operator, Host):
            return 0.0
        loaded = max(_USED * self.round_seconds, MIN_SAMPLES * self.expected_seconds)
        if self.sustained_seconds:
            loaded = 1.5 * self.sustained_seconds
        return self.rounds * (loaded + IDLE_SECONDS)

    @property
    def cost_seconds(self) -> float:
        """Rough wall seconds of the point."""
        return self.prepare_seconds + self.sampling_seconds

    def memory_bytes(self, l2_bytes: float) -> float:
        """Rough device memory of its own that the prepared workload holds.

        Native workloads share the device's arenas; PyTorch's keep their buffer sets.
        """
        if self.is_native:
            return 0.0
        if self.cache == "warm":
            return 1.5 * self.operator.working_set_bytes
        return 2.5 * self.operator.working_set_bytes + 6 * l2_bytes
