"""Memory-bound points: every kernel over its range of sizes, cold and warm."""

from typing import Final

from predictor.bench.points import Point
from predictor.bench.sweep.tiers import ANCHOR, COMPILED, CORE, SUSTAINED, WIDE
from predictor.operators import KERNELS, MemoryBound

MEGABYTE: Final = 1e6

# Megabytes moved by one launch, beside those of the core tier: from where a launch costs as much as
# its bytes to where bandwidth is flat; warm sizes are dense around L2's and stop where nothing can
# stay in it.
_NATIVE_COLD: Final = (4, 16, 1000)
_NATIVE_WARM: Final = (4, 24, 50, 100)
_TORCH_COLD: Final = (1, 4, 16, 32, 1000)
_TORCH_WARM: Final = (4, 12, 24, 36, 50, 70, 100, 150)
_INDUCTOR_COLD: Final = (16, 100, 600)
_CORE_SIZES: Final = (64, 256)

# Trailing extent: hidden size, or what the kernel walks instead.
_HIDDEN: Final = 2048
_COLS: Final = {
    "cross_entropy": 128256,
    "cross_entropy_backward": 128256,
    "log_softmax_fp32": 128256,
    "log_softmax_backward_fp32": 128256,
    "silu_mul": 8192,
    "silu_mul_backward": 8192,
    "gelu": 3072,
    "gelu_backward": 3072,
    "cat": 2304,
    "layer_norm": 768,
    "layer_norm_backward": 768,
    "add_layer_norm": 768,
}
_HEAD_KERNELS: Final = frozenset(
    {"rotary", "rotary_backward", "repeat_heads", "sum_heads"}
    | {name for name in KERNELS["torch"] if name.startswith("rope_")}
)
_HEAD_DIM: Final = 64
_ROW_STEP: Final = 512

# Other trailing extents that models have: head widths of query-key norms, hidden sizes, a small
# vocabulary. Reductions and broadcasts depend on them, elementwise kernels do not.
_OTHER_COLS: Final = {
    "mean_fp32": (128, 4096),
    "sum_fp32": (128, 4096),
    "mul_rows_fp32": (128, 4096),
    "mul_weight": (128, 4096),
    "sum_rows": (128, 768, 4096, 8192),
    "layer_norm": (1024, 1600),
    "layer_norm_backward": (1024, 1600),
    "log_softmax_fp32": (50304,),
    "log_softmax_backward_fp32": (50304,),
    "embedding_backward": (768, 4096),
    "rope_mul": (128,),
    "rope_add": (128,),
    "rope_cat": (128,),
}
_OTHER_SIZES: Final = (24, 128)

_ANCHORS: Final = (
    ("native", "rms_norm"),
    ("native", "copy"),
    ("native", "silu_mul"),
    ("native", "rms_norm_backward"),
    ("torch", "add"),
    ("torch", "mul_rows_fp32"),
    ("torch", "rope_add"),
    ("torch", "cast_up"),
    ("torch", "log_softmax_fp32"),
)


def points() -> list[Point]:
    """All memory-bound points, the most important first within each tier."""
    anchors = [_point(impl, kernel, 64, tier=ANCHOR) for impl, kernel in _ANCHORS]
    return [
        *anchors,
        *_grid("torch", _CORE_SIZES, tier=CORE),
        *_grid("native", _CORE_SIZES[1:], tier=CORE),
        *_grid("torch", _TORCH_WARM[2::2], tier=CORE, warm=True),
        *_other_cols(),
        *_grid("torch", _TORCH_COLD, tier=WIDE),
        *_grid("native", _NATIVE_COLD, tier=WIDE),
        *_grid("torch", _TORCH_WARM, tier=WIDE, warm=True),
        *_grid("native", _NATIVE_WARM, tier=WIDE, warm=True),
        *_sustained(),
        *_grid("inductor", _INDUCTOR_COLD, tier=COMPILED),
    ]


def cols_of(kernel: str) -> int:
    """Trailing extent at which a kernel is measured."""
    return _HEAD_DIM if kernel in _HEAD_KERNELS else _COLS.get(kernel, _HIDDEN)


def _grid(impl: str, megabytes: tuple[int, ...], *, tier: int, warm: bool = False) -> list[Point]:
    return [
        _point(impl, kernel, size, tier=tier, warm=warm)
        for size in megabytes
        for kernel in KERNELS[impl]
    ]


def _other_cols() -> list[Point]:
    return [
        _point("torch", kernel, size, tier=WIDE, cols=cols)
        for size in _OTHER_SIZES
        for kernel, widths in _OTHER_COLS.items()
        for cols in widths
    ]


def _point(
    impl: str, kernel: str, megabytes: float, *, tier: int, warm: bool = False, cols: int = 0
) -> Point:
    traffic = KERNELS[impl][kernel]
    cols = cols or cols_of(kernel)
    per_row = cols * (traffic.read_bytes + traffic.written_bytes)
    rows = megabytes * MEGABYTE / per_row
    step = _ROW_STEP if rows > _ROW_STEP else 8
    return Point(
        operator=MemoryBound(
            kernel=kernel, rows=max(step, round(rows / step) * step), cols=cols, impl=impl
        ),
        cache="warm" if warm else "cold",
        tier=tier,
        anchor=tier == ANCHOR,
    )


def _sustained() -> list[Point]:
    return [
        Point(
            operator=MemoryBound(kernel=kernel, rows=65536, cols=_HIDDEN),
            sustained_seconds=3.0,
            tier=SUSTAINED,
        )
        for kernel in ("copy", "rms_norm")
    ]
