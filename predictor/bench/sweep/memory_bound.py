"""Memory-bound points: every kernel over its range of sizes, cold and warm."""

from typing import Final

from predictor.bench.points import Point
from predictor.bench.sweep.tiers import (
    ANCHOR,
    BETWEEN,
    COMPILED,
    CORE,
    FINGERPRINT,
    SUSTAINED,
    WIDE,
)
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
_INDUCTOR_WARM: Final = (16, 40)
_CORE_SIZES: Final = (64, 256)

# Of every kernel that needs no compiling, what a short run measures: bandwidth, launch, the bend
# between them, and where bandwidth is flat. Four sizes of each kernel tell a fit more than as many
# spread over all of them.
_FINGERPRINT_COLD: Final = (256, 4, 24, 1000)
_THIN_FINGERPRINT_COLD: Final = (400, 4, 24, 800)

# Between those, so that every kernel has nine sizes and more: the bend from launch to bandwidth,
# cold, and both sides of L2, warm.
_BETWEEN_COLD: Final = (2, 8, 24, 128)
_THIN_BETWEEN_COLD: Final = (1, 12, 24, 128, 800)
_BETWEEN_WARM: Final = (2, 12, 36, 64)

# Trailing extent: hidden size, or what the kernel walks instead.
_HIDDEN: Final = 2048
_COLS: Final = {
    "cross_entropy": 128256,
    "cross_entropy_backward": 128256,
    "log_softmax_fp32": 128256,
    "log_softmax_backward_fp32": 128256,
    "silu_mul": 8192,
    "silu_mul_backward": 8192,
    "silu_mul_halves": 8192,
    "silu_mul_halves_backward": 8192,
    "gelu": 3072,
    "gelu_backward": 3072,
    "cat": 2304,
    "layer_norm": 768,
    "layer_norm_backward": 768,
    "add_layer_norm": 768,
    "bias_gelu": 3072,
    "bias_gelu_backward": 3072,
    "cross_entropy_fp32": 32064,
    "cross_entropy_backward_fp32": 32064,
    "vocab_max": 32064,
    "vocab_exp": 32064,
    "vocab_gradient": 32064,
    "nll_loss_backward_fp32": 128256,
    "softmax_fp32": 128,
    "sigmoid_fp32": 128,
    "topk_fp32": 128,
    "gather_fp32": 128,
    "scatter_fp32": 128,
    "router_top_k": 128,
    "sort_int64": 1,
    "cumsum_int64": 128,
}
_HEAD_KERNELS: Final = frozenset(
    {"rotary", "rotary_backward", "repeat_heads", "sum_heads"}
    | {name for name in KERNELS["torch"] if name.startswith("rope_")}
)
_HEAD_DIM: Final = 64
_ROW_STEP: Final = 512

# Kernels of other stacks, or of few launches a step: three sizes tell their launch and bandwidth.
_THIN: Final = {
    "native": frozenset(
        {
            *("zero", "scale", "scale_fp32", "dropout", "dropout_backward", "bias_dropout_add"),
            *("bias_gelu", "bias_gelu_backward", "silu_mul_probs", "silu_mul_probs_backward"),
            *("transpose", "transpose_fp8", "amax", "cast_fp8", "cast_transpose_fp8"),
            *("softmax", "softmax_backward", "softmax_causal", "softmax_causal_backward"),
            *("cross_entropy_fp32", "cross_entropy_backward_fp32"),
            *("vocab_max", "vocab_exp", "vocab_gradient", "square_sum", "square_sum_fp32"),
            *("router_top_k", "permute_top2", "permute_top8", "unpermute_top2", "unpermute_top8"),
        }
    ),
    "torch": frozenset(
        {
            *("gelu", "gelu_backward", "rms_norm", "rms_norm_backward", "dropout"),
            *("dropout_backward", "softmax", "softmax_backward", "softmax_fp32", "masked_fill"),
            *("accumulate_fp32", "transpose", "cast_fp8", "abs", "amax_fp32", "exp_fp32"),
            *("sub_rows_fp32", "sigmoid_fp32", "mul_rows", "index_select", "index_add"),
            *("gather_fp32", "scatter_fp32", "topk_fp32", "sort_int64", "cumsum_int64"),
            *("nll_loss_backward_fp32", "foreach_norm", "foreach_mul", "zero"),
        }
    ),
}
_THIN_COLD: Final = (4, 64, 400)
_THIN_WARM: Final = (24,)
# Where the output of one kernel is the next one's input.
_THIN_WARM_KERNELS: Final = frozenset(
    {
        *("dropout", "bias_dropout_add", "bias_gelu", "silu_mul_probs", "cast_fp8"),
        *("cast_transpose_fp8", "transpose_fp8", "amax", "permute_top8", "unpermute_top8"),
        *("gelu", "rms_norm", "mul_rows", "accumulate_fp32"),
    }
)
# Rows and columns of real models for kernels that most layers launch.
_HIDDEN_SIZES: Final = (768, 4096, 8192, 1600, 5120, 16384, 3072, 12288, 1024, 6144)
_FFN_SIZES: Final = (3072, 14336, 28672, 11008, 2048, 25600, 8192, 18432)
_VOCABULARIES: Final = (32000, 50304, 151936, 202048, 100352)
_FEW_AND_MANY_ROWS: Final = (2048, 32, 8192, 256, 1, 16384, 512, 4096, 8, 1024)
_OF_MODELS: Final = {
    "native": {
        _HIDDEN_SIZES: (
            *("rms_norm", "rms_norm_backward", "layer_norm", "layer_norm_backward"),
            *("residual_add", "bias_dropout_add", "embedding"),
        ),
        _FFN_SIZES: ("silu_mul", "silu_mul_backward", "gelu", "gelu_backward"),
        _VOCABULARIES: ("cross_entropy", "cross_entropy_backward"),
    },
    "torch": {
        _HIDDEN_SIZES: ("add", "mul_rows_fp32", "mean_fp32", "cast_up"),
        _FFN_SIZES: ("silu", "mul"),
    },
}
_SHAPES_EACH: Final = {"native": 3, "torch": 1}

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
        *_fingerprint(),
        *_grid("torch", _CORE_SIZES, tier=CORE),
        *_grid("native", _CORE_SIZES[1:], tier=CORE),
        *_grid("torch", _TORCH_WARM[2::2], tier=CORE, warm=True),
        *_of_models(),
        *_thin("native"),
        *_thin("torch"),
        *_other_cols(),
        *_grid("torch", _TORCH_COLD, tier=WIDE),
        *_grid("native", _NATIVE_COLD, tier=WIDE),
        *_grid("torch", _TORCH_WARM, tier=WIDE, warm=True),
        *_grid("native", _NATIVE_WARM, tier=WIDE, warm=True),
        *_sustained(),
        *_grid("inductor", _INDUCTOR_COLD, tier=COMPILED),
        *_grid("inductor", _INDUCTOR_WARM, tier=WIDE, warm=True),
        *_between(),
    ]


