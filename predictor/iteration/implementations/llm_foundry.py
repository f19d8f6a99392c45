"""``llm-foundry``: MosaicML's MPT models under Composer with FSDP of the first generation.

Read in llm-foundry v0.1.1 to v0.4.0 (``models/layers/attention.py``, ``blocks.py``, ``norm.py``)
and Composer 0.14 to 0.16 (``optim/decoupled_weight_decay.py``, ``trainer/dist_strategy.py``). Layer
norms in bf16, one product for queries, keys and values, no biases; on A100 FlashAttention in
Triton, on H100 FlashAttention 1.0 on sequences that every layer unpads, which makes the host wait
for the GPU; GELU in one kernel; a fused loss on bf16 logits. Every micro-batch gathers and reduces,
gradients in bf16. AdamW runs tensor by tensor and reads a step counter from the GPU for each.
"""

from dataclasses import replace

from predictor.iteration.implementations import eager_blocks as eager
from predictor.iteration.implementations import fsdp
from predictor.iteration.implementations import te_blocks as te
from predictor.iteration.implementations.early_flash import flash_1
from predictor.iteration.launches import Program, Tape
from predictor.iteration.layer import Layer
from predictor.iteration.memory import Memory
from predictor.iteration.stack import Part, Stack, flash
from predictor.iteration.step import Stage, StepShape
from predictor.operators import Attention

SHARDED = fsdp.Fsdp(copies=False, gradient_bytes=2)

TRITON_ON = "Ampere"
"""What the benchmarks' script asks for by default: ``attn_impl: triton`` when A100s were measured
(``scripts/train/benchmarking/submit_benchmarks.py`` at 12a6319), ``flash`` in the release that
knows H100s (at 51652ea)."""

TRITON_HEADS = {"forward": 1.4, "backward": 2.0}
"""FlashAttention in Triton takes as long as FlashAttention-2 over so many times its heads: 1.3 to
1.5 in the forward pass, "around 2x" in the backward pass on A100 (arXiv:2307.08691, section 4.1).
Not set on any record."""


def layer_part(shape: StepShape, layer: Layer) -> Part:
    """One block; checkpointing replays it up to the last tensor that is needed, in 8 bits whole.

    ``te.Linear`` takes reentrant checkpoints alone, which stop nowhere (``scripts/train/train.py``
    at 00b4bae sets ``activation_checkpointing_reentrant``; torch 2.1 ``utils/checkpoint.py``).
    """
    forward, backward, replay = Tape(), Tape(), Tape()
    for tape in (forward, replay):
        layer_up(tape, shape, layer)
    for tape in (forward,) if shape.recipe is None else (forward, replay):
        layer_down(tape, shape, layer)
    layer_backward(backward, shape, layer)
    part = Part(forward=forward.steps(), backward=backward.steps(), replay=replay.steps())
    return fsdp.hosted(SHARDED.layer(shape, layer, part))


def layer_up(tape: Tape, shape: StepShape, layer: Layer) -> None:
    """Attention between a norm and an add, then the feed-forward up to its activation.

    Before its CUDA kernel, queries, keys and values are unpadded one by one: the host reads how
    many tokens there are. Triton's takes them as they are.
    """
    n = shape.tokens
    tape.fresh(eager.kernel("layer_norm", n, layer.hidden))
    _linear_forward(tape, shape, layer.q + 2 * layer.kv, layer.hidden)
    if _in_triton(shape):
        tape.run(_triton(shape.attention("forward", layer)))
    else:
        for columns in (layer.q, layer.kv, layer.kv):
            eager.tiny(tape, n, 3)
            tape.sync()
            tape.run(te.fused("copy", n, columns))
        flash_1(tape, shape.attention("forward", layer))
        tape.run(te.fused("copy", n, layer.q))
    _linear_forward(tape, shape, layer.hidden, layer.q)
    tape.fresh(eager.kernel("add", n, layer.hidden))
    tape.fresh(eager.kernel("layer_norm", n, layer.hidden))
    _linear_forward(tape, shape, layer.ffn, layer.hidden)
    tape.fresh(eager.kernel("gelu", n, layer.ffn))


def layer_down(tape: Tape, shape: StepShape, layer: Layer) -> None:
    """The feed-forward's second product and the add."""
    _linear_forward(tape, shape, layer.hidden, layer.ffn)
    tape.fresh(eager.kernel("add", shape.tokens, layer.hidden))


def layer_backward(tape: Tape, shape: StepShape, layer: Layer) -> None:
    """The gradient of :func:`layer_up` and :func:`layer_down`.

    What was gathered is scattered into zeros; Triton sums the gradient of queries in fp32.
    """
    n = shape.tokens
    _linear_backward(tape, shape, layer.hidden, layer.ffn)
    tape.fresh(eager.kernel("gelu_backward", n, layer.ffn))
    _linear_backward(tape, shape, layer.ffn, layer.hidden)
    tape.fresh(eager.kernel("layer_norm_backward", n, layer.hidden), kernels=2)
    tape.fresh(eager.kernel("add", n, layer.hidden))
    _linear_backward(tape, shape, layer.hidden, layer.q)
    if _in_triton(shape):
        tape.run(_triton(shape.attention("backward", layer)), kernels=2)
        tape.run(te.fused("cast_down", n, layer.q))
    else:
        tape.run(te.fused("copy", n, layer.q))
        flash_1(tape, shape.attention("backward", layer))
        for columns in (layer.q, layer.kv, layer.kv):
            tape.run(eager.kernel("fill", n, columns))
            tape.run(te.fused("copy", n, columns))
    tape.run(eager.kernel("cat", n, layer.q + 2 * layer.kv))
    _linear_backward(tape, shape, layer.q + 2 * layer.kv, layer.hidden)
    tape.fresh(eager.kernel("layer_norm_backward", n, layer.hidden), kernels=2)
    tape.fresh(eager.kernel("add", n, layer.hidden))


