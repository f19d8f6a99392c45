"""Optimizer points: the step over parameters of whole models and of shards."""

from predictor.bench.points import Point
from predictor.bench.sweep.tiers import ANCHOR, CORE, WIDE
from predictor.operators import Optimizer

# Elements and tensors: a shard, GPT-2, half a Llama 1B, a Llama 1B. Tensors are equal and, as a
# model's are, a multiple of the kernel's vector.
_VECTOR = 4096
_SIZES = tuple(
    (tensors * round(elements / tensors / _VECTOR) * _VECTOR, tensors)
    for elements, tensors in ((8e6, 20), (124e6, 148), (618e6, 147), (1236e6, 147))
)


def points() -> list[Point]:
    """All optimizer points, the most important first within each tier."""
    anchors = [_point(*_SIZES[2], tier=ANCHOR)]
    torch = [_point(*size, dtype=dtype) for size in _SIZES for dtype in ("bf16", "fp32")]
    native = [
        _point(elements, 1, tier=WIDE, impl="native", kernel=kernel, dtype=dtype)
        for elements, _ in _SIZES
        for kernel, dtype in (("adamw", "bf16"), ("adamw", "fp32"), ("adamw_master", "fp32"))
    ]
    lists = [
        _point(*_SIZES[size], tier=WIDE, impl="native", kernel=kernel, dtype=dtype)
        for kernel, dtype in (("adamw", "fp32"), ("adamw_master", "fp32"), ("adamw_master", "bf16"))
        for size in (3, 1, 0)
    ]
    foreach = [
        _point(*size, tier=WIDE, kernel="adamw_foreach", dtype="fp32") for size in reversed(_SIZES)
    ]
    return [*anchors, *torch, *native, *lists, *foreach]


def _point(
    elements: int,
    tensors: int,
    *,
    tier: int = CORE,
    impl: str = "torch",
    kernel: str = "adamw",
    dtype: str = "bf16",
) -> Point:
    operator = Optimizer(kernel=kernel, elements=elements, tensors=tensors, dtype=dtype, impl=impl)
    return Point(operator=operator, tier=tier, anchor=tier == ANCHOR)
