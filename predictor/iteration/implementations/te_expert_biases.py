"""What experts with biases launch beside their products: eager kernels around fused ones.

Read in Megatron-Core 0.14 to 0.19, ``transformer/moe/experts.py``, ``fusions/fused_bias_geglu.py``,
and traced with 0.18 on an H100. The one published model with such experts, GPT-OSS, clamps what
enters its activation: both halves of the first product are cut by themselves and put together again
before the fused activation. The first product's bias is in its epilogue. The second's is added
expert by expert, times the router's probability in fp32, and the pieces are put together, in fp32
until the last cast.

A half of a row is not contiguous: kernels over it take what PyTorch's strided ones do.

NeMo AutoModel (2025-10, ``moe/layers.py``) clamps inside its compiled activation and adds the first
bias as it does the second, without a probability.
"""

from predictor.iteration.implementations import eager_blocks as eager
from predictor.iteration.launches import Tape
from predictor.iteration.moe.shape import Routed

COMPARISONS = 3
"""Masks of what was cut: gates above, the others above and below the limit."""


def clamp_forward(tape: Tape, rows: Routed) -> None:
    """Two halves cut off at the limit, then put together; or a bias, expert by expert."""
    width = rows.experts.ffn
    if rows.plan.fused_clamp:
        tape.fresh(eager.kernel("mul_weight", rows.rows, rows.up), kernels=rows.experts.held)
        tape.fresh(eager.kernel("cat", rows.rows, rows.up))
        return
    for _ in range(rows.up // width):
        tape.run(eager.kernel("rope_mul", rows.rows, width))
    tape.fresh(eager.kernel("cat", rows.rows, rows.up))
    tape.sync()


def clamp_backward(tape: Tape, rows: Routed) -> None:
    """Gradients of the halves, zero where they were cut, put together; or the bias' gradient."""
    width = rows.experts.ffn
    if rows.plan.fused_clamp:
        tape.fresh(eager.kernel("sum_rows", rows.rows, rows.up), kernels=rows.experts.held)
        tape.fresh(eager.kernel("cat", rows.rows, rows.up))
        return
    for _ in range(COMPARISONS):
        tape.run(eager.kernel("rope_mul", rows.rows, width))
    for _ in range(rows.up // width):
        tape.run(eager.kernel("masked_fill", rows.rows, width))
    tape.fresh(eager.kernel("cat", rows.rows, rows.up))


def sums(tape: Tape, rows: Routed) -> None:
    """Gradients of the second bias and of probabilities beside it, where products do the rest.

    One kernel reads the output's gradient (Transformer Engine ``triton/grouped_dbias_dscales.py``).
    """
    tape.run(eager.kernel("sum_rows", rows.rows, rows.layer.hidden))


def output_forward(tape: Tape, rows: Routed) -> None:
    """Bias times probability, the sum with an expert's output, all experts together, a cast."""
    width, pieces = rows.layer.hidden, rows.experts.held
    tape.run(eager.kernel("mul_rows_fp32", rows.rows, width), kernels=pieces)
    tape.fresh(eager.kernel("add_fp32", rows.rows, width), kernels=pieces)
    tape.fresh(eager.kernel("copy_fp32", rows.rows, width))
    tape.fresh(eager.kernel("cast_down", rows.rows, width))


def output_backward(tape: Tape, rows: Routed) -> None:
    """Casts of the gradient, and its products with probability and bias, each summed."""
    width, pieces = rows.layer.hidden, rows.experts.held
    tape.run(eager.kernel("cast_up", rows.rows, width))
    tape.run(eager.kernel("cast_down", rows.rows, width), kernels=pieces)
    for _ in range(2):
        tape.run(eager.kernel("mul_rows_fp32", rows.rows, width), kernels=pieces)
        tape.fresh(eager.kernel("sum_fp32", rows.rows, width), kernels=pieces)
    tape.run(eager.kernel("cat", rows.rows, width))
