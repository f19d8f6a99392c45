"""Attention of a sequence that several ranks share (context parallelism).

Rank i of c holds chunks i and ``2c - 1 - i`` of the sequence, cut in ``2c``, so that a causal mask
leaves every rank the same work. Read in Transformer Engine 2.8, ``context_parallel.py``:

    ring        c steps; keys and values travel to the next rank beside the attention of the step.
                The first step is causal over the rank's own tokens, every other one full between
                half of the queries and all keys, or all queries and half of the keys: the same
                work. Outputs of the steps are summed in fp32. The backward pass sends gradients of
                keys and values along with them, and the last hop has nothing to hide behind.
    all-gather  keys and values are gathered first, and nothing hides that; each of the rank's two
                chunks sees ``(2c + 1)/4c`` of the sequence on average. The backward pass gathers
                again and scatters the gradients.
    ulysses     all-to-alls turn a share of the tokens into a share of the heads, and back.
"""

from dataclasses import replace

from predictor.dtypes import BF16_BYTES
from predictor.iteration.launches import Tape
from predictor.iteration.layer import Layer
from predictor.iteration.step import StepShape
from predictor.operators import Attention, MemoryBound


def forward(tape: Tape, shape: StepShape, layer: Layer) -> None:
    """Attention of one layer, with what its ranks send each other."""
    _attention(tape, shape, layer, "forward", kernels=1)


def backward(tape: Tape, shape: StepShape, layer: Layer, *, kernels: int) -> None:
    """Its gradient; ``kernels`` are those of one call."""
    _attention(tape, shape, layer, "backward", kernels=kernels)


def _attention(tape: Tape, shape: StepShape, layer: Layer, kind: str, *, kernels: int) -> None:
    whole = shape.attention(kind, layer)
    if shape.context.ranks == 1:
        tape.run(whole, kernels=kernels)
    elif shape.context_kind == "ring":
        _ring(tape, shape, layer, whole, kernels)
    elif shape.context_kind == "all-gather":
        _gathered(tape, shape, layer, whole, kernels)
    else:
        _ulysses(tape, shape, layer, whole, kernels)


def _key_columns(layer: Layer) -> int:
    """Columns of keys and values together."""
    if layer.latent:
        return layer.heads * (layer.head_dim + layer.latent.value)
    return 2 * layer.kv


def _ring(tape: Tape, shape: StepShape, layer: Layer, whole: Attention, kernels: int) -> None:
    ranks, back = shape.context.ranks, whole.kind == "backward"
    own = shape.seq_length // ranks
    size = BF16_BYTES * shape.tokens * _key_columns(layer)
    first = replace(whole, seq_length=own)
    other = replace(first, causal=False, query_length=own // 2)
    for step in range(ranks):
        if step + 1 < ranks:
            tape.start(shape.context.ring_step(size * (2 if back else 1)), "context")
        tape.run(first if step == 0 else other, kernels=kernels)
        if step:
            tape.fresh(_native("add_fp32", shape.tokens // 2, layer.q))
            for _ in range(2):  # statistics of the softmax, or sums of other gradients
                width = _key_columns(layer) // 2 if back else layer.heads
                tape.fresh(_native("copy", shape.tokens, width))
        tape.wait("context")
    if back:
        tape.collective(shape.context.ring_step(size), "context")


def _gathered(tape: Tape, shape: StepShape, layer: Layer, whole: Attention, kernels: int) -> None:
    ranks = shape.context.ranks
    half = BF16_BYTES * shape.tokens * ranks * _key_columns(layer) / 2
    for _ in range(2):
        tape.collective(shape.context.all_gather(half), "context")
        tape.run(_native("copy", shape.tokens * ranks, _key_columns(layer) // 2))
    chunk = shape.seq_length // (2 * ranks)
    keys = (2 * ranks + 1) * shape.seq_length // (4 * ranks)
    for _ in range(2):
        tape.run(replace(whole, causal=False, seq_length=keys, query_length=chunk), kernels=kernels)
    if whole.kind == "backward":
        for _ in range(2):
            tape.collective(shape.context.reduce_scatter(half), "context")


def _ulysses(tape: Tape, shape: StepShape, layer: Layer, whole: Attention, kernels: int) -> None:
    ranks = shape.context.ranks
    queries = BF16_BYTES * shape.tokens * layer.q
    keys = BF16_BYTES * shape.tokens * _key_columns(layer) / 2
    into: tuple[float, ...] = (queries, keys, keys)
    out: tuple[float, ...] = (queries,)
    if whole.kind == "backward":
        into, out = out, into
    for size in into:
        tape.collective(shape.context.all_to_all(size), "context")
    groups = max(1, whole.num_query_groups // ranks)
    tape.run(
        replace(whole, num_heads=whole.num_heads // ranks, num_query_groups=groups),
        kernels=kernels,
    )
    for size in out:
        tape.collective(shape.context.all_to_all(size), "context")


def _native(name: str, rows: int, cols: int) -> MemoryBound:
    return MemoryBound(kernel=name, rows=rows, cols=cols)
