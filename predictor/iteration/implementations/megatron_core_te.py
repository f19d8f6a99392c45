"""``megatron-core-te``: Megatron-Core with Transformer Engine layers.

What it launches a layer: a norm, a fused qkv product, rotary, cuDNN attention, the output product
with a fused bias-dropout-add, a norm, one product for gate and up, a fused activation, the second
MLP product, an add; weight gradients accumulate into fp32 inside the product; fp32 masters and
moments. The memory-bound kernels are timed by this project's own fused kernels, which move the
same bytes. No step of this stack has been compared with a measured one yet.

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
from functools import lru_cache

from predictor.dtypes import FP32_BYTES
from predictor.iteration import context
from predictor.iteration.implementations import local_moe, te_latent, te_moe
from predictor.iteration.implementations import te_adapters as thin
from predictor.iteration.implementations import te_blocks as te
from predictor.iteration.implementations.fully_sharded import fully_sharded
from predictor.iteration.implementations.megatron_steps import flat, program
from predictor.iteration.implementations.te_dense_host import dense_host
from predictor.iteration.implementations.te_host import layer_host
from predictor.iteration.launches import HostWork, Program, Segment, Step, Tape
from predictor.iteration.layer import Layer
from predictor.iteration.megatron_memory import fused_memory
from predictor.iteration.stack import Part, Replicas, Stack
from predictor.iteration.step import ALONE, Stage, StepShape
from predictor.operators import Host, Optimizer

LEAST_BUCKET_PARAMETERS = 40_000_000
BUCKET_PARAMETERS_PER_RANK = 1_000_000
"""A bucket holds the larger of 40 M and 1 M a data-parallel rank (Megatron-Core 0.8 to 0.19,
``distributed_data_parallel.py``)."""

WEIGHT_BYTES = 2


def layer_part(shape: StepShape, layer: Layer) -> Part:
    """One layer of one rank; a prediction module begins with a merge and ends with a loss."""
    forward, backward = Tape(), Tape()
    if layer.predicts:
        _merge_forward(forward, shape)
    alone = _without_experts(shape, layer)
    layer_forward(forward, shape, layer, _attention("forward", *alone))
    replay = forward.steps()
    if layer.predicts:
        head = head_part(shape)
        forward.extend(head.forward)
        backward.extend(head.backward)
    layer_backward(backward, shape, layer, _attention("backward", *alone))
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


def _without_experts(shape: StepShape, layer: Layer) -> tuple[StepShape, Layer]:
    """All that attention knows of a layer: those whose experts alone differ have the same."""
    layer = replace(layer, ffn=0, experts=None, predicts=False)
    shape = replace(
        shape,
        experts=None,
        layer=layer,
        data=ALONE,
        replicas=ALONE,
        world=ALONE,
        sharding="none",
        stages=1,
        stages_apart=False,
        micro_batches=1,
    )
    return shape, layer


@lru_cache(maxsize=1024)
def _attention(kind: str, shape: StepShape, layer: Layer) -> Tape:
    """What attention launches; once for all layers that it is the same in."""
    tape = Tape()
    if layer.latent:
        latent = te_latent.forward if kind == "forward" else te_latent.backward
        latent(tape, shape, layer, layer.latent)
    else:
        plain = _attention_forward if kind == "forward" else _attention_backward
        plain(tape, shape, layer)
    return tape


def _attention_forward(tape: Tape, shape: StepShape, layer: Layer) -> None:
    n = shape.tokens
    thin.column_forward(tape, shape, layer.linear("linear_qkv"))
    if layer.qk_norm:
        tape.fresh(te.fused("rms_norm", n * layer.heads, layer.head_dim))
        tape.fresh(te.fused("rms_norm", n * layer.groups, layer.head_dim))
    if layer.rope:
        tape.fresh(te.fused("rotary", n * layer.heads, layer.head_dim))
        tape.fresh(te.fused("rotary", n * layer.groups, layer.head_dim))
        tape.fresh(te.fused("copy", n, layer.kv))  # values, a slice beside new queries and keys
    context.forward(tape, shape, layer)
    thin.row_forward(tape, shape, layer.linear("linear_proj"))


def _attention_backward(tape: Tape, shape: StepShape, layer: Layer) -> None:
    n = shape.tokens
    thin.row_backward(tape, shape, layer.linear("linear_proj"))
    if shape.selective_recompute:
        context.forward(tape, shape, layer)
    kernels = 3 if layer.heads == layer.groups else 5
    context.backward(tape, shape, layer, kernels=kernels)
    if layer.rope:
        tape.fresh(te.fused("rotary", n * layer.heads, layer.head_dim))
        tape.fresh(te.fused("rotary", n * layer.groups, layer.head_dim))
    if layer.qk_norm:
        tape.run(te.fused("rms_norm_backward", n * layer.heads, layer.head_dim), kernels=2)
        tape.run(te.fused("rms_norm_backward", n * layer.groups, layer.head_dim), kernels=2)
    if layer.rope:  # their gradients lie apart and are put together
        tape.fresh(te.fused("copy", n, layer.q + 2 * layer.kv))
    thin.column_backward(tape, shape, layer.linear("linear_qkv"))


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
        added = "residual_add" if shape.gradient_bytes == WEIGHT_BYTES else "add_fp32"
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


def replicas(stage: Stage) -> Replicas:
    """Buckets beside the last backward pass; only the first stage splits its gradients."""
    shape = stage.shape
    if shape.sharding == "parameters":
        return Replicas()
    sharded = shape.sharding != "none"
    ranks = shape.data.ranks
    bucket = max(LEAST_BUCKET_PARAMETERS, BUCKET_PARAMETERS_PER_RANK * ranks)
    return Replicas(
        reduce="reduce_scatter" if sharded else "all_reduce",
        gradient_bytes=shape.gradient_bytes,
        bucket_parameters=bucket if stage.index == 0 else None,
        overlap_reduce=shape.overlap_grad_reduce is not False,
        gather_bytes=_gathered_bytes(shape) if sharded else 0.0,
        overlap_gather=_overlaps_gather(shape),
        aligned_gather=shape.chunks > 1,
    )


def _overlaps_gather(shape: StepShape) -> bool:
    """As asked; else in all but plain pipelines, where each stage would gather by itself."""
    if shape.overlap_param_gather is not None:
        return shape.overlap_param_gather
    return shape.stages == 1 or shape.chunks > 1


def _gathered_bytes(shape: StepShape) -> float:
    """Bytes of a parameter that ranks gather: those of one scale a tensor are already small."""
    recipe = shape.recipe
    return recipe.wire_bytes if recipe and recipe.gathers_parameters else WEIGHT_BYTES


def reduced(stage: Stage) -> Program:
    """Each bucket's norm before its reduction; the gradients' over all ranks, which the host reads.

    The first looks for numbers that are none (``check_for_nan_in_grad``, ``check_grads`` of
    ``param_and_grad_buffer.py``: Megatron-LM's default, set by NeMo and Megatron-Bridge).
    """
    tape, shape = Tape(), stage.shape
    if shape.sharding != "parameters":
        size = stage.trained_parameters * shape.gradient_bytes // FP32_BYTES
        tape.run(flat("square_sum_fp32", size))
    tape.run(flat("square_sum_fp32", stage.owned_parameters))
    tape.collective(shape.world.all_reduce(4, "fp32"), "data")
    tape.sync()
    return program("gradient norm", tape)


def optimizer(stage: Stage) -> Program:
    """One fused multi-tensor step over the parameters that the rank owns, in fp32.

    Gradients are scaled by their norm first, whatever it is (``clip_grads.py`` 0.17 on). A copy
    for each tensor makes bf16 weights of them (``distrib_optimizer.py``,
    ``_copy_main_params_to_model_params``), a pass clears the whole buffer of gradients before the
    next step. Matrices whose products are small are cast once a step, in both directions; those
    that ranks gather in small numbers are cast from fp32. The host goes over tensors in Python as
    it does in the measured step of the local layers.
    """
    tape, owned, shape = Tape(), stage.owned_parameters, stage.shape
    tape.run(flat("scale_fp32", owned))
    tape.run(Optimizer(kernel="adamw", elements=owned, dtype="fp32", impl="native"))
    if not (shape.recipe and shape.recipe.gathers_parameters):
        tape.run(flat("cast_down", owned), kernels=stage.owned_tensors)
    kept = owned if shape.sharding == "parameters" else stage.trained_parameters
    tape.run(flat("zero", shape.gradient_bytes // WEIGHT_BYTES * kept))
    for chunk in stage.chunks:
        for block in chunk.blocks:
            if block.layer.adapters and shape.recipe and shape.recipe.gathers_parameters:
                continue  # frozen weights stay small from step to step
            weights = block.layer.matrix_parameters + block.layer.expert_parameters
            rows = block.count * weights // shape.hidden
            te.operand(tape, shape.recipe, rows, shape.hidden, turned=True)
    host = (
        (Host(stack=local_moe.STACK, block="llama", phase="optimizer", quantity="fixed"), 1.0),
        (
            Host(stack=local_moe.STACK, block="llama", phase="optimizer", quantity="tensor"),
            float(stage.owned_tensors),
        ),
    )
    return ((Segment(label="optimizer", phase="optimizer", steps=tape.steps(), host=host), 1),)


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
