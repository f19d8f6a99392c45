"""The kernels that Megatron-Core launches for the parts of a Transformer Engine layer.

Products are cuBLASLt's, weight gradients accumulate into fp32 inside the product, and
memory-bound kernels are this project's own fused ones, which move the same bytes. Tensor-parallel
collectives stand where Transformer Engine 2.8 has them (``module/layernorm_linear.py``,
``linear.py``); ``tp_overlap`` is its ring exchange by user buffers (``module/base.py``).
"""

from collections.abc import Sequence
from dataclasses import replace

from predictor.iteration.launches import Tape
from predictor.iteration.layer import Layer
from predictor.iteration.recipes import Recipe
from predictor.iteration.step import StepShape
from predictor.operators import Gemm, MemoryBound
from predictor.operators.gemm import GemmKind


def fused(name: str, rows: int, cols: int) -> MemoryBound:
    """One fused kernel."""
    return MemoryBound(kernel=name, rows=rows, cols=cols, impl="native")


def plain_cast(rows: int, cols: int) -> MemoryBound:
    """Transformer Engine's vectorised cast, as fast as memory lets it: PyTorch's is timed for it.

    This project's own kernel of the name is bound by its instructions (0.24 of an H100's bandwidth,
    PyTorch's 0.86).
    """
    return MemoryBound(kernel="cast_fp8", rows=rows, cols=cols, impl="torch")


def tiny(tape: Tape, rows: int, times: int) -> None:
    """Launches over one number a row: they cost a launch and nothing else."""
    copy = fused("copy", rows, 1)
    for _ in range(times):
        tape.fresh(copy)


def norm(layer: Layer) -> str:
    """Name of the layer's norm."""
    return "layer_norm" if layer.layer_norm else "rms_norm"


def product(rows: int, out: int, into: int, kind: GemmKind, recipe: Recipe | None = None) -> Gemm:
    """One product of a linear layer, in bf16 without a recipe."""
    accumulate = kind == "wgrad"
    dtype = recipe.dtype if recipe else "bf16"
    return Gemm(
        m=rows, n=out, k=into, dtype=dtype, kind=kind, api="cublaslt", accumulate=accumulate
    )


def operand(
    tape: Tape, recipe: Recipe | None, rows: int, cols: int, *, turned: bool, tensors: int = 1
) -> None:
    """What makes an operand small, if a recipe does: a cast, with a turned copy if ``turned``.

    Experts' rows are ``tensors`` of their own: each has its scale, and a cast by itself where the
    scale must be found first.
    """
    if recipe is None:
        return
    launches = tensors if recipe.seeks else 1
    if recipe.seeks:
        tape.fresh(fused("amax", rows, cols), kernels=launches)
        tiny(tape, tensors, 1)  # the scales
    copies = turned and (recipe.turns or recipe.both)
    cast = fused("cast_transpose_fp8", rows, cols) if copies else plain_cast(rows, cols)
    tape.fresh(cast, kernels=launches)
    if recipe.swizzles:
        tiny(tape, rows, 1)


def normed(tape: Tape, recipe: Recipe | None, rows: int, cols: int, *, turned: bool) -> None:
    """The same for what a norm wrote: it casts by itself, or knows the largest magnitude."""
    if recipe is None:
        return
    if not recipe.norm_casts:
        operand(tape, replace(recipe, seeks=recipe.rotates), rows, cols, turned=turned)
    elif turned and recipe.turns:
        tape.fresh(fused("transpose_fp8", rows, cols))


def column_forward(
    tape: Tape, shape: StepShape, out: int, into: int, *, trained: bool = True
) -> None:
    """A product whose output is split: its input is gathered first under sequence parallelism.

    A weight that is not ``trained`` asks for no turned copy of its input, here as below.
    """
    recipe = shape.recipe
    gathered = shape.sequence_parallel
    turned = trained and (not gathered or _keeps_both(recipe))
    normed(tape, recipe, shape.shard_tokens, into, turned=turned)
    if rings(shape):
        one = product(shape.shard_tokens, out, into, "forward", recipe)
        gather_by_shares(tape, shape, (one,), wire_bytes(recipe) * into)
        return
    if gathered:
        tape.collective(shape.tensor.all_gather(wire_bytes(recipe) * shape.tokens * into))
    tape.run(product(shape.tokens, out, into, "forward", recipe))


