"""Streaming kernels of a GPU that nobody measured, from two GPUs that differ in their balance.

A kernel that only moves and touches data is held up by memory or by the multiprocessors that issue
its instructions. Its share of the memory's rate on one GPU does not tell which; two GPUs do, if one
has more bandwidth for each multiprocessor and clock than the other:

    seconds = a / bandwidth + b / (multiprocessors · clock),   a, b ≥ 0                       (24)

is solved for ``a`` and ``b`` from what both take, and a third GPU's rates are put in. A kernel that
takes as long on both is all ``b``; one that takes as much less as there is more bandwidth, all
``a``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from predictor.case import Gpu, gpu_names, load_gpu
from predictor.costs.prediction import Floats, Prediction
from predictor.operators import Operator

STREAMING_FAMILIES: Final = ("memory_bound", "optimizer")
"""What has no other rate to be bound by."""

APART: Final = 1.2
"""Two SKUs tell the terms apart if their bandwidths for a multiprocessor's clock differ by this."""

BEYOND: Final = 1.05
"""A GPU of more bandwidth for a multiprocessor's clock than both, by this and more, has fused
kernels written or compiled anew for it: instructions that held one up elsewhere say nothing of it.
PyTorch's eager kernels are the same source there (ATen's ``native/cuda/Loops.cuh``)."""

STAND_INS: Final = frozenset({"cast_fp8"})
"""PyTorch's kernels that are timed for a fused one of Transformer Engine."""


FP32_FLOPS_A_CLOCK: Final = 256.0
"""Of a multiprocessor since A100's successors: 128 multiply-adds (H100, B200 whitepapers)."""


def issue_rate(gpu: Gpu) -> float:
    """Multiprocessors times clock, per second; where a datasheet is silent, by its fp32 rate."""
    if gpu.sm_count and gpu.boost_clock_hz:
        return float(gpu.sm_count * gpu.boost_clock_hz)
    return gpu.peak_flops_per_second["fp32"] / FP32_FLOPS_A_CLOCK


def between(gpu: Gpu, one: tuple[Gpu, Prediction], other: tuple[Gpu, Prediction]) -> Prediction:
    """Eq. 24 with the wider of the two intervals; origin is that of the first."""
    (less, slow), (more, fast) = sorted(
        (one, other), key=lambda pair: pair[0].memory_bytes_per_second / issue_rate(pair[0])
    )
    inverse = [
        (1.0 / each.memory_bytes_per_second, 1.0 / issue_rate(each)) for each in (less, more, gpu)
    ]
    (u1, v1), (u2, v2), (u, v) = inverse
    a = (slow.seconds * v2 - fast.seconds * v1) / (u1 * v2 - u2 * v1)
    a = np.clip(a, 0.0, fast.seconds / u2)
    b = (fast.seconds - a * u2) / v2
    seconds: Floats = a * u + b * v
    half = np.maximum(*(np.log(each.high / each.seconds) for each in (slow, fast)))
    low, high = seconds * np.exp(-half), seconds * np.exp(half)
    return Prediction(seconds, low, high, one[1].origin)


def telling_pair(
    gpu: Gpu, folder: Path, *, fit_file: str, excluded: tuple[str, ...]
) -> tuple[str, str] | None:
    """Two measured SKUs that tell eq. 24's terms apart; None where they cannot be had.

    Of several, those whose balance is nearest to the GPU's.
    """
    if (folder / gpu.sku / f"{STREAMING_FAMILIES[0]}.csv").is_file():
        return None
    wanted = _balance(gpu)
    measured = [
        (abs(np.log(_balance(load_gpu(sku)) / wanted)), sku)
        for sku in gpu_names()
        if sku not in excluded
        and (folder / sku / fit_file).is_file()
        and all((folder / sku / f"{name}.csv").is_file() for name in STREAMING_FAMILIES)
    ]
    for _, first in sorted(measured):
        for _, second in sorted(measured):
            apart = _balance(load_gpu(first)) / _balance(load_gpu(second))
            if max(apart, 1.0 / apart) >= APART:
                return first, second
    return None


def told(gpu: Gpu, one: Gpu, other: Gpu, operators: Sequence[Operator]) -> NDArray[np.bool_]:
    """Whether two SKUs tell what each kernel takes on a GPU: all, or PyTorch's eager ones alone."""
    within = _balance(gpu) <= BEYOND * max(_balance(one), _balance(other))
    return np.array([within or _eager(each) for each in operators])


def _eager(kernel: Operator) -> bool:
    named = getattr(kernel, "kernel", "")
    return getattr(kernel, "impl", "") == "torch" and named not in STAND_INS


def _balance(gpu: Gpu) -> float:
    return gpu.memory_bytes_per_second / issue_rate(gpu)
