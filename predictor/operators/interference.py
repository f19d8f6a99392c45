"""Compute and a collective at once on the same GPUs: how much each slows the other down.

Both streams loop in a window in which both are always active. A pair is four rows: each side alone
and each side beside the other, measured in turns in the same rounds; a side's slowdown is the ratio
of its two rows. Covariates: the GPU's SM count (runs.toml), ``ctas``, and the bytes of both sides.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, ClassVar, Final, Literal, get_type_hints

from predictor.operators.all_gather import AllGather
from predictor.operators.all_reduce import AllReduce
from predictor.operators.all_to_all import AllToAll
from predictor.operators.attention import Attention
from predictor.operators.collective import Collective
from predictor.operators.gemm import Gemm
from predictor.operators.memory_bound import MemoryBound
from predictor.operators.reduce_scatter import ReduceScatter
from predictor.operators.send_recv import SendRecv
from predictor.values import frozen

Side = Literal["compute", "collective"]
ComputeName = Literal["gemm", "attention", "memory_bound"]
CollectiveName = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv"]
Compute = Gemm | Attention | MemoryBound

_COLLECTIVES: Final[dict[str, Callable[..., Collective]]] = {
    "all_reduce": AllReduce,
    "all_gather": AllGather,
    "reduce_scatter": ReduceScatter,
    "all_to_all": AllToAll,
    "send_recv": partial(SendRecv, pattern="both_ways"),
}
_COMPUTE: Final[dict[str, type[Compute]]] = {
    kind.name: kind for kind in (Gemm, Attention, MemoryBound)
}


@frozen(kw_only=True)
class Interference:
    """One side of a pair; seconds are those of one call of that side.

    Attributes:
        compute: Operator of the compute stream.
        shape: Its fields, those at their default left out: ``m=8192 n=8192 k=8192``.
        collective: Operator of the communication stream, with its defaults (send_recv both ways).
        bytes: Of the collective.
        ranks: Of the collective.
        ranks_per_node: Of the collective.
        dtype: Of the collective.
        nvls: NVLink SHARP may be used.
        ctas: Most thread blocks (SMs) that the collective may take; 0 is the library's choice.
        side: Whose seconds the row holds.
        concurrent: The other side ran at the same time.
    """

    name: ClassVar[str] = "interference"

    compute: ComputeName
    shape: str
    collective: CollectiveName
    bytes: int
    ranks: int
    ranks_per_node: int
    dtype: str = "bf16"
    nvls: bool = False
    ctas: int = 0
    side: Side = "compute"
    concurrent: bool = True

    @property
    def compute_operator(self) -> Compute:
        """What the compute stream launches.

        Raises:
            ValueError: ``shape`` is not that of the compute operator.
        """
        return _parsed(self.compute, self.shape)

    @property
    def collective_operator(self) -> Collective:
        """What the communication stream launches; send_recv goes both ways."""
        return _COLLECTIVES[self.collective](
            bytes=self.bytes,
            ranks=self.ranks,
            ranks_per_node=self.ranks_per_node,
            dtype=self.dtype,
            nvls=self.nvls,
        )

    @property
    def flops(self) -> float:
        """Of one compute call; none on the communication side."""
        return self.compute_operator.flops if self.side == "compute" else 0.0

    @property
    def working_set_bytes(self) -> float:
        """What both sides touch in one call each."""
        return self.compute_operator.working_set_bytes + 2.0 * self.bytes


def shape_text(operator: Compute) -> str:
    """``Interference.shape`` of a compute operator."""
    kind = type(operator)
    words = []
    for name in get_type_hints(kind):
        value = getattr(operator, name)
        spec = kind.__dataclass_fields__.get(name)
        if spec is not None and value != spec.default:
            words.append(f"{name}={value}")
    return " ".join(words)


@cache
def _parsed(compute: str, shape: str) -> Compute:
    kind = _COMPUTE[compute]
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for word in shape.split():
        name, _, text = word.partition("=")
        if name not in kind.__dataclass_fields__:
            msg = f"shape {shape!r}: {compute} has no field {name!r}"
            raise ValueError(msg)
        values[name] = (
            int(text) if hints[name] is int else text == "True" if hints[name] is bool else text
        )
    try:
        return kind(**values)
    except TypeError as error:
        msg = f"shape {shape!r} is not one of {compute}: {error}"
        raise ValueError(msg) from error
