"""LoRA's adapters around Transformer Engine's linear modules, and modules whose weights are frozen.

Read in Megatron-Bridge 0191fc5e (``peft/lora.py``, ``lora_layers.py``, ``utils.py``) and NeMo
0966fbc7 (``collections/llm/peft``), which launch the same: the module, then two products of
Megatron-Core's own parallel layers on its input (or its norm's output), always in bf16; their
product times ``alpha / rank``, an eager kernel; the sum of both outputs, another. Dropout is off by
default.

Transformer Engine (2.8 ``layernorm_linear.py``, ``linear.py``) leaves the weight's gradient of a
frozen module out, and what is only for it: the second gather of the input, turned copies of the
operands. Nothing then hides the sum of the input's gradient over tensor ranks. A norm whose output
an adapter reads too is written in bf16 and cast behind the gather, which is in bf16 then; with ring
exchange the module's gather is no ring, and the adapter gathers for itself.

Tensor ranks: the first product is split by its output if the module is, and by its input if that
is; its few columns are gathered or summed. The second one is always split by its output; behind a
module of partial sums that output is gathered whole before each rank takes its tokens of it.
"""

from collections.abc import Sequence

from predictor.dtypes import BF16_BYTES
from predictor.iteration.implementations import eager_blocks as eager
from predictor.iteration.implementations import te_blocks as te
from predictor.iteration.launches import Launch, Step, Tape
from predictor.iteration.layer import Layer
from predictor.iteration.layer_parts import Linear
from predictor.iteration.step import StepShape
from predictor.operators import Gemm


def column_forward(tape: Tape, shape: StepShape, linear: Linear) -> None:
    """A module whose output is split, behind its norm."""
    if not linear.rank:
        te.column_forward(tape, shape, linear.out, linear.into, trained=linear.trained)
        return
    n, recipe = shape.tokens, shape.recipe
    gathered = shape.sequence_parallel and not te.rings(shape)
    if gathered:
        tape.collective(shape.tensor.all_gather(BF16_BYTES * n * linear.into))
    rows = n if gathered else shape.shard_tokens
    te.operand(tape, recipe, rows, linear.into, turned=False)
    if te.rings(shape):
        tape.collective(shape.tensor.all_gather(te.wire_bytes(recipe) * n * linear.into))
    tape.run(te.product(n, linear.out, linear.into, "forward", recipe))
    if te.rings(shape):
        tape.collective(shape.tensor.all_gather(BF16_BYTES * n * linear.into))
    tape.run(te.product(n, linear.rank // shape.tensor.ranks, linear.into, "forward"))
    tape.collective(shape.tensor.all_gather(BF16_BYTES * n * linear.rank))
    tape.run(te.product(n, linear.out, linear.rank, "forward"))
    _added(tape, n, linear.out)


def row_forward(tape: Tape, shape: StepShape, linear: Linear) -> None:
    """A module whose output is a partial sum."""
    te.row_forward(tape, shape, linear.out, linear.into, trained=linear.trained)
    if not linear.rank:
        return
    n, ranks = shape.tokens, shape.tensor.ranks
    tape.run(te.product(n, linear.rank, linear.into, "forward"))
    tape.collective(shape.tensor.all_reduce(BF16_BYTES * n * linear.rank))
    tape.run(te.product(n, linear.out // ranks, linear.rank, "forward"))
    tape.collective(shape.tensor.all_gather(BF16_BYTES * n * linear.out))
    if ranks > 1:  # the ranks' columns side by side
        tape.fresh(te.fused("copy", n, linear.out))
    _added(tape, shape.shard_tokens, linear.out)


def column_backward(tape: Tape, shape: StepShape, linear: Linear) -> None:
    """The adapter's gradients, then the module's."""
    n, ranks = shape.tokens, shape.tensor.ranks
    if linear.rank:
        tape.fresh(eager.kernel("mul_scalar", n, linear.out))
        _thin_backward(tape, shape, linear.out, linear.rank, summed=True)
        _thin_backward(
            tape, shape, linear.rank // ranks, linear.into, summed=not shape.sequence_parallel
        )
        if te.rings(shape):
            tape.collective(shape.tensor.reduce_scatter(BF16_BYTES * n * linear.into))
    te.column_backward(tape, shape, linear.out, linear.into, trained=linear.trained)
    if linear.rank:
        whole = shape.sequence_parallel and not te.rings(shape)
        tape.fresh(eager.kernel("add", n if whole else shape.shard_tokens, linear.into))


def row_backward(tape: Tape, shape: StepShape, linear: Linear) -> None:
    """The adapter's gradients, then the module's."""
    n, ranks = shape.tokens, shape.tensor.ranks
    if linear.rank:
        tape.fresh(eager.kernel("mul_scalar", shape.shard_tokens, linear.out))
        if shape.sequence_parallel:
            tape.collective(shape.tensor.all_gather(BF16_BYTES * n * linear.out))
        if ranks > 1:  # the rank's columns of it
            tape.fresh(te.fused("copy", n, linear.out // ranks))
        _thin_backward(tape, shape, linear.out // ranks, linear.rank, summed=True)
        _thin_backward(tape, shape, linear.rank, linear.into, summed=False)
    te.row_backward(tape, shape, linear.out, linear.into, trained=linear.trained)
    if linear.rank:
        tape.fresh(eager.kernel("add", n, linear.into))


def products(layer: Layer, phase: str) -> int:
    """Products that a layer's adapters add to a pass."""
    each = 2 if phase == "forward" else 4
    return each * len(layer.adapters.modules) if layer.adapters else 0


def lowest(steps: Sequence[Step]) -> tuple[Step, ...]:
    """A backward pass whose input's gradient nobody needs: it ends with its last weight gradient.

    That one's product for the input is left out, with what sums it over ranks.
    """
    kinds = [
        step.operator.kind if isinstance(step, Launch) and isinstance(step.operator, Gemm) else ""
        for step in steps
    ]
    last = max(place for place, kind in enumerate(kinds) if kind == "wgrad")
    before = max(place for place, kind in enumerate(kinds[:last]) if kind == "dgrad")
    return (*steps[:before], steps[last])


def _added(tape: Tape, rows: int, cols: int) -> None:
    """The adapter's output scaled, then added to the module's."""
    tape.fresh(eager.kernel("mul_scalar", rows, cols))
    tape.fresh(eager.kernel("add", rows, cols))


def _thin_backward(tape: Tape, shape: StepShape, out: int, into: int, *, summed: bool) -> None:
    """A product of Megatron-Core's own: its input's gradient is summed beside its weight's."""
    tape.run(te.product(shape.tokens, out, into, "dgrad"))
    if summed:
        tape.start(shape.tensor.all_reduce(BF16_BYTES * shape.tokens * into), "tensor")
    tape.run(te.product(shape.tokens, out, into, "wgrad"))
    if summed:
        tape.wait("tensor")
