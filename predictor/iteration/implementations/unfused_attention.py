"""Attention before flash attention: all scores are computed, kept and read again.

Source: NVIDIA/Megatron-LM v2.6 (2021-08) and main of 2022-09, ``model/transformer.py`` and
``model/fused_softmax.py``: two batched products around a fused scaled, masked softmax and a dropout
of its scores.

A batched product of ``B`` heads is priced as one product with ``B`` times the rows: the same tiles,
flops and scores read and written; the ``B`` small operands count once, 2·s·d of 2·s·(s + 2d) bytes
a head.
"""

from predictor.iteration.implementations import eager_blocks as eager
from predictor.iteration.implementations.te_blocks import fused
from predictor.iteration.launches import Tape
from predictor.iteration.layer import Layer
from predictor.iteration.step import StepShape
from predictor.operators import Gemm

FUSED_SOFTMAX_LONGEST = 2048
"""Longest sequence of ``scaled_upper_triang_masked_softmax.h``."""

FUSED_SOFTMAX_MULTIPLE = 4
"""Heads of a micro-batch on a rank must divide by this, or its softmax runs unfused
(``fused_softmax.py``, ``is_kernel_available``)."""


def forward(tape: Tape, shape: StepShape, layer: Layer, *, alibi: bool, dropout: bool) -> None:
    """Scores, their softmax and dropout, and what they weigh."""
    s, d = shape.seq_length, layer.head_dim
    rows = shape.batch * layer.heads * s
    if alibi:
        tape.run(eager.kernel("fill", rows, s))
    tape.run(_batched(rows, s, d))
    _softmax_forward(tape, rows, s)
    if dropout:
        tape.fresh(fused("dropout", rows, s))
    tape.run(_batched(rows, d, s))


def backward(tape: Tape, shape: StepShape, layer: Layer, *, dropout: bool) -> None:
    """Gradients of the values, the probabilities, the scores, the queries and the keys."""
    s, d = shape.seq_length, layer.head_dim
    rows = shape.batch * layer.heads * s
    tape.run(_batched(rows, s, d))
    tape.run(_batched(rows, d, s))
    if dropout:
        tape.run(fused("dropout_backward", rows, s))
    _softmax_backward(tape, rows, s)
    tape.run(_batched(rows, d, s))
    tape.run(_batched(rows, d, s))


def _batched(rows: int, out: int, into: int) -> Gemm:
    """A product for every head and sequence, their rows one above the other."""
    return Gemm(m=rows, n=out, k=into)


def _softmax_is_fused(rows: int, s: int) -> bool:
    """Whether the fused kernel takes so many rows of so many scores."""
    return s <= FUSED_SOFTMAX_LONGEST and rows // s % FUSED_SOFTMAX_MULTIPLE == 0


def _softmax_forward(tape: Tape, rows: int, s: int) -> None:
    """One kernel, or five in fp32 where the fused one does not take the scores."""
    if _softmax_is_fused(rows, s):
        tape.fresh(fused("softmax_causal", rows, s))
        return
    tape.fresh(fused("cast_up", rows, s))
    tape.fresh(eager.kernel("mul_scalar_fp32", rows, s))
    tape.fresh(eager.kernel("mul_scalar_fp32", rows, s))  # the mask: a byte a number more
    tape.fresh(eager.kernel("softmax_fp32", rows, s))
    tape.fresh(fused("cast_down", rows, s))


def _softmax_backward(tape: Tape, rows: int, s: int) -> None:
    if _softmax_is_fused(rows, s):
        tape.fresh(fused("softmax_causal_backward", rows, s))
        return
    tape.fresh(fused("cast_up", rows, s))
    tape.fresh(eager.kernel("mul_fp32", rows, s))
    tape.fresh(eager.kernel("mul_scalar_fp32", rows, s))
    tape.fresh(eager.kernel("mul_scalar_fp32", rows, s))
    tape.fresh(fused("cast_down", rows, s))
