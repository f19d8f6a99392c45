"""``megatron-core-local``: Megatron-Core's local spec, no Transformer Engine, no Apex.

Read in Megatron-Core 0.19 on torch 2.11 and compared with profiled kernel counts of six steps:
torch norms (an RMSNorm's gradient runs the kernels of a LayerNorm's), products without fused
accumulation, a bias of queries, keys and values added by a kernel of its own, rotary embedding
written out, PyTorch's scaled dot product attention, activations and residual adds by
``torch.compile``. A hook adds every parameter's gradient into an fp32 buffer after each backward
pass. The loss is Megatron's vocabulary-split one in fp32; AdamW runs list by list (``foreach``),
over experts apart. Gradients are clipped: their norm is above one, as that of young models is.
"""

from collections.abc import Sequence

from predictor.iteration.implementations import eager_blocks as eager
from predictor.iteration.implementations import local_blocks as local
from predictor.iteration.implementations import local_moe
from predictor.iteration.implementations.hf_compile import triton
from predictor.iteration.implementations.local_steps import (
    activity,
    layer_tensors,
    memory,
    optimizer,
    reduced,
    replicas,
)
from predictor.iteration.launches import BARE_LAUNCH, HostWork, Step, Tape
from predictor.iteration.layer import Layer
from predictor.iteration.stack import Part, Stack, called, module_launches
from predictor.iteration.step import StepShape

ROPE_TABLE_KERNELS = 6
"""Small launches of a tensor's rotation: cosines and sines, each scaled and cast, every layer."""

ROPE_LAUNCHES = {"forward": 24, "backward": 14}
"""Of queries and keys together, counted in a trace."""


def layer_part(shape: StepShape, layer: Layer) -> Part:
    """One layer of one rank."""
    forward, backward = Tape(), Tape()
    layer_forward(forward, shape, layer)
    layer_backward(backward, shape, layer)
    held = 2 * layer.experts.held if layer.experts else 0  # added expert by expert
    eager.accumulated(backward, layer.dense_parameters, layer_tensors(layer) - held)
    return Part(
        forward=forward.steps(),
        backward=backward.steps(),
        replay=forward.steps(),
        forward_host=_host("forward", shape, layer, forward),
        backward_host=_host("backward", shape, layer, backward),
        replay_host=_host("forward", shape, layer, forward),
        parameters=layer.dense_parameters,
        expert_parameters=layer.expert_parameters,
    )


def _host(phase: str, shape: StepShape, layer: Layer, tape: Tape) -> HostWork:
    """What a measured layer of its kind costs the host, and a call for every collective in it."""
    block = "moe" if layer.experts else "llama"
    work: HostWork = ((activity(phase, "layer", block), 1), *called(tape.steps()))
    work += _replayed_core(phase, shape)
    if layer.experts:
        work += local_moe.held_host(phase, shape.routed(layer))
        work += local_moe.spread_host(phase, shape.routed(layer))
    return work + _without_rope(phase, layer)


def _attention_host(phase: str, shape: StepShape, steps: Sequence[Step], layer: Layer) -> HostWork:
    """A measured dense layer less its MLP, and a call for every collective."""
    dense: HostWork = ((activity(phase, "layer"), 1.0), *local_moe.experts_host(phase, -1))
    return (*dense, *called(steps), *_replayed_core(phase, shape), *_without_rope(phase, layer))


def _replayed_core(phase: str, shape: StepShape) -> HostWork:
    """Attention's core once more, which the measured layers keep."""
    again = phase == "backward" and shape.selective_recompute
    return module_launches("forward", 1) if again else ()


def _without_rope(phase: str, layer: Layer) -> HostWork:
    """The measured layers rotate queries and keys."""
    return () if layer.rope else ((BARE_LAUNCH, -ROPE_LAUNCHES[phase]),)


def layer_forward(tape: Tape, shape: StepShape, layer: Layer) -> None:
    """Attention and feed-forward, each between a norm and a fused add."""
    n, shard = shape.tokens, shape.shard_tokens
    attention = Tape()
    _attention_forward(attention, shape, layer)
    if layer.experts:
        tape.section(_attention_host("forward", shape, attention.steps(), layer), attention.steps())
    else:
        tape.extend(attention.steps())
    local.norm_forward(tape, layer, shard, layer.hidden)
    if layer.experts:
        local_moe.forward(tape, shape.routed(layer), shape.tensor)
    else:
        local.column_forward(tape, shape, (2 if layer.gated else 1) * layer.ffn, layer.hidden)
        tape.fresh(triton("silu_mul_halves" if layer.gated else "gelu", n, layer.ffn))
        local.row_forward(tape, shape, layer.hidden, layer.ffn)
    tape.fresh(eager.kernel("add", shard, layer.hidden))


def _attention_forward(tape: Tape, shape: StepShape, layer: Layer) -> None:
    n, shard = shape.tokens, shape.shard_tokens
    local.norm_forward(tape, layer, shard, layer.hidden)
    local.column_forward(tape, shape, layer.q + 2 * layer.kv, layer.hidden)
    if layer.biases:
        tape.fresh(eager.kernel("mul_weight", n, layer.q + 2 * layer.kv))  # a broadcast sum
    for heads in (layer.heads, layer.groups):
        if layer.qk_norm:
            local.norm_forward(tape, layer, n * heads, layer.head_dim)
        if layer.rope:
            eager.tiny(tape, shape.seq_length * layer.head_dim, ROPE_TABLE_KERNELS)
            eager.rope_forward(tape, n * heads, layer.head_dim)
            tape.fresh(eager.kernel("cat", n * heads, layer.head_dim))
    tape.run(shape.attention("forward", layer))
    local.row_forward(tape, shape, layer.hidden, layer.q)
    tape.fresh(eager.kernel("add", shard, layer.hidden))


