"""``megatron-core-te``: Megatron-Core with Transformer Engine layers.

What it launches a layer: a norm, a fused qkv product, rotary, cuDNN attention, the output product
with a fused bias-dropout-add, a norm, one product for gate and up, a fused activation, the second
MLP product, an add; weight gradients accumulate into fp32 inside the product; fp32 masters and
moments. The memory-bound kernels are timed by this project's own fused kernels, which move the
same bytes. No step of this stack was measured for this project; published ones are compared
(docs/implementations.md).

Tensor parallelism (Transformer Engine 2.8 ``module/layernorm_linear.py``, ``linear.py``): with
sequence parallelism an all-gather before and a reduce-scatter behind each pair of products, exposed
in the forward pass; in the backward pass the gather of the output's gradient is exposed, the second
gather of the input runs beside the dgrad product and the scatter beside the wgrad product. Without,
one all-reduce behind each pair, in the backward pass beside the wgrad product.

Selective recomputation replays what ``training.recompute_modules`` names (Megatron-Core 0.12 to
0.19, ``transformer_layer.py``, ``multi_latent_attention.py``, ``moe/moe_layer.py``): ``mlp`` and
``moe`` run whole again, collectives included; ``layernorm`` means norms that are modules of their
own, before latent attention and before experts.
"""

from collections.abc import Sequence
from dataclasses import replace

from predictor.dtypes import BF16_BYTES
from predictor.iteration.implementations import te_adapters as thin
from predictor.iteration.implementations import te_blocks as te
from predictor.iteration.implementations import te_moe
from predictor.iteration.implementations.fully_sharded import fully_sharded
from predictor.iteration.implementations.te_attention import attention, without_experts
from predictor.iteration.implementations.te_dense_host import dense_host
from predictor.iteration.implementations.te_host import layer_host
from predictor.iteration.implementations.te_steps import optimizer, reduced, replicas
from predictor.iteration.launches import HostWork, Step, Tape
from predictor.iteration.layer import Layer
from predictor.iteration.megatron_memory import fused_memory
from predictor.iteration.stack import Part, Stack
from predictor.iteration.step import StepShape


def layer_part(shape: StepShape, layer: Layer) -> Part:
    """One layer of one rank; a prediction module begins with a merge and ends with a loss."""
    forward, backward = Tape(), Tape()
    if layer.predicts:
        _merge_forward(forward, shape)
    alone = without_experts(shape, layer)
    layer_forward(forward, shape, layer, attention("forward", *alone))
    replay = forward.steps()
    if layer.predicts:
        head = head_part(shape)
        forward.extend(head.forward)
        backward.extend(head.backward)
    layer_backward(backward, shape, layer, attention("backward", *alone))
    if layer.predicts:
        _merge_backward(backward, shape)
    again = _host(shape, layer, "forward", replay)
    steps = backward.steps()
    if layer.adapters and layer.adapters.lowest:
        steps = thin.lowest(steps)
    return Part(
        forward=forward.steps(),
        backward=steps,
        replay=replay,
        forward_host=_host(shape, layer, "forward", forward.steps()) if layer.predicts else again,
        backward_host=_host(shape, layer, "backward", steps),
        replay_host=again,
        parameters=layer.trained_parameters,
        expert_parameters=layer.expert_parameters,
    )


def _host(shape: StepShape, layer: Layer, phase: str, steps: Sequence[Step]) -> HostWork:
    """By measured layers of Megatron-Core's local spec."""
    if layer.experts:
        return layer_host(phase, steps, shape.routed(layer), shape.cuda_graph)
    added = thin.products(layer, phase)
    return dense_host(phase, steps, graphs=shape.cuda_graph, rings=te.rings(shape), added=added)


def layer_forward(tape: Tape, shape: StepShape, layer: Layer, attention: Tape) -> None:
    """Norms and adds run on the rank's share of the sequence."""
    shard = shape.shard_tokens
    tape.fresh(te.fused(te.norm(layer), shard, layer.hidden))
    tape.play(attention)
    tape.fresh(te.fused("residual_add", shard, layer.hidden))
    if layer.experts:
        te_moe.forward(tape, shape, layer)
    else:
        _mlp_forward(tape, shape, layer)
    tape.fresh(te.fused("residual_add", shard, layer.hidden))


def layer_backward(tape: Tape, shape: StepShape, layer: Layer, attention: Tape) -> None:
    """One layer's gradient on one rank."""
    shard = shape.shard_tokens
    if layer.experts:
        te_moe.backward(tape, shape, layer)
    else:
        _mlp_backward(tape, shape, layer)
    tape.play(attention)
    if layer.latent and "layernorm" in shape.recomputed:  # others' are part of a product
        tape.fresh(te.fused(te.norm(layer), shard, layer.hidden))
    tape.fresh(te.fused(te.norm(layer) + "_backward", shard, layer.hidden), kernels=2)
    tape.fresh(te.fused("residual_add", shard, layer.hidden))


def _mlp_forward(tape: Tape, shape: StepShape, layer: Layer) -> None:
    tape.fresh(te.fused(te.norm(layer), shape.shard_tokens, layer.hidden))
    thin.column_forward(tape, shape, layer.linear("linear_fc1"))
    tape.fresh(te.fused("silu_mul" if layer.gated else "gelu", shape.tokens, layer.ffn))
    thin.row_forward(tape, shape, layer.linear("linear_fc2"))


