"""The kernels that Megatron-Core launches for the parts of a Transformer Engine layer.

Products are cuBLASLt's, weight gradients accumulate into fp32 inside the product, and
memory-bound kernels are this project's own fused ones, which move the same bytes. Tensor-parallel
collectives stand where Transformer Engine 2.8 has them (``module/layernorm_linear.py``,
``linear.py``).
"""

from predictor.iteration.dimensions import Layer
from predictor.iteration.launches import Tape
from predictor.iteration.step import StepShape
from predictor.operators import Gemm, MemoryBound
from predictor.operators.gemm import GemmKind


def fused(name: str, rows: int, cols: int) -> MemoryBound:
    """One fused kernel."""
    return MemoryBound(kernel=name, rows=rows, cols=cols, impl="native")


def tiny(tape: Tape, rows: int, times: int) -> None:
    """Launches over one number a row: they cost a launch and nothing else."""
    for _ in range(times):
        tape.fresh(fused("copy", rows, 1))


def norm(layer: Layer) -> str:
    """Name of the layer's norm."""
    return "layer_norm" if layer.layer_norm else "rms_norm"


def product(rows: int, out: int, into: int, kind: GemmKind) -> Gemm:
    """One product of a linear layer."""
    accumulate = kind == "wgrad"
    return Gemm(m=rows, n=out, k=into, kind=kind, api="cublaslt", accumulate=accumulate)


def column_forward(tape: Tape, shape: StepShape, out: int, into: int) -> None:
    """A product whose output is split: its input is gathered first under sequence parallelism."""
    if shape.sequence_parallel:
        tape.collective(shape.tensor.all_gather(2.0 * shape.tokens * into))
    tape.run(product(shape.tokens, out, into, "forward"))


def row_forward(tape: Tape, shape: StepShape, out: int, into: int) -> None:
    """A product whose output is a partial sum."""
    tape.run(product(shape.tokens, out, into, "forward"))
    sum_over_ranks(tape, shape, out)


def sum_over_ranks(tape: Tape, shape: StepShape, width: int) -> None:
    """A partial sum made whole: a share of it under sequence parallelism, else all of it."""
    size = 2.0 * shape.tokens * width
    if shape.sequence_parallel:
        tape.collective(shape.tensor.reduce_scatter(size))
    else:
        tape.collective(shape.tensor.all_reduce(size))


def column_backward(tape: Tape, shape: StepShape, out: int, into: int) -> None:
    """Gather of the input beside dgrad, sum of its gradient beside wgrad."""
    size = 2.0 * shape.tokens * into
    if shape.sequence_parallel:
        tape.start(shape.tensor.all_gather(size), "tensor")
    tape.run(product(shape.tokens, out, into, "dgrad"))
    if shape.sequence_parallel:
        tape.wait("tensor")
        tape.start(shape.tensor.reduce_scatter(size), "tensor")
    else:
        tape.start(shape.tensor.all_reduce(size), "tensor")
    tape.run(product(shape.tokens, out, into, "wgrad"))
    tape.wait("tensor")


def row_backward(tape: Tape, shape: StepShape, out: int, into: int) -> None:
    """The output's gradient is gathered first under sequence parallelism."""
    if shape.sequence_parallel:
        tape.collective(shape.tensor.all_gather(2.0 * shape.tokens * out))
    tape.run(product(shape.tokens, out, into, "dgrad"))
    tape.run(product(shape.tokens, out, into, "wgrad"))
