"""What a SKU's own tables lack, from the nearest measured SKU by ratios to the bound.

A borrowed cost function keeps another SKU's shares of the datasheet's rates and takes this SKU's
datasheet. Where this SKU has measured a *twin* of the operator (the forward product with the same
output and depth, the forward pass of the same attention), what its own measurement says of the twin
corrects what is borrowed:

    seconds(x) = borrowed(x) · own(twin(x)) / borrowed(twin(x))                               (21)

so only the ratio between the passes comes from elsewhere. Errors of both ways are in
docs/accuracy.md (:mod:`predictor.costs.held_out_skus`).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from predictor.case import Gpu, gpu_names, load_gpu
from predictor.costs.prediction import Floats, Origin, Prediction
from predictor.operators import Attention, Gemm, Operator
from predictor.values import frozen

TWIN_HALF_WIDTH: Final = 0.12
"""What eq. 21 adds to the half-width, in logarithms: H200's backward passes lie within 0.06 nine
times in ten by their twins and H100's ratios; twice that, as targets are of other architectures."""

ALONE_HALF_WIDTH: Final = 0.3
"""The same without a twin: A100's products lie within 0.27 from H100's shares nine times in ten,
H200's memory-bound kernels within 0.29."""


STEP: Final = 64
"""Tokens that a weight's gradient adds up at a time."""

TRANSFERRED_FAMILIES: Final = ("gemm", "attention", "memory_bound", "optimizer", "memcpy")
"""What is bound by rates of one GPU; collectives have the fabric's own model."""


def twin(operator: Operator) -> Operator | None:
    """The forward operator of the same work that a thin table is likely to hold; None if none."""
    if isinstance(operator, Gemm):
        m, n, k = forward_sizes(operator.kind, operator.m, operator.n, operator.k)
        return Gemm(m=m, n=n, k=k, dtype=operator.dtype)
    if isinstance(operator, Attention):
        return replace(operator, kind="forward")
    return None


def forward_sizes(kind: Any, m: Any, n: Any, k: Any) -> tuple[Any, Any, Any]:  # noqa: ANN401
    """``m, n, k`` of the forward product with the output and the depth of another kind.

    Works on single values and on arrays: dgrad makes ``m × k`` over ``n``, wgrad ``n × k`` over
    ``m``, whose steps are whole: no operand of wgrad is contiguous along ``m``, so tokens off 16
    bytes cost it nothing, and both operands of a forward product would be.
    """
    dgrad, wgrad = np.asarray(kind) == "dgrad", np.asarray(kind) == "wgrad"
    sizes = (
        np.where(wgrad, n, m),
        np.where(dgrad | wgrad, k, n),
        np.where(wgrad, -(-m // STEP) * STEP, np.where(dgrad, n, k)),
    )
    if np.ndim(sizes[0]):
        return sizes
    return int(sizes[0]), int(sizes[1]), int(sizes[2])


@frozen
class Correction:
    """Logarithm of eq. 21's last factor for each operator, and where it is known.

    Attributes:
        log_factor: Zero where no twin was measured.
        by_twin: A twin was.
    """

    log_factor: Floats
    by_twin: NDArray[np.bool_]


def corrected_by_twins(
    operators: Sequence[Operator],
    knows: Callable[[Sequence[Operator]], NDArray[np.bool_]],
    own: Callable[[Sequence[Operator]], Prediction],
    other: Callable[[Sequence[Operator]], Prediction],
) -> Correction:
    """What a SKU's own measurements say of the operators' twins.

    Args:
        operators: Of one family.
        knows: Whether the SKU measured anything like them.
        own: Its cost function.
        other: The borrowed one.
    """
    factor, by_twin = np.zeros(len(operators)), np.zeros(len(operators), dtype=bool)
    twins = {at: found for at, op in enumerate(operators) if (found := twin(op)) is not None}
    known = knows(list(twins.values())) if twins else ()
    at = [place for place, take in zip(twins, known, strict=True) if take]
    if at:
        chosen = [twins[place] for place in at]
        factor[at] = np.log(own(chosen).seconds / other(chosen).seconds)
        by_twin[at] = True
    return Correction(factor, by_twin)


def transferred(borrowed: Prediction, correction: Correction, origin: Origin) -> Prediction:
    """Eq. 21 with its interval: a twin narrows what borrowing alone had added."""
    seconds = borrowed.seconds * np.exp(correction.log_factor)
    own = np.where(correction.by_twin, TWIN_HALF_WIDTH, ALONE_HALF_WIDTH)
    spread = np.log(borrowed.high / borrowed.seconds) ** 2 - ALONE_HALF_WIDTH**2
    half = np.sqrt(np.maximum(spread, 0.0) + own**2)
    low, high = seconds * np.exp(-half), seconds * np.exp(half)
    return Prediction(seconds, low, high, np.full(len(seconds), origin.value))


def without_twin(seconds: Floats, borrowed: Prediction, origin: Origin) -> Prediction:
    """Seconds that follow from a prediction of others: its interval, and what borrowing adds."""
    half = np.hypot(np.log(borrowed.high / borrowed.seconds), ALONE_HALF_WIDTH)
    factor = np.exp(half)
    return Prediction(
        seconds, seconds / factor, seconds * factor, np.full(len(seconds), origin.value)
    )


def nearest_measured(
    gpu: Gpu, folder: Path, *, fit_file: str, excluded: Sequence[str]
) -> str | None:
    """SKU that has measured a family which ``gpu`` lacks: of its generation, chip and balance.

    A chip is known by its compute capability: 10.3 takes half as long over exponentials as 10.0,
    and attention is bound by them. Balance is flops over bytes of the datasheet: kernels of two
    GPUs are bound alike where it is.
    """
    lacking = [
        name for name in TRANSFERRED_FAMILIES if not (folder / gpu.sku / f"{name}.csv").is_file()
    ]
    if not lacking:
        return None
    found = []
    for sku in gpu_names():
        has = any((folder / sku / f"{name}.csv").is_file() for name in lacking)
        if sku in excluded or not has or not (folder / sku / fit_file).is_file():
            continue
        other = load_gpu(sku)
        apart = abs(log(_balance(other) / _balance(gpu)))
        strange = other.compute_capability != gpu.compute_capability
        found.append((other.generation != gpu.generation, strange, apart, sku))
    return min(found)[-1] if found else None


def _balance(gpu: Gpu) -> float:
    return gpu.peak_flops_per_second["bf16"] / gpu.memory_bytes_per_second
