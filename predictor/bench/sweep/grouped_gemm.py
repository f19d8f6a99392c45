"""Grouped GEMM points: the expert layers of public MoE models, as expert parallelism cuts them."""

from itertools import product
from typing import Final

from predictor.bench.points import Point
from predictor.bench.sweep.tiers import ANCHOR, CORE, WIDE
from predictor.operators import GroupedGemm
from predictor.operators.gemm import GemmKind
from predictor.operators.grouped_gemm import GroupedImpl

KINDS: Final[tuple[GemmKind, ...]] = ("forward", "dgrad", "wgrad")

# Hidden size, expert feed-forward size and experts on a rank, from each model's published config.
_MODELS: Final = {
    "qwen3-30b-a3b": (2048, 768, (128, 16)),
    "mixtral-8x7b": (4096, 14336, (8, 2)),
    "deepseek-v3": (7168, 2048, (32, 8, 4)),
    "gpt-oss-120b": (2880, 2880, (128, 16)),
}
_ROWS: Final = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
_STACKS: Final[tuple[GroupedImpl, ...]] = ("multi_stream", "torch")
_OTHERS: Final[tuple[GroupedImpl, ...]] = ("looped", "cublas_grouped", "cudnn_moe")
_FLOPS_LIMIT: Final = 2.0e13
_BYTES_LIMIT: Final = 12e9
_MOST_TOKENS: Final = 65536

Layer = tuple[int, int, int]


def points() -> list[Point]:
    """All grouped GEMM points, the most important first within each tier."""
    anchors = [
        _point((32, 4096, 7168), 512, kind, impl, tier=ANCHOR)
        for kind, impl in product(KINDS, _STACKS)
    ]
    core = _design(_STACKS, every=5, tier=CORE)
    wide = [*_design(_OTHERS, every=10, tier=WIDE), *_skewed(), *_fp8(), *_accumulating()]
    probe = _point((8, 4096, 7168), 512, "forward", "cublaslt_grouped", tier=WIDE)
    return [*anchors, *core, probe, *wide]


def _layers() -> list[Layer]:
    """Experts, n and k of the fused gate and up projection and of the down projection."""
    return [
        layer
        for hidden, ffn, ranks in _MODELS.values()
        for experts in ranks
        for layer in ((experts, 2 * ffn, hidden), (experts, hidden, ffn))
    ]


def _point(
    layer: Layer, rows: int, kind: GemmKind, impl: GroupedImpl, *, tier: int, **fields: object
) -> Point:
    """``rows`` is the mean number of tokens an expert."""
    experts, n, k = layer
    operator = GroupedGemm(
        tokens=rows * experts,
        experts=experts,
        n=n,
        k=k,
        kind=kind,
        impl=impl,
        **fields,  # type: ignore[arg-type]
    )
    return Point(operator=operator, tier=tier, anchor=tier == ANCHOR)


def _design(impls: tuple[GroupedImpl, ...], *, every: int, tier: int) -> list[Point]:
    """Each layer and pass at every ``every``-th number of rows, shifted from one to the next.

    Neighbouring layers, passes and implementations so fill each other's gaps.
    """
    chosen = [
        _point(layer, rows, kind, impl, tier=tier)
        for (i, layer), (j, kind), (place, impl) in product(
            enumerate(_layers()), enumerate(KINDS), enumerate(impls)
        )
        for rows in _ROWS[(i + 3 * j + 7 * place) % every :: every]
    ]
    return [point for point in chosen if _affordable(point)]


def _affordable(point: Point) -> bool:
    operator = point.operator
    return operator.flops <= _FLOPS_LIMIT and operator.bytes <= _BYTES_LIMIT


def _skewed() -> list[Point]:
    """Mild and strong popularity: the busiest of 128 experts gets 6 and 24 times the mean."""
    layers: list[Layer] = [(128, 1536, 2048), (32, 7168, 2048), (8, 28672, 4096)]
    return [
        _point(layer, rows, kind, impl, tier=WIDE, skew=skew)
        for skew, layer, rows, kind, impl in product(
            (0.5, 1.0), layers, (128, 1024), KINDS, _STACKS
        )
    ]


def _fp8() -> list[Point]:
    """Even counts only: an fp8 product needs whole sixteens of rows."""
    layers: list[Layer] = [(16, 1536, 2048), (32, 4096, 7168), (32, 7168, 2048), (8, 28672, 4096)]
    return [
        _point(
            layer, rows, kind, "multi_stream", tier=WIDE, dtype="fp8", accumulate=kind == "wgrad"
        )
        for layer, rows, kind in product(layers, (64, 512, 4096), KINDS)
        if layer[0] * rows <= _MOST_TOKENS
    ]


def _accumulating() -> list[Point]:
    """Wgrad into fp32, as Megatron's fused gradient accumulation does."""
    layers: list[Layer] = [(16, 1536, 2048), (32, 4096, 7168), (32, 7168, 2048), (8, 4096, 14336)]
    return [
        _point(layer, rows, "wgrad", "multi_stream", tier=WIDE, accumulate=True)
        for layer, rows in product(layers, (64, 512, 2048))
    ]