def _mlp_backward(tape: Tape, shape: StepShape, layer: Layer) -> None:
    shard = shape.shard_tokens
    if "mlp" in shape.recomputed:
        _mlp_forward(tape, shape, layer)
    thin.row_backward(tape, shape, layer.linear("linear_fc2"))
    name = "silu_mul_backward" if layer.gated else "gelu_backward"
    tape.fresh(te.fused(name, shape.tokens, layer.ffn))
    thin.column_backward(tape, shape, layer.linear("linear_fc1"))
    tape.fresh(te.fused(te.norm(layer) + "_backward", shard, layer.hidden), kernels=2)
    tape.fresh(te.fused("residual_add", shard, layer.hidden))


def _merge_forward(tape: Tape, shape: StepShape) -> None:
    """The next tokens' embeddings and the residual stream, both normalised, become one stream."""
    tape.run(te.fused("embedding", shape.tokens, shape.hidden))
    for _ in range(2):
        tape.run(te.fused("rms_norm", shape.shard_tokens, shape.hidden))
    tape.run(te.fused("copy", shape.shard_tokens, 2 * shape.hidden))
    te.column_forward(tape, shape, shape.hidden, 2 * shape.hidden)


def _merge_backward(tape: Tape, shape: StepShape) -> None:
    te.column_backward(tape, shape, shape.hidden, 2 * shape.hidden)
    for _ in range(2):
        tape.run(te.fused("rms_norm_backward", shape.shard_tokens, shape.hidden), kernels=2)
    tape.run(te.fused("embedding_backward", shape.tokens, shape.hidden))


def embedding_part(shape: StepShape, *, accumulates: bool = True) -> Part:
    """Lookup of the rank's rows and the sum over ranks.

    Autograd makes a whole bf16 table of gradients; with ``accumulates`` a hook adds it to the main
    gradients in every micro-batch (``distributed_data_parallel.py``), as products add theirs.
    Nothing is made of a frozen table.
    """
    forward, backward = Tape(), Tape()
    forward.run(te.fused("embedding", shape.tokens, shape.hidden))
    forward.collective(shape.partial_sum(shape.hidden))
    if shape.layer.adapters:
        return Part(forward=forward.steps(), backward=())
    if shape.sequence_parallel:
        backward.collective(shape.tensor.all_gather(shape.activation_bytes))
    backward.run(te.fused("zero", shape.vocab, shape.hidden))
    backward.run(te.fused("embedding_backward", shape.tokens, shape.hidden))
    if accumulates:
        added = "residual_add" if shape.gradient_bytes == BF16_BYTES else "add_fp32"
        backward.run(te.fused(added, shape.vocab, shape.hidden))
    return Part(
        forward=forward.steps(),
        backward=backward.steps(),
        parameters=shape.vocab * shape.hidden,
    )


def head_part(shape: StepShape) -> Part:
    """Final norm, the rank's columns of the logits, loss on bf16 logits read once in fp32.

    The loss needs the rows' largest logit, their sum and the target's logit from all ranks.
    """
    n, layer = shape.tokens, shape.layer
    shape = replace(shape, recipe=None, tp_overlap=False)
    forward, backward = Tape(), Tape()
    forward.fresh(te.fused(te.norm(layer), shape.shard_tokens, shape.hidden))
    te.column_forward(forward, shape, shape.vocab, shape.hidden)
    forward.run(te.fused("cast_up", n, shape.vocab))
    forward.run(te.fused("cross_entropy", n, shape.vocab))
    for _ in range(3):
        forward.collective(shape.tensor.all_reduce(4.0 * n, "fp32"))
    backward.run(te.fused("cross_entropy_backward", n, shape.vocab))
    backward.run(te.fused("cast_down", n, shape.vocab))
    trained = layer.adapters is None
    te.column_backward(backward, shape, shape.vocab, shape.hidden, trained=trained)
    backward.fresh(te.fused(te.norm(layer) + "_backward", shape.shard_tokens, shape.hidden))
    own = trained and not (shape.tied_embeddings and shape.stages == 1)
    return Part(
        forward=forward.steps(),
        backward=backward.steps(),
        parameters=shape.vocab * shape.hidden if own else 0,
    )


def overlap_p2p(shape: StepShape) -> bool:
    """Interleaved schedules run messages beside computation, plain ones stop for them."""
    return shape.chunks > 1 if shape.overlap_p2p is None else shape.overlap_p2p


STACK = Stack(
    name="megatron-core-te",
    description="Megatron-Core with Transformer Engine layers (compute only compared by parts)",
    parallel=True,
    compared=False,
    knows=frozenset(
        {
            "adapters",
            "backends",
            "context",
            "experts",
            "fp8",
            "latent",
            "modules",
            "mxfp8",
            "nvfp4",
            "windows",
        }
    ),
    layer=lambda shape, layer: fully_sharded(layer_part(shape, layer), shape),
    embedding=lambda shape: fully_sharded(embedding_part(shape), shape),
    head=lambda shape: fully_sharded(head_part(shape), shape),
    replicas=replicas,
    reduced=reduced,
    optimizer=optimizer,
    overlap_p2p=overlap_p2p,
    memory=fused_memory,
)
