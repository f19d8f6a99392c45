"""Pairs of compute and collective: each side alone and beside the other."""

from typing import Final, get_args

from predictor.bench.points import Point
from predictor.bench.sweep.tiers import CORE, WIDE
from predictor.operators import Attention, Gemm, Interference, MemoryBound
from predictor.operators.interference import (
    CollectiveName,
    Compute,
    ComputeName,
    Side,
    shape_text,
)

_MIB: Final = 1 << 20
_COMPUTE: Final[tuple[tuple[ComputeName, Compute], ...]] = (
    ("gemm", Gemm(m=8192, n=4096, k=4096)),
    ("gemm", Gemm(m=4096, n=14336, k=4096)),
    (
        "attention",
        Attention(batch=2, num_heads=32, num_query_groups=8, seq_length=4096, head_dim=128),
    ),
    ("memory_bound", MemoryBound(kernel="rms_norm", rows=16384, cols=4096)),
)
_COLLECTIVES: Final[tuple[CollectiveName, ...]] = get_args(CollectiveName)
_SIZES: Final = (16 * _MIB, 128 * _MIB)
_CAPPED_COLLECTIVES: Final[tuple[CollectiveName, ...]] = ("all_gather", "reduce_scatter")
_CAPPED: Final = 8
"""Thread blocks that a collective is held to, to see what its SMs cost the compute side."""


def points(*, gpus: int, gpus_per_node: int, nvls: bool) -> list[Point]:
    """All pairs on all GPUs, the four rows of a pair together."""
    if gpus < 2:  # noqa: PLR2004 - one rank alone sends nothing
        return []

    def pair(
        compute: tuple[ComputeName, Compute],
        collective: CollectiveName,
        size: int,
        *,
        tier: int,
        ctas: int = 0,
    ) -> list[Point]:
        return [
            Point(
                operator=Interference(
                    compute=compute[0],
                    shape=shape_text(compute[1]),
                    collective=collective,
                    bytes=size,
                    ranks=gpus,
                    ranks_per_node=min(gpus, gpus_per_node),
                    nvls=nvls,
                    ctas=ctas,
                    side=side,
                    concurrent=concurrent,
                ),
                tier=tier,
            )
            for side in get_args(Side)
            for concurrent in (False, True)
            if collective != "send_recv" or gpus == 2  # noqa: PLR2004 - one message, one pair
        ]

    found = []
    for compute in _COMPUTE:
        for collective in _COLLECTIVES:
            for size in _SIZES:
                first = compute is not _COMPUTE[1] and size == _SIZES[0]
                found += pair(compute, collective, size, tier=CORE if first else WIDE)
    for capped in _CAPPED_COLLECTIVES:
        found += pair(_COMPUTE[0], capped, _SIZES[-1], tier=WIDE, ctas=_CAPPED)
    return sorted(found, key=lambda point: point.tier)
