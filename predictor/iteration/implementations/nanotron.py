"""``nanotron-released``: Hugging Face's trainer.

Read at commit e24d2483 (``models/llama.py``, ``optim/zero.py``, ``optim/gradient_accumulator.py``,
``parallel/pipeline_parallel``). Fused norm, rotary and FlashAttention-2; everything else eager.
What the Ultra-Scale Playbook's jobs ran beside it is in
:mod:`predictor.iteration.implementations.nanotron_playbook`.

Tensor parallelism is that of :mod:`predictor.iteration.implementations.nanotron_products`.
Gradients are added into an fp32 buffer after every micro-batch. ZeRO-0 reduces buckets beside the
last backward pass, ZeRO-1 the whole fp32 buffer behind it (an all-reduce) and gathers bf16
parameters after the step.
"""

from collections.abc import Sequence

from predictor.dtypes import BF16_BYTES, FP32_BYTES
from predictor.iteration.implementations import eager_blocks as eager
from predictor.iteration.implementations import nanotron_products as products
from predictor.iteration.implementations import te_blocks as te
from predictor.iteration.launches import HostWork, Launch, Program, Segment, Step, Tape
from predictor.iteration.layer import Layer
from predictor.iteration.memory import CUBLAS_WORKSPACE_BYTES, Memory, finished
from predictor.iteration.placement import layers_by_cost
from predictor.iteration.stack import Part, Replicas, Sizes, Stack, flash, module_host
from predictor.iteration.step import Stage, StepShape
from predictor.operators import Collective, Optimizer

BUCKET_PARAMETERS = 25 * 2**20 // 2
"""PyTorch's DistributedDataParallel: 25 MiB of bf16 parameters."""

LENGTHS_KERNELS = 6
"""Small kernels that make cumulative sequence lengths for FlashAttention, in every layer."""

CALLS_OF_A_COLLECTIVE = 12
"""What a tensor-parallel collective costs the host, in launches from a module: the process group's
call with its events, the shared buffer, views of the three shares, the handle's wait. Set on the
book's 1B runs on one node, where a layer with tensor parallelism takes 4.5 ms at any width; from 4
to 12 would be plausible."""

LOSS_PASSES = ("cast_up", "amax_fp32", "sub_rows_fp32", "exp_fp32", "sum_fp32", "mul_rows_fp32")


def layer_part(shape: StepShape, layer: Layer) -> Part:
    """One layer of one rank."""
    forward, backward = Tape(), Tape()
    layer_forward(forward, shape, layer)
    layer_backward(backward, shape, layer)
    eager.accumulated(backward, layer.parameters, layer.tensors - 3)
    return Part(
        forward=forward.steps(),
        backward=backward.steps(),
        replay=forward.steps(),
        forward_host=_host("forward", forward.steps()),
        backward_host=_host("backward", backward.steps()),
        replay_host=_host("forward", forward.steps()),
        parameters=layer.parameters,
    )


def _host(phase: str, steps: Sequence[Step]) -> HostWork:
    calls = [s for s in steps if isinstance(s, Launch) and isinstance(s.operator, Collective)]
    return module_host(phase, (*steps, *(calls * (CALLS_OF_A_COLLECTIVE - 1))))


def layer_forward(tape: Tape, shape: StepShape, layer: Layer) -> None:
    """Attention and feed-forward, each between a norm and an add."""
    n, shard = shape.tokens, shape.shard_tokens
    tape.fresh(te.fused("rms_norm", shard, layer.hidden))
    products.column_forward(tape, shape, layer.q + 2 * layer.kv, layer.hidden)
    tape.run(eager.kernel("rope_clone", n * (layer.heads + 2 * layer.groups), layer.head_dim))
    tape.run(eager.kernel("cat", n, 2 * layer.kv))
    tape.run(eager.kernel("rope_clone", n * 2 * layer.groups, layer.head_dim))
    tape.run(te.fused("rotary", n * layer.heads, layer.head_dim))
    tape.run(te.fused("rotary", n * layer.groups, layer.head_dim))
    eager.tiny(tape, shape.batch, LENGTHS_KERNELS)
    tape.run(flash(shape.attention("forward", layer)))
    tape.fresh(eager.kernel("rope_clone", n * layer.heads, layer.head_dim))
    products.row_forward(tape, shape, layer.hidden, layer.q)
    tape.fresh(eager.kernel("add", shard, layer.hidden))
    tape.fresh(te.fused("rms_norm", shard, layer.hidden))
    products.column_forward(tape, shape, 2 * layer.ffn, layer.hidden)
    tape.fresh(eager.kernel("silu", n, layer.ffn))
    tape.fresh(eager.kernel("mul", n, layer.ffn))
    products.row_forward(tape, shape, layer.hidden, layer.ffn)
    tape.fresh(eager.kernel("add", shard, layer.hidden))


