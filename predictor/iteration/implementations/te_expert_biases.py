"""What experts with biases launch beside their products: eager kernels around fused ones.

Read in Megatron-Core 0.14 to 0.19, ``transformer/moe/experts.py``, ``fusions/fused_bias_geglu.py``.
The one published model with such experts, GPT-OSS, clamps what enters its activation: both halves
of the first product are cut by themselves and put together again before the fused activation. The
first product's bias is in its epilogue. The second's is added expert by expert, times the router's
probability in fp32, and the pieces are put together, in fp32 until the last cast.
"""

from predictor.iteration.implementations import eager_blocks as eager
from predictor.iteration.launches import Tape
from predictor.iteration.moe.shape import Routed


def clamp_forward(tape: Tape, rows: Routed) -> None:
    """Two halves cut off at the limit, then put together."""
    width = rows.experts.ffn
    for _ in range(rows.up // width):
        tape.run(eager.kernel("add_scalar", rows.rows, width))
    tape.fresh(eager.kernel("cat", rows.rows, rows.up))


def clamp_backward(tape: Tape, rows: Routed) -> None:
    """Gradients of the halves, zero where they were cut, put together."""
    width = rows.experts.ffn
    for _ in range(rows.up // width):
        tape.run(eager.kernel("mul", rows.rows, width))
    tape.fresh(eager.kernel("cat", rows.rows, rows.up))


def output_forward(tape: Tape, rows: Routed) -> None:
    """Bias times probability, the sum with an expert's output, all experts together, a cast."""
    width, pieces = rows.layer.hidden, rows.experts.held
    tape.run(eager.kernel("fill_fp32", rows.rows, width), kernels=pieces)
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
