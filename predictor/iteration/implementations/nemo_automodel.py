"""``nemo-automodel``: NeMo AutoModel with Transformer Engine layers, DeepEP and FSDP2.

Read in NeMo AutoModel at 36044ad3d (2026-08-22), ``examples/llm_benchmark`` and the code that they
use: bf16 parameters and Adam states; attention, norms, products and activations of Transformer
Engine; experts whole on the ranks of their group and left out of FSDP unless replicas outnumber the
group; the rest sharded layer by layer, gathered once a step (``reshard_after_forward`` is off) and
reduced in fp32 once a step, with the last micro-batch; a loss on bf16 logits; ``torch.optim.Adam``
over lists of tensors; no clipping. The benchmarks' balanced gate gives each token experts that lie
next to each other, which ``model.moe.imbalance = "consecutive"`` stands for.

GPT-OSS, whose layers have biases and attention sinks, takes PyTorch's FlexAttention (the benchmark
table says so): timed as FlashAttention-2, which it reaches 85 to 90 % of (pytorch.org/blog,
flexattention, 2024-08).

A bf16 weight gradient and its addition to what earlier micro-batches left move 8 bytes a weight, as
many as a product that accumulates in fp32; layers are therefore those of ``megatron-core-te``.
"""

from dataclasses import replace

from predictor.iteration.dimensions import Layer
from predictor.iteration.implementations import eager_blocks as eager
from predictor.iteration.implementations import te_blocks as te
from predictor.iteration.implementations.megatron_core_te import embedding_part
from predictor.iteration.implementations.megatron_core_te import layer_part as te_layer_part
from predictor.iteration.launches import Program, Segment, Tape
from predictor.iteration.memory import CUBLAS_WORKSPACE_BYTES, Memory, finished, fused_activations
from predictor.iteration.stack import Part, Replicas, Stack, flashed
from predictor.iteration.step import Stage, StepShape

GRADIENT_BYTES = 4.0
WEIGHT_BYTES = 2.0
LOGIT_BYTES = 8.0
"""At the loss's backward pass, all bf16: logits, log-probabilities, zeroed gradient, its result."""

OPTIMIZER_PASSES = ("mul_scalar",) * 5 + ("add",) * 3
"""Passes of ``foreach`` Adam over bf16 states (38 bytes a parameter)."""


def layer_part(shape: StepShape, layer: Layer) -> Part:
    """The layer of Transformer Engine, with other attention where it has sinks."""
    part = te_layer_part(shape, layer)
    if not layer.biases:
        return part
    return replace(
        part,
        forward=flashed(part.forward),
        backward=flashed(part.backward),
        replay=flashed(part.replay),
    )


def head_part(shape: StepShape) -> Part:
    """Final norm, logits, log-softmax and its gradient in bf16."""
    n, forward, backward = shape.tokens, Tape(), Tape()
    forward.fresh(te.fused(te.norm(shape.layer), shape.shard_tokens, shape.hidden))
    te.column_forward(forward, shape, shape.vocab, shape.hidden)
    forward.run(eager.kernel("softmax", n, shape.vocab))
    backward.run(eager.kernel("fill", n, shape.vocab))
    backward.run(eager.kernel("softmax_backward", n, shape.vocab))
    te.column_backward(backward, shape, shape.vocab, shape.hidden)
    name = te.norm(shape.layer) + "_backward"
    backward.fresh(te.fused(name, shape.shard_tokens, shape.hidden), kernels=2)
    tied = shape.tied_embeddings and shape.stages == 1
    return Part(
        forward=forward.steps(),
        backward=backward.steps(),
        parameters=0 if tied else shape.vocab * shape.hidden,
    )


def replicas(stage: Stage) -> Replicas:
    """A gather before each layer's first use, a reduction behind its last gradient."""
    if stage.shape.sharding == "none":
        return Replicas(reduce="all_reduce", gradient_bytes=GRADIENT_BYTES, overlap_reduce=True)
    return Replicas(
        reduce="reduce_scatter",
        gradient_bytes=GRADIENT_BYTES,
        bucket_parameters=max(1, stage.shape.layer.dense_parameters),
        overlap_reduce=stage.shape.overlap_grad_reduce is not False,
        gather_bytes=WEIGHT_BYTES,
        overlap_gather=stage.shape.overlap_param_gather is not False,
    )


def optimizer(stage: Stage) -> Program:
    """Pass by pass over the parameters that the rank owns."""
    tape = Tape()
    launches = 1 + stage.tensors // 30
    for name in OPTIMIZER_PASSES:
        tape.run(eager.kernel(name, stage.owned_parameters, 1), kernels=launches)
    return ((Segment(label="optimizer", phase="optimizer", steps=tape.steps()), 1),)


def memory(stage: Stage, in_flight: tuple[int, ...]) -> Memory:
    """Shards, gathered weights and whole fp32 gradients outside experts; experts in bf16."""
    shape, experts = stage.shape, stage.expert_parameters
    dense = stage.parameters - experts
    parts = {
        "parameters": 2.0 * stage.owned_parameters + 2.0 * dense,
        "optimizer states": 4.0 * stage.owned_parameters,
        "gradients": GRADIENT_BYTES * dense + 2.0 * experts,
        "activations": fused_activations(stage, in_flight),
        "logits and loss": LOGIT_BYTES * shape.tokens * shape.vocab if stage.last else 0.0,
        "workspaces": float(CUBLAS_WORKSPACE_BYTES),
    }
    return finished(parts, distributed=shape.world.ranks > 1)


STACK = Stack(
    name="nemo-automodel",
    description="NeMo AutoModel: Transformer Engine layers, DeepEP, FSDP2",
    parallel=True,
    compared=False,
    knows=frozenset({"experts", "latent", "windows"}),
    layer=layer_part,
    embedding=embedding_part,
    head=head_part,
    replicas=replicas,
    optimizer=optimizer,
    memory=memory,
)
