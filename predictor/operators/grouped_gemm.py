"""One GEMM an expert, on the tokens that the router sent it: the linear layers of an MoE layer.

Row-major ``x[tokens, k]`` with the tokens of each expert together, ``w[experts, n, k]``,
``y[tokens, n]``; for each expert e with its ``t`` rows

    forward   y_e[t, n]  = x_e[t, k] · w_e[n, k]ᵀ
    dgrad     dx_e[t, k] = dy_e[t, n] · w_e[n, k]
    wgrad     dw_e[n, k] = dy_e[t, n]ᵀ · x_e[t, k]

Number formats are those of :mod:`predictor.operators.gemm`.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar, Final, Literal

from predictor.dtypes import itemsize
from predictor.operators.gemm import GemmKind, output_itemsize
from predictor.values import frozen

GroupedImpl = Literal[
    "looped", "multi_stream", "cublas_grouped", "cublaslt_grouped", "cudnn_moe", "torch"
]

MOST_SKEW: Final = 16.0
"""Beyond it one expert has everything."""

MOST_EXPERTS: Final = 65536
"""On one rank; counts are listed one by one."""

BLOCK_ROWS: Final = {"fp8": 16, "fp8_block": 16, "fp4": 32}
"""Rows that make 16 bytes of a column: libraries multiply small numbers of whole blocks alone."""


@frozen(kw_only=True)
class GroupedGemm:
    """All experts' products of one linear layer on one rank.

    Attributes:
        tokens: Rows of all experts together: routed copies of tokens that reached the rank.
        experts: Experts held by the rank.
        n: Output features of an expert.
        k: Input features.
        dtype: Type of both inputs, as ``Gemm.dtype``.
        kind: Which of the three products of a linear layer.
        skew: Exponent of the Zipf distribution of tokens over experts: the expert of rank ``r``
            gets a share that goes with ``r**-skew``. 0 is even.
        accumulate: wgrad adds into an fp32 ``dw``.
        impl: ``looped`` (a cuBLASLt product an expert, one after the other), ``multi_stream`` (the
            same over four streams, as Transformer Engine's grouped linear), ``cublas_grouped``
            (cublasGemmGroupedBatchedEx), ``cublaslt_grouped``, ``cudnn_moe``, or ``torch``
            (PyTorch's grouped_mm).
    """

    name: ClassVar[str] = "grouped_gemm"

    tokens: int
    experts: int
    n: int
    k: int
    dtype: str = "bf16"
    kind: GemmKind = "forward"
    skew: float = 0.0
    accumulate: bool = False
    impl: GroupedImpl = "looped"

    @property
    def counts(self) -> tuple[int, ...]:
        """Rows of each expert; they sum to ``tokens``, and some may be zero.

        In small formats each has whole blocks, if ``tokens`` are.
        """
        return _blocked_counts(self.tokens, self.experts, self.skew, BLOCK_ROWS.get(self.dtype, 1))

    @property
    def active_experts(self) -> int:
        """Experts with at least one row: the only ones whose weights are touched."""
        return self.experts - self.counts.count(0)

    @property
    def flops(self) -> float:
        """Multiply-adds counted as two, over the rows that there are."""
        return 2.0 * self.tokens * self.n * self.k

    @property
    def bytes(self) -> float:
        """HBM bytes if every row and every active expert's weights are touched once."""
        size, output = itemsize(self.dtype), output_itemsize(self.dtype)
        x, y = 1.0 * self.tokens * self.k, 1.0 * self.tokens * self.n
        w = 1.0 * self.active_experts * self.n * self.k
        if self.kind == "forward":
            return (x + w) * size + y * output
        if self.kind == "dgrad":
            return (y + w) * size + x * output
        return (x + y) * size + w * (8.0 if self.accumulate else output)

    @property
    def working_set_bytes(self) -> float:
        """Bytes that one launch touches."""
        return self.bytes


@lru_cache(maxsize=4096)
def _blocked_counts(tokens: int, experts: int, skew: float, block: int) -> tuple[int, ...]:
    if tokens % block:
        block = 1
    return tuple(block * count for count in token_counts(tokens // block, experts, skew))


@lru_cache(maxsize=4096)
def token_counts(tokens: int, experts: int, skew: float) -> tuple[int, ...]:
    """Whole numbers of tokens an expert, nearest to a Zipf distribution that sums to ``tokens``.

    Rounded by largest remainder (Hamilton's method). Which expert is how popular follows from the
    number of experts alone, so that the heaviest are spread over the groups and the same fields
    always give the same counts.

    Args:
        tokens: Rows to hand out, at least 0.
        experts: Number of experts, 1 to ``MOST_EXPERTS``.
        skew: Zipf exponent, 0 to ``MOST_SKEW``.

    Raises:
        ValueError: An argument is out of its range.
    """
    if tokens < 0 or not 1 <= experts <= MOST_EXPERTS or not 0.0 <= skew <= MOST_SKEW:
        msg = (
            f"tokens = {tokens}, experts = {experts}, skew = {skew}: "
            f"needs tokens >= 0, 1 <= experts <= {MOST_EXPERTS}, 0 <= skew <= {MOST_SKEW:g}"
        )
        raise ValueError(msg)
    weights = [rank**-skew for rank in range(1, experts + 1)]
    scale = tokens / sum(weights)
    counts = _largest_remainder([weight * scale for weight in weights], tokens)
    if skew > 0:
        from random import Random  # noqa: PLC0415 - for experts alone

        Random(experts).shuffle(counts)  # noqa: S311 - a fixed order, not a secret
    return tuple(counts)


def _largest_remainder(shares: Sequence[float], total: int) -> list[int]:
    counts = [int(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda i: (counts[i] - shares[i], i))
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts
