"""``torchtitan``: blocks compiled one by one, FSDP2 around them, checkpointing inside.

Read at 9dec370 (2024-12, the published tables). Keys and values are repeated to all heads and SDPA
takes FlashAttention-2; the loss is eager and in fp32; gradients are reduced in fp32 after every
micro-batch, clipped, and stepped by fused AdamW. Selective recomputation keeps
attention's output and every other product of a block. Ranks that share a sequence are PyTorch's
(:mod:`predictor.iteration.implementations.torch_context`), and tensor ranks
(:mod:`predictor.iteration.implementations.torch_tensor`).
"""

from predictor.errors import NotPredictable
from predictor.iteration.implementations import compiled_blocks as compiled
from predictor.iteration.implementations import eager_blocks as eager
from predictor.iteration.implementations import float8, fsdp, hf_eager, torch_tensor
from predictor.iteration.launches import Program, Segment, Step, Tape
from predictor.iteration.layer import Layer
from predictor.iteration.memory import Memory
from predictor.iteration.stack import Part, Stack
from predictor.iteration.step import Stage, StepShape

SHARDED = fsdp.Fsdp()


def layer_part(shape: StepShape, layer: Layer) -> Part:
    """One compiled block."""
    if layer.experts and shape.tensor.ranks > 1:
        raise NotPredictable("experts under tensor parallelism are not modelled for torchtitan")
    forward, backward, replay = Tape(), Tape(), Tape()
    compiled.forward(forward, shape, layer, repeated=True)
    compiled.replay(replay, shape, layer, repeated=True)
    if shape.recipe is not None:
        _refuse_float8(shape, layer)
    if shape.selective_recompute:
        backward.extend(_recomputed(shape, layer))
    compiled.backward(backward, shape, layer, repeated=True)
    part = Part(
        forward=forward.steps(),
        backward=backward.steps(),
        replay=replay.steps(),
        expert_parameters=layer.expert_parameters,
    )
    return SHARDED.layer(shape, layer, part)


def _recomputed(shape: StepShape, layer: Layer) -> tuple[Step, ...]:
    """Every second product of a block; all but the last in 8 bits.

    ``_save_list`` of ``parallelize_llama.py`` names ``aten.mm`` and ``aten.max``, not
    ``aten._scaled_mm``; with tensor ranks it keeps the scattered sums.
    """
    small = shape.recipe is not None
    tape = Tape()
    products = (small, True, small)
    compiled.attention_inputs(tape, shape, layer, products=products, repeated=True)
    if small and shape.tensor.ranks == 1:
        float8.operand(tape, shape, layer.q, gathered=False)
    if not small or shape.tensor.ranks == 1:
        float8.linear_forward(tape, shape, layer.hidden, layer.q)
    if not layer.experts:
        compiled.feed_forward_inputs(tape, shape, layer, products=(small, True))
    return float8.recast(tape.steps())


def _refuse_float8(shape: StepShape, layer: Layer) -> None:
    recipe = shape.recipe
    if recipe is None or not (recipe.seeks and recipe.gathers_parameters):
        raise NotPredictable("torchtitan's 8-bit products are modelled with tensorwise scales only")
    if layer.experts:
        raise NotPredictable("experts in 8 bits are not modelled for torchtitan")


def scaled_optimizer(stage: Stage) -> Program:
    """With 8-bit weights, their largest magnitudes follow: one pass and one sum over all ranks."""
    step = fsdp.fused_optimizer(stage)
    if stage.shape.recipe is None:
        return step
    tape = Tape()
    tape.run(eager.kernel("sum_fp32", stage.owned_parameters, 1))
    tape.collective(stage.shape.data.all_reduce(4.0 * stage.tensors, "fp32"), fsdp.LINKS)
    return (*step, (Segment(label="weight scales", phase="optimizer", steps=tape.steps()), 1))


def embedding_part(shape: StepShape) -> Part:
    """The eager table; tensor ranks sum their rows' share."""
    forward, backward = Tape(), Tape()
    forward.run(eager.kernel("embedding", shape.tokens, shape.hidden))
    torch_tensor.scatter(forward, shape, shape.hidden)
    torch_tensor.gather(backward, shape, shape.hidden, size=2.0)
    backward.extend(hf_eager.embedding_backward(shape))
    return SHARDED.embedding(shape, Part(forward=forward.steps(), backward=backward.steps()))


def head_part(shape: StepShape) -> Part:
    """The eager head with a loss in fp32, split over tensor ranks."""
    n = shape.tokens
    forward, backward = Tape(), Tape()
    forward.fresh(eager.kernel("rms_norm", shape.shard_tokens, shape.hidden))
    torch_tensor.gather(forward, shape, shape.hidden, size=2.0)
    eager.linear_forward(forward, n, shape.vocab, shape.hidden)
    forward.run(eager.kernel("cast_up", n, shape.vocab))
    forward.run(eager.kernel("log_softmax_fp32", n, shape.vocab))
    for _ in range(3):
        forward.collective(shape.tensor.all_reduce(4.0 * n, "fp32"))
    backward.run(eager.kernel("fill_fp32", n, shape.vocab))
    backward.run(eager.kernel("log_softmax_backward_fp32", n, shape.vocab))
    backward.run(eager.kernel("cast_down", n, shape.vocab))
    eager.linear_backward(backward, n, shape.vocab, shape.hidden)
    torch_tensor.scatter(backward, shape, shape.hidden)
    backward.fresh(eager.kernel("rms_norm_backward", shape.shard_tokens, shape.hidden), kernels=2)
    return SHARDED.head(Part(forward=forward.steps(), backward=backward.steps()))


def memory(stage: Stage, in_flight: tuple[int, ...]) -> Memory:
    """12 bytes a logit at the loss, as eager PyTorch has it."""
    del in_flight
    return fsdp.sharded_memory(stage, compiled.saved_bytes, logit_bytes=12.0)


STACK = Stack(
    name="torchtitan",
    description="torchtitan of 2024-12 (9dec370): compiled blocks, FSDP2, FlashAttention-2",
    parallel=True,
    compared=False,
    knows=frozenset({"context", "experts", "fp8"}),
    layer=layer_part,
    embedding=embedding_part,
    head=head_part,
    accumulate=SHARDED.accumulate,
    reduced=fsdp.clipped,
    optimizer=scaled_optimizer,
    memory=memory,
)
