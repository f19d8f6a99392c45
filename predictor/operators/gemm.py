"""Dense matrix multiply of one rank, after every sharding.

Row-major ``x[m, k]`` (activations), ``w[n, k]`` (weights), ``y[m, n]``:

    forward   y[m, n]  = x[m, k] · w[n, k]ᵀ
    dgrad     dx[m, k] = dy[m, n] · w[n, k]
    wgrad     dw[n, k] = dy[m, n]ᵀ · x[m, k]

All three cost ``2·m·n·k`` flops; they differ in which index is reduced and so in tiles and waves.

``tf32`` reads and writes fp32. ``fp8`` multiplies e4m3 activations and weights forward and e5m2
gradients by e4m3 in dgrad and wgrad, each operand with one fp32 scale, into bf16 (or an fp32
``dw``). ``fp4`` is NVFP4: four bits and an 8-bit scale for sixteen numbers. Hopper's fp8 products
need both operands contiguous along the reduced index, so dgrad and wgrad read transposed copies;
the transposes are kernels of their own (Transformer Engine's recipe). ``fp8_block`` has a scale for
every 128 numbers of a row, or 128 x 128 of a weight, which Hopper's CUDA cores apply.
"""

from typing import ClassVar, Final, Literal

from predictor.dtypes import itemsize
from predictor.values import frozen

GemmKind = Literal["forward", "dgrad", "wgrad"]
Filling = Literal["normal", "uniform", "zeros"]

FP4_BYTES: Final = 0.5 + 1.0 / 16.0
"""Of a number in NVFP4, with its share of a scale."""


def output_itemsize(dtype: str) -> int:
    """Bytes of one element of a product of ``dtype`` operands: those of 8 and 4 bits are bf16."""
    return itemsize("bf16" if dtype in {"fp8", "fp8_block", "fp4"} else dtype)


def operand_itemsize(dtype: str) -> float:
    """Bytes of one element of an operand, block scales included."""
    return FP4_BYTES if dtype == "fp4" else itemsize(dtype)


@frozen(kw_only=True)
class Gemm:
    """One GEMM call.

    Attributes:
        m: Rows of the activation: tokens held by the rank.
        n: Output features held by the rank.
        k: Input features held by the rank.
        dtype: ``bf16``, ``fp16``, ``tf32``, ``fp8``, ``fp8_block`` or ``fp4``: both inputs;
            accumulation is fp32.
        kind: Which of the three products of a linear layer.
        api: Library entry point that the framework calls.
        algorithm: ``heuristic`` is the library's first choice, ``best`` the fastest of several.
        accumulate: wgrad adds into an fp32 ``dw`` (Megatron's gradient accumulation fusion).
        bias: The forward product adds a bias vector in its epilogue.
        gelu: The forward product applies GELU (tanh form) last in its epilogue and also writes what
            it was applied to, which the backward pass needs.
        fill: What the operands hold. Products of normal numbers draw the power that training does;
            the others only show how much the data matter and are no part of a fit.
    """

    name: ClassVar[str] = "gemm"

    m: int
    n: int
    k: int
    dtype: str = "bf16"
    kind: GemmKind = "forward"
    api: str = "cublas"
    algorithm: str = "heuristic"
    accumulate: bool = False
    bias: bool = False
    gelu: bool = False
    fill: Filling = "normal"

    @property
    def flops(self) -> float:
        """Multiply-adds counted as two (Megatron-LM, arXiv:2104.04473, appendix)."""
        return 2.0 * self.m * self.n * self.k

    @property
    def bytes(self) -> float:
        """HBM bytes if every operand is read or written once.

        An fp32 ``dw`` is read and written; GELU's argument is written beside ``y``.
        """
        size = operand_itemsize(self.dtype)
        x, w, y = self.m * self.k * 1.0, self.n * self.k * 1.0, self.m * self.n * 1.0
        if self.accumulate:
            return (x + y) * size + w * 8.0
        inputs = {"forward": x + w, "dgrad": y + w, "wgrad": y + x}[self.kind]
        outputs = x + w + y - inputs + (y if self.gelu else 0.0)
        return inputs * size + outputs * output_itemsize(self.dtype)

    @property
    def working_set_bytes(self) -> float:
        """Bytes that one launch touches."""
        return self.bytes