def layer_backward(tape: Tape, shape: StepShape, layer: Layer) -> None:
    """The gradient of :func:`layer_forward`."""
    n, shard = shape.tokens, shape.shard_tokens
    products.row_backward(tape, shape, layer.hidden, layer.ffn)
    for name in ("mul", "mul", "silu_backward"):
        tape.fresh(eager.kernel(name, n, layer.ffn))
    tape.fresh(eager.kernel("cat", n, 2 * layer.ffn))
    products.column_backward(tape, shape, 2 * layer.ffn, layer.hidden)
    tape.fresh(te.fused("rms_norm_backward", shard, layer.hidden), kernels=2)
    tape.fresh(eager.kernel("add", shard, layer.hidden))
    products.row_backward(tape, shape, layer.hidden, layer.q)
    tape.fresh(eager.kernel("rope_clone", n * layer.heads, layer.head_dim))
    tape.run(flash(shape.attention("backward", layer)), kernels=3)
    tape.run(eager.kernel("cat", n, 2 * layer.kv))
    tape.run(te.fused("rotary", n * layer.heads, layer.head_dim))
    tape.run(te.fused("rotary", n * layer.groups, layer.head_dim))
    tape.run(eager.kernel("rope_clone", n * 2 * layer.groups, layer.head_dim))
    tape.run(eager.kernel("cat", n, layer.q + 2 * layer.kv))
    tape.run(eager.kernel("rope_clone", n * (layer.heads + 2 * layer.groups), layer.head_dim))
    products.column_backward(tape, shape, layer.q + 2 * layer.kv, layer.hidden)
    tape.fresh(te.fused("rms_norm_backward", shard, layer.hidden), kernels=2)
    tape.fresh(eager.kernel("add", shard, layer.hidden))


def embedding_part(shape: StepShape) -> Part:
    """Lookup in the rank's rows, summed over ranks."""
    forward, backward = Tape(), Tape()
    forward.run(eager.kernel("embedding", shape.tokens, shape.hidden))
    forward.collective(shape.partial_sum(shape.hidden))
    if products.gathers(shape):
        backward.collective(shape.tensor.all_gather(shape.activation_bytes))
    backward.run(eager.kernel("fill", shape.vocab, shape.hidden))
    backward.run(eager.kernel("embedding_backward", shape.tokens, shape.hidden), kernels=12)
    parameters = shape.vocab * shape.hidden
    eager.accumulated(backward, parameters, 1)
    return Part(
        forward=forward.steps(),
        backward=backward.steps(),
        parameters=parameters,
    )


def head_part(shape: StepShape) -> Part:
    """Final norm, the rank's columns of the logits in fp32, a split loss pass by pass."""
    n, vocab = shape.tokens, shape.vocab
    forward, backward = Tape(), Tape()
    forward.fresh(te.fused("rms_norm", shape.shard_tokens, shape.hidden))
    products.column_forward(forward, shape, vocab, shape.hidden)
    for name in LOSS_PASSES:
        forward.run(eager.kernel(name, n, vocab))
    for _ in range(3):
        forward.collective(shape.tensor.all_reduce(4.0 * n, "fp32"))
    backward.run(eager.kernel("mul_rows_fp32", n, vocab))
    backward.run(eager.kernel("cast_down", n, vocab))
    products.column_backward(backward, shape, vocab, shape.hidden)
    backward.fresh(te.fused("rms_norm_backward", shape.shard_tokens, shape.hidden), kernels=2)
    tied = shape.tied_embeddings and shape.stages == 1
    parameters = 0 if tied else vocab * shape.hidden
    if not tied:
        eager.accumulated(backward, parameters, 2)
    return Part(
        forward=forward.steps(),
        backward=backward.steps(),
        parameters=parameters,
    )