def _fingerprint() -> list[Point]:
    """Four sizes of every kernel, one size after the other."""
    grids = zip(_FINGERPRINT_COLD, _THIN_FINGERPRINT_COLD, strict=True)
    sizes = {
        wide: [
            *(point for impl in _THIN for point in _grid(impl, (wide,), tier=FINGERPRINT)),
            *(point for impl in _THIN for point in _thin(impl, (thin,), (), tier=FINGERPRINT)),
        ]
        for wide, thin in grids
    }
    return [point for size in sizes.values() for point in size]


def cols_of(kernel: str) -> int:
    """Trailing extent at which a kernel is measured."""
    return _HEAD_DIM if kernel in _HEAD_KERNELS else _COLS.get(kernel, _HIDDEN)


def _grid(impl: str, megabytes: tuple[int, ...], *, tier: int, warm: bool = False) -> list[Point]:
    return [
        _point(impl, kernel, size, tier=tier, warm=warm)
        for size in megabytes
        for kernel in KERNELS[impl]
        if kernel not in _THIN.get(impl, ())
    ]


def _thin(
    impl: str,
    cold: tuple[int, ...] = _THIN_COLD,
    warm: tuple[int, ...] = _THIN_WARM,
    *,
    tier: int = WIDE,
) -> list[Point]:
    kernels = [kernel for kernel in KERNELS[impl] if kernel in _THIN[impl]]
    reused = [kernel for kernel in kernels if kernel in _THIN_WARM_KERNELS]
    return [
        *(_point(impl, kernel, size, tier=tier) for size in cold for kernel in kernels),
        *(_point(impl, name, size, tier=tier, warm=True) for size in warm for name in reused),
    ]


def _between() -> list[Point]:
    """Sizes between those of the other tiers."""
    impls = ("native", "torch")
    cold = [point for impl in impls for point in _grid(impl, _BETWEEN_COLD, tier=BETWEEN)]
    thin = [point for impl in impls for point in _thin(impl, _THIN_BETWEEN_COLD, (), tier=BETWEEN)]
    warm = _grid("native", _BETWEEN_WARM, tier=BETWEEN, warm=True)
    warm += [p for impl in impls for p in _thin(impl, (), _BETWEEN_WARM, tier=BETWEEN)]
    return [*cold, *thin, *warm]


def _of_models() -> list[Point]:
    """Each kernel on a few pairs of rows and columns; neighbours in the list get other pairs."""
    points = []
    for impl, groups in _OF_MODELS.items():
        for widths, kernels in groups.items():
            for i, kernel in enumerate(kernels * _SHAPES_EACH[impl]):
                rows = _FEW_AND_MANY_ROWS[(3 * i) % len(_FEW_AND_MANY_ROWS)]
                cols = widths[i % len(widths)]
                points.append(
                    Point(
                        operator=MemoryBound(kernel=kernel, rows=rows, cols=cols, impl=impl),
                        tier=WIDE,
                    )
                )
    return points


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
