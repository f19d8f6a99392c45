"""Norms and tensor-parallel products as Megatron-Core's local spec launches them.

Read in Megatron-Core 0.19 (``tensor_parallel/layers.py``) without fused accumulation: a product's
weight gradient is a tensor of its own. Products ``out x into`` run over the tokens of the rank.
"""

from predictor.iteration.implementations import eager_blocks as eager
from predictor.iteration.launches import Tape
from predictor.iteration.layer import Layer
from predictor.iteration.step import StepShape


def norm_forward(tape: Tape, layer: Layer, rows: int, cols: int) -> None:
    """One kernel over ``rows x cols`` numbers."""
    tape.fresh(eager.kernel("layer_norm" if layer.layer_norm else "rms_norm", rows, cols))


def norm_backward(tape: Tape, layer: Layer, rows: int, cols: int) -> None:
    """The input's gradient and the weight's; a tensor of zeros stands in for RMSNorm's mean."""
    tape.fresh(eager.kernel("layer_norm_backward", rows, cols), kernels=2)
    if not layer.layer_norm:
        tape.run(eager.kernel("fill", rows, cols))


def column_forward(tape: Tape, shape: StepShape, out: int, into: int) -> None:
    """A product whose output is split: its input is gathered first under sequence parallelism."""
    if shape.sequence_parallel:
        tape.collective(shape.tensor.all_gather(2.0 * shape.tokens * into))
    eager.linear_forward(tape, shape.tokens, out, into)


def row_forward(tape: Tape, shape: StepShape, out: int, into: int) -> None:
    """A product whose output is a partial sum."""
    eager.linear_forward(tape, shape.tokens, out, into)
    tape.collective(shape.partial_sum(out))


def column_backward(tape: Tape, shape: StepShape, out: int, into: int) -> None:
    """The input is gathered again beside dgrad, its gradient summed beside wgrad."""
    if shape.sequence_parallel:
        tape.start(shape.tensor.all_gather(2.0 * shape.tokens * into), "tensor")
    eager.dgrad(tape, shape.tokens, out, into)
    if shape.sequence_parallel:
        tape.wait("tensor")
    tape.start(shape.partial_sum(into), "tensor")
    eager.wgrad(tape, shape.tokens, out, into)
    tape.wait("tensor")


def row_backward(tape: Tape, shape: StepShape, out: int, into: int) -> None:
    """The output's gradient is gathered first under sequence parallelism."""
    if shape.sequence_parallel:
        tape.collective(shape.tensor.all_gather(2.0 * shape.tokens * out))
    eager.dgrad(tape, shape.tokens, out, into)
    eager.wgrad(tape, shape.tokens, out, into)
