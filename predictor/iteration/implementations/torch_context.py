"""FlashAttention-2 over a sequence that several ranks share: PyTorch's context parallelism.

Read in torch 2.6, ``distributed/tensor/experimental/_attention.py``: ranks hold the chunks that
:mod:`predictor.iteration.context` describes, and the steps do the same work as its ring's. Keys
and values of all ranks are gathered beside the first step (``_RotateMethod.ALL_GATHER``), of all
query heads where a stack repeats them. Every further step's output is merged in fp32 by eager
kernels (``_SDPAMerger``): a cast, a difference, a product, a difference. In the backward pass a
step adds its gradients to fp32 sums, and those of keys and values go round by all-to-all, packed by
a copy, beside the next step. The last rank merges whole outputs in every step, and all wait for it.
"""

from dataclasses import replace

from predictor.dtypes import BF16_BYTES
from predictor.iteration.implementations import eager_blocks as eager
from predictor.iteration.implementations import te_blocks as te
from predictor.iteration.launches import Step, Tape
from predictor.iteration.layer import Layer
from predictor.iteration.stack import flash
from predictor.iteration.step import StepShape
from predictor.operators import Attention

BACKWARD_KERNELS = 3


def forward(shape: StepShape, layer: Layer, *, repeated: bool) -> tuple[Step, ...]:
    """Attention of one layer; ``repeated``: keys and values are those of all query heads."""
    tape, ranks = Tape(), shape.context.ranks
    call = flash(shape.attention("forward", layer))
    if ranks == 1:
        tape.run(call)
        return tape.steps()
    first, other = _steps(call, shape)
    columns = _columns(layer, repeated=repeated)
    tape.start(shape.context.all_gather(BF16_BYTES * shape.tokens * ranks * columns), "context")
    tape.run(first)
    tape.wait("context")
    for _ in range(ranks - 1):
        tape.run(other)
        tape.fresh(te.fused("cast_up", shape.tokens, layer.q))
        for _ in range(3):
            tape.fresh(eager.kernel("mul_fp32", shape.tokens, layer.q))
    tape.fresh(te.fused("cast_down", shape.tokens, layer.q))
    return tape.steps()


def backward(shape: StepShape, layer: Layer, *, repeated: bool) -> tuple[Step, ...]:
    """Its gradient."""
    tape, ranks = Tape(), shape.context.ranks
    call = flash(shape.attention("backward", layer))
    if ranks == 1:
        tape.run(call, kernels=BACKWARD_KERNELS)
        return tape.steps()
    first, other = _steps(call, shape)
    columns = _columns(layer, repeated=repeated)
    tape.start(shape.context.all_gather(BF16_BYTES * shape.tokens * ranks * columns), "context")
    for step in range(ranks):
        tape.run(other if step else first, kernels=BACKWARD_KERNELS)
        tape.wait("context")
        for width in (layer.q, columns // 2, columns // 2):
            tape.fresh(te.fused("add_fp32", shape.tokens, width))
        tape.run(te.fused("copy", shape.tokens, 2 * columns))  # of fp32, counted as bf16
        tape.start(shape.context.all_to_all(2 * BF16_BYTES * shape.tokens * columns), "context")
    tape.wait("context")
    return tape.steps()


def _columns(layer: Layer, *, repeated: bool) -> int:
    """Columns of keys and values together."""
    return 2 * (layer.q if repeated else layer.kv)


def _steps(call: Attention, shape: StepShape) -> tuple[Attention, Attention]:
    """The causal step over the rank's own tokens, and a full one over half of the queries."""
    own = shape.seq_length // shape.context.ranks
    first = replace(call, seq_length=own)
    return first, replace(first, causal=False, query_length=own // 2)
