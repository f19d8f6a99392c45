"""Tensor-parallel products as nanotron runs them.

Read at commit e24d2483 (``parallel/tensor_parallel/functional.py``). With sequence parallelism
(``tp_mode`` REDUCE_SCATTER, asynchronous) a column product runs on the rank's own share of the
tokens while the others' come, then on those before and behind it; a row product is scattered
synchronously. Without it (ALL_REDUCE, synchronous) row products are summed forward and the
gradients of columns' inputs backward, beside nothing.
"""

from predictor.iteration.implementations import eager_blocks as eager
from predictor.iteration.implementations import te_blocks as te
from predictor.iteration.launches import Tape
from predictor.iteration.step import StepShape
from predictor.operators.gemm import GemmKind


def _pieces(shape: StepShape) -> tuple[int, ...]:
    """Tokens of the products that one turns into: the own share, those before, those behind."""
    ranks, own = shape.tensor.ranks, shape.shard_tokens
    before = (ranks - 1) // 2
    return tuple(count * own for count in (1, before, ranks - 1 - before) if count)


def gathers(shape: StepShape) -> bool:
    """Whether ranks hold shares of the tokens, which products need whole."""
    return shape.sequence_parallel and shape.tensor.ranks > 1


def _beside(tape: Tape, shape: StepShape, width: int, out: int, into: int, kind: GemmKind) -> None:
    """A gather of ``width`` columns beside the product of the own share, then the others."""
    if not gathers(shape):
        tape.run(te.product(shape.tokens, out, into, kind))
        return
    own, *others = _pieces(shape)
    tape.start(shape.tensor.all_gather(2.0 * shape.tokens * width), "tensor")
    tape.run(te.product(own, out, into, kind))
    tape.wait("tensor")
    for tokens in others:
        tape.run(te.product(tokens, out, into, kind))


def column_forward(tape: Tape, shape: StepShape, out: int, into: int) -> None:
    """A product whose output is split; its input is gathered beside it."""
    _beside(tape, shape, into, out, into, "forward")


def row_forward(tape: Tape, shape: StepShape, out: int, into: int) -> None:
    """A product whose output is a partial sum."""
    eager.linear_forward(tape, shape.tokens, out, into)
    tape.collective(shape.partial_sum(out))


def column_backward(tape: Tape, shape: StepShape, out: int, into: int) -> None:
    """The input is gathered again beside dgrad, its gradient scattered beside wgrad."""
    if not gathers(shape):
        eager.linear_backward(tape, shape.tokens, out, into)
        tape.collective(shape.partial_sum(into))
        return
    size = 2.0 * shape.tokens * into
    tape.start(shape.tensor.all_gather(size), "tensor")
    eager.dgrad(tape, shape.tokens, out, into)
    tape.wait("tensor")
    tape.start(shape.tensor.reduce_scatter(size), "tensor")
    eager.wgrad(tape, shape.tokens, out, into)
    tape.wait("tensor")


def row_backward(tape: Tape, shape: StepShape, out: int, into: int) -> None:
    """The output's gradient is gathered beside dgrad."""
    _beside(tape, shape, out, out, into, "dgrad")
    eager.wgrad(tape, shape.tokens, out, into)