def row_forward(tape: Tape, shape: StepShape, out: int, into: int, *, trained: bool = True) -> None:
    """A product whose output is a partial sum."""
    operand(tape, shape.recipe, shape.tokens, into, turned=trained)
    if rings(shape):
        scatter_by_shares(
            tape, shape, product(shape.shard_tokens, out, into, "forward", shape.recipe)
        )
        return
    tape.run(product(shape.tokens, out, into, "forward", shape.recipe))
    tape.collective(shape.partial_sum(out))


def column_backward(
    tape: Tape, shape: StepShape, out: int, into: int, *, trained: bool = True
) -> None:
    """Gather of the input beside dgrad, sum of its gradient beside wgrad."""
    recipe = shape.recipe
    gathered = shape.sequence_parallel and trained
    elements = 1.0 * shape.tokens * into
    operand(tape, recipe, shape.tokens, out, turned=trained)
    if gathered:
        tape.start(shape.tensor.all_gather(wire_bytes(recipe) * elements), "tensor")
    tape.run(product(shape.tokens, out, into, "dgrad", recipe))
    if gathered:
        tape.wait("tensor")
    tape.start(shape.partial_sum(into), "tensor")
    if gathered:
        _turn(tape, recipe, shape.tokens, into)
    if trained:
        tape.run(product(shape.tokens, out, into, "wgrad", recipe))
    tape.wait("tensor")


def row_backward(
    tape: Tape, shape: StepShape, out: int, into: int, *, trained: bool = True
) -> None:
    """The output's gradient is gathered first under sequence parallelism."""
    recipe = shape.recipe
    gathered = shape.sequence_parallel
    both = trained and _keeps_both(recipe)
    turned = trained and (not gathered or both)
    operand(tape, recipe, shape.shard_tokens, out, turned=turned)
    row_bytes = (2 if both else 1) * wire_bytes(recipe) * out
    if rings(shape):
        one = product(shape.shard_tokens, out, into, "dgrad", recipe)
        gather_by_shares(tape, shape, (one,), row_bytes)
    else:
        if gathered:
            tape.collective(shape.tensor.all_gather(row_bytes * shape.tokens))
        tape.run(product(shape.tokens, out, into, "dgrad", recipe))
    if not trained:
        return
    if gathered:
        _turn(tape, recipe, shape.tokens, out)
    tape.run(product(shape.tokens, out, into, "wgrad", recipe))


def rings(shape: StepShape) -> bool:
    """Whether products run share by share beside the transfers of the next share."""
    return shape.sequence_parallel and shape.tensor.ranks > 1 and bool(shape.tp_overlap)


def gather_by_shares(
    tape: Tape, shape: StepShape, products: Sequence[Gemm], row_bytes: float
) -> None:
    """Products of gathered rows: those of one rank's rows run while the next rank's arrive.

    Args:
        tape: Where launches go.
        shape: Sizes.
        products: Of one rank's rows.
        row_bytes: Sent of a row.
    """
    ranks = shape.tensor.ranks
    for place in range(ranks):
        if place < ranks - 1:
            tape.start(shape.tensor.ring_step(row_bytes * shape.shard_tokens), "tensor")
        for each in products:
            tape.run(each)
        if place < ranks - 1:
            tape.wait("tensor")


def scatter_by_shares(tape: Tape, shape: StepShape, share: Gemm) -> None:
    """A product of partial sums: one rank's rows leave while the next rank's are computed.

    The last rows leave alone; then every rank adds what it received, one read a rank and a write.

    Args:
        tape: Where launches go.
        shape: Sizes.
        share: The product of one rank's rows.
    """
    ranks = shape.tensor.ranks
    for place in range(ranks):
        tape.run(share)
        if place:
            tape.wait("tensor")
        if place < ranks - 1:
            tape.start(shape.tensor.ring_step(2.0 * share.m * share.n), "tensor")
    tape.fresh(fused("copy", share.m * (ranks + 1) // 2, share.n))


def wire_bytes(recipe: Recipe | None) -> float:
    """Bytes of a gathered element."""
    return recipe.wire_bytes if recipe else 2.0


def _keeps_both(recipe: Recipe | None) -> bool:
    return recipe is not None and recipe.both


def _turn(tape: Tape, recipe: Recipe | None, rows: int, cols: int) -> None:
    """A gathered operand is turned for its second product where the GPU needs it."""
    if recipe is not None and recipe.turns:
        tape.fresh(fused("transpose_fp8", rows, cols))