def layer_backward(tape: Tape, shape: StepShape, layer: Layer) -> None:
    """The gradient of :func:`layer_forward`."""
    n, shard = shape.tokens, shape.shard_tokens
    if layer.experts:
        local_moe.backward(tape, shape.routed(layer))
    else:
        local.row_backward(tape, shape, layer.hidden, layer.ffn)
        name = "silu_mul_halves_backward" if layer.gated else "gelu_backward"
        tape.fresh(triton(name, n, layer.ffn))
        if layer.biases:
            tape.fresh(eager.kernel("sum_rows", n, layer.ffn))
        local.column_backward(tape, shape, (2 if layer.gated else 1) * layer.ffn, layer.hidden)
    local.norm_backward(tape, layer, shard, layer.hidden)
    tape.fresh(eager.kernel("add", shard, layer.hidden))
    attention = Tape()
    _attention_backward(attention, shape, layer)
    if layer.experts:
        tape.section(
            _attention_host("backward", shape, attention.steps(), layer), attention.steps()
        )
    else:
        tape.extend(attention.steps())


def _attention_backward(tape: Tape, shape: StepShape, layer: Layer) -> None:
    n, shard = shape.tokens, shape.shard_tokens
    local.row_backward(tape, shape, layer.hidden, layer.q)
    if shape.selective_recompute:
        tape.run(shape.attention("forward", layer))
    tape.run(shape.attention("backward", layer), kernels=eager.attention_kernels(layer))
    for heads in (layer.groups, layer.heads):
        if layer.rope:
            eager.rope_forward(tape, n * heads, layer.head_dim)  # its gradient is another rotation
            tape.fresh(eager.kernel("add", n * heads, layer.head_dim))
        if layer.qk_norm:
            local.norm_backward(tape, layer, n * heads, layer.head_dim)
    tape.run(eager.kernel("cat", n, layer.q + 2 * layer.kv))
    if layer.biases:
        tape.fresh(eager.kernel("sum_rows", n, layer.q + 2 * layer.kv))
    local.column_backward(tape, shape, layer.q + 2 * layer.kv, layer.hidden)
    local.norm_backward(tape, layer, shard, layer.hidden)
    tape.fresh(eager.kernel("add", shard, layer.hidden))


def embedding_part(shape: StepShape) -> Part:
    """Lookup and its scattered gradient."""
    forward, backward = Tape(), Tape()
    forward.run(eager.kernel("embedding", shape.tokens, shape.hidden))
    if shape.layer.rope:
        forward.collective(shape.partial_sum(shape.hidden))
    else:  # positions are added to whole sums, then a rank keeps its share
        forward.collective(shape.tensor.all_reduce(shape.activation_bytes))
        forward.run(eager.kernel("add", shape.tokens, shape.hidden))
    if shape.sequence_parallel:
        backward.collective(shape.tensor.all_gather(shape.activation_bytes))
    backward.run(eager.kernel("fill", shape.vocab, shape.hidden))
    backward.run(eager.kernel("embedding_backward", shape.tokens, shape.hidden), kernels=12)
    parameters = shape.vocab * shape.hidden
    eager.accumulated(backward, parameters, 1)
    return Part(forward=forward.steps(), backward=backward.steps(), parameters=parameters)


def head_part(shape: StepShape) -> Part:
    """Final norm, the rank's columns of the logits, the loss in fp32 pass by pass, in place."""
    n, layer, vocab = shape.tokens, shape.layer, shape.vocab
    forward, backward = Tape(), Tape()
    local.norm_forward(forward, layer, shape.shard_tokens, shape.hidden)
    local.column_forward(forward, shape, vocab, shape.hidden)
    # The maximum is subtracted, and the sum divided by, with one broadcasting kernel.
    for name in ("cast_up", "amax_fp32", "mul_rows_fp32", "exp_fp32", "sum_fp32", "mul_rows_fp32"):
        forward.run(eager.kernel(name, n, vocab))
    for _ in range(3):
        forward.collective(shape.tensor.all_reduce(4.0 * n, "fp32"))
    backward.run(eager.kernel("mul_rows_fp32", n, vocab))
    backward.run(eager.kernel("cast_down", n, vocab))
    local.column_backward(backward, shape, vocab, shape.hidden)
    local.norm_backward(backward, layer, shape.shard_tokens, shape.hidden)
    parameters = vocab * shape.hidden
    eager.accumulated(backward, parameters, 2)
    tied = shape.tied_embeddings and shape.stages == 1
    return Part(
        forward=forward.steps(),
        backward=backward.steps(),
        forward_host=((activity("forward", "fixed"), 1), *called(forward.steps())),
        backward_host=((activity("backward", "fixed"), 1), *called(backward.steps())),
        parameters=0 if tied else parameters,
    )


STACK = Stack(
    name=local_moe.STACK,
    description="Megatron-Core 0.19 local spec on torch 2.11: no Transformer Engine, no Apex",
    parallel=True,
    compared=False,
    knows=frozenset({"experts"}),
    layer=layer_part,
    embedding=embedding_part,
    head=head_part,
    replicas=replicas,
    reduced=reduced,
    optimizer=optimizer,
    memory=memory,
)