def replicas(stage: Stage) -> Replicas:
    """Buckets beside the last backward pass, or with ZeRO-1 all of it behind."""
    sharded = stage.shape.sharding != "none"
    return Replicas(
        reduce="all_reduce",
        gradient_bytes=FP32_BYTES,
        bucket_parameters=None if sharded else BUCKET_PARAMETERS,
        overlap_reduce=not sharded,
        gather_bytes=BF16_BYTES if sharded else 0.0,
        overlap_gather=False,
    )


def reduced(stage: Stage) -> Program:
    """Norms of all gradients that the rank computed, tensor by tensor; then all are scaled."""
    if not stage.parameters:  # a stage that placement by cost left empty
        return ()
    tape = Tape()
    tape.run(eager.kernel("sum_fp32", stage.parameters, 1), kernels=stage.tensors)
    tape.collective(stage.shape.world.all_reduce(4, "fp32"), "data")
    tape.run(eager.kernel("mul_scalar_fp32", stage.parameters, 1), kernels=stage.tensors)
    return ((Segment(label="gradient norm", phase="optimizer", steps=tape.steps()), 1),)


def optimizer(stage: Stage) -> Program:
    """Fused AdamW on the owned fp32 parameters, a copy into each bf16 one, a cleared buffer."""
    if not stage.parameters:
        return ()
    tape = Tape()
    owned = stage.owned_parameters
    tape.run(Optimizer(elements=owned, tensors=stage.tensors, dtype="fp32", impl="torch"))
    tape.run(eager.kernel("cast_down", owned, 1), kernels=stage.tensors)
    tape.run(eager.kernel("fill_fp32", stage.parameters, 1))
    tape.sync()
    return ((Segment(label="optimizer", phase="optimizer", steps=tape.steps()), 1),)


def announcements(shape: StepShape) -> tuple[Sizes, Sizes]:
    """What says seven integers of a tensor, then its shape and strides; and the tokens' mask.

    Each is read by the host before the next (``parallel/pipeline_parallel/p2p.py``).
    """
    tensor = (7 * 8.0, 6 * 8.0)
    return (*tensor, float(shape.tokens), *tensor), tensor


def memory(stage: Stage, in_flight: tuple[int, ...]) -> Memory:
    """Weights with their gradients in bf16 and fp32, states, activations, the loss in fp32.

    A layer keeps both norms' inputs and outputs (the rank's share), queries, keys, values, the
    attention output and its contiguous copy, and gate, up, their activation and product.
    """
    shape = stage.shape
    kept = 0.0
    for chunk, batches in zip(stage.chunks, in_flight, strict=True):
        for block in chunk.blocks:
            layer = block.layer
            one = 8.0 * shape.shard_tokens * layer.hidden
            one += shape.tokens * (6.0 * layer.q + 4.0 * layer.kv + 8.0 * layer.ffn)
            if block.replayed:
                one = 2.0 * shape.shard_tokens * layer.hidden
            kept += one * block.count * batches
    parts = {
        "parameters": 2.0 * stage.parameters,
        "optimizer states": 12.0 * stage.owned_parameters,
        "activations": kept,
        "logits and loss": 14.0 * shape.tokens * shape.vocab if stage.last else 0.0,
        "gradients": 6.0 * stage.parameters,
        "workspaces": float(CUBLAS_WORKSPACE_BYTES),
    }
    return finished(parts, distributed=shape.world.ranks > 1)


STACK = Stack(
    name="nanotron-released",
    description="nanotron e24d2483 (2025-02), FlashAttention-2",
    parallel=True,
    compared=False,
    layers=layers_by_cost,
    layer=layer_part,
    embedding=embedding_part,
    head=head_part,
    replicas=replicas,
    reduced=reduced,
    optimizer=optimizer,
    announcements=announcements,
    overlap_p2p=lambda _: False,
    memory=memory,
)