def _linear_forward(tape: Tape, shape: StepShape, out: int, into: int) -> None:
    """In 8 bits ``te.Linear``, which casts input and weight in every pass (``layers/fc.py``)."""
    if shape.recipe is None:
        eager.linear_forward(tape, shape.tokens, out, into)
        return
    te.operand(tape, shape.recipe, shape.tokens, into, turned=True)
    te.operand(tape, shape.recipe, out, into, turned=True)
    tape.run(te.product(shape.tokens, out, into, "forward", shape.recipe))


def _linear_backward(tape: Tape, shape: StepShape, out: int, into: int) -> None:
    """The output's gradient is cast too; weight gradients are bf16, micro-batch by micro-batch."""
    if shape.recipe is None:
        eager.linear_backward(tape, shape.tokens, out, into)
        return
    te.operand(tape, shape.recipe, shape.tokens, out, turned=True)
    tape.run(te.product(shape.tokens, out, into, "dgrad", shape.recipe))
    weight = te.product(shape.tokens, out, into, "wgrad", shape.recipe)
    tape.run(replace(weight, accumulate=False))


def _in_triton(shape: StepShape) -> bool:
    return shape.architecture == TRITON_ON


def _triton(call: Attention) -> Attention:
    """FlashAttention in Triton, as FlashAttention-2 over more heads; groups' keys are repeated."""
    heads = round(call.num_heads * TRITON_HEADS[call.kind])
    return replace(flash(call), num_heads=heads, num_query_groups=heads)


def embedding_part(shape: StepShape) -> Part:
    """Tokens and positions; the gradient is sorted into a zeroed table."""
    n, forward, backward = shape.tokens, Tape(), Tape()
    forward.run(eager.kernel("embedding", n, shape.hidden))
    forward.run(eager.kernel("add", n, shape.hidden))
    backward.run(eager.kernel("fill", shape.vocab, shape.hidden))
    backward.fresh(eager.kernel("embedding_backward", n, shape.hidden), kernels=12)
    if shape.tied_embeddings:
        backward.run(eager.kernel("add", shape.vocab, shape.hidden))
    part = Part(forward=forward.steps(), backward=backward.steps())
    return fsdp.hosted(SHARDED.embedding(shape, part))


def head_part(shape: StepShape) -> Part:
    """Final norm, bf16 logits, a fused loss whose targets the host looks at."""
    n, forward, backward = shape.tokens, Tape(), Tape()
    forward.fresh(eager.kernel("layer_norm", n, shape.hidden))
    eager.linear_forward(forward, n, shape.vocab, shape.hidden)
    forward.run(te.fused("cross_entropy", n, shape.vocab))
    forward.sync()
    backward.run(te.fused("cross_entropy_backward", n, shape.vocab))
    eager.linear_backward(backward, n, shape.vocab, shape.hidden)
    backward.fresh(eager.kernel("layer_norm_backward", n, shape.hidden), kernels=2)
    part = Part(forward=forward.steps(), backward=backward.steps())
    return fsdp.hosted(SHARDED.head(part))


def optimizer(stage: Stage) -> Program:
    """Pass by pass and tensor by tensor; a rank's share of a block cuts few of its tensors."""
    blocks = 1 + sum(block.count for chunk in stage.chunks for block in chunk.blocks)
    tensors = blocks + (stage.tensors - blocks) // stage.shape.data.ranks
    return fsdp.pass_by_pass_optimizer(stage, kernels=tensors, syncs=tensors)


def saved_bytes(shape: StepShape, layer: Layer) -> float:
    """Norm inputs and outputs, queries, keys and values, attention's output, both of GELU.

    What is unpadded is kept twice.
    """
    unpadded = 1 if _in_triton(shape) else 2
    width = 8 * layer.hidden + 4 * layer.q + 4 * layer.ffn
    width += 2 * unpadded * (layer.q + 2 * layer.kv)
    return shape.tokens * (width + 4.0 * layer.heads)


def memory(stage: Stage, in_flight: tuple[int, ...]) -> Memory:
    """Two copies of the bf16 logits at the loss."""
    del in_flight
    return fsdp.sharded_memory(stage, saved_bytes, logit_bytes=4.0)


STACK = Stack(
    name="llm-foundry",
    description="llm-foundry 0.1 to 0.4 (MPT) under Composer with FSDP, early FlashAttention",
    parallel=True,
    compared=False,
    knows=frozenset({"fp8"}),
    layer=layer_part,
    embedding=embedding_part,
    head=head_part,
    accumulate=SHARDED.accumulate,
    reduced=fsdp.clipped,
    optimizer=optimizer,
    memory=memory,
)
