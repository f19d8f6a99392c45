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

Rotary embedding is written out (``gpt_oss/rope_utils.py``; ``deepseek_v3/rope_utils.py`` for latent
attention): the recipes of 2025-10, which the published table was made with, know no fused one.
Queries, keys and values are products of their own, so that three gradients of their input are added
up; they are priced as one product. Dense and shared feed-forwards take an eager SiLU and a product
(``moe/layers.py``), attention sinks a product of the output (``flex_attention.py``).

An expert's bf16 weight gradient and its addition to what earlier micro-batches left move 8 bytes a
weight, as many as a product that accumulates in fp32; layers are therefore those of
``megatron-core-te``. FSDP2 adds the others' into fp32 by a kernel of its own.
"""

from collections.abc import Sequence
from dataclasses import replace

from predictor.dtypes import BF16_BYTES, FP32_BYTES
from predictor.iteration.implementations import eager_blocks as eager
from predictor.iteration.implementations import te_blocks as te
from predictor.iteration.implementations.megatron_core_te import embedding_part
from predictor.iteration.implementations.megatron_core_te import layer_part as te_layer_part
from predictor.iteration.launches import HostWork, Launch, Program, Segment, Step, Tape
from predictor.iteration.layer import Layer
from predictor.iteration.layer_parts import Latent
from predictor.iteration.megatron_memory import fused_activations
from predictor.iteration.memory import CUBLAS_WORKSPACE_BYTES, Memory, finished
from predictor.iteration.stack import Part, Replicas, Stack, flashed, module_launches
from predictor.iteration.step import Stage, StepShape
from predictor.operators import Gemm, MemoryBound

LOGIT_BYTES = 8.0
"""At the loss's backward pass, all bf16: logits, log-probabilities, zeroed gradient, its result."""

OPTIMIZER_PASSES = ("mul_scalar",) * 5 + ("add",) * 3
"""Passes of ``foreach`` Adam over bf16 states (38 bytes a parameter)."""


HALVES = ("rope_mul",) * 4 + ("add",) * 2
"""Kernels over half of a head each: products with cosines and sines, and their sums."""

COMPLEX = ("cast_up", "mul_rows_fp32", "cast_down")
"""Pairs of numbers as complex ones in fp32, times the angles; their gradient is the same."""

ACTIVATION = {"silu_mul": ("silu", "mul"), "silu_mul_backward": ("mul", "mul", "silu_backward")}


def layer_part(shape: StepShape, layer: Layer) -> Part:
    """The layer of Transformer Engine, with what AutoModel leaves to PyTorch written out."""
    if shape.experts is not None:
        shape = replace(shape, experts=replace(shape.experts, fused_clamp=True))
    part = te_layer_part(shape, layer)
    forward = _written_out(part.forward, "forward", shape, layer)
    backward = _written_out(part.backward, "backward", shape, layer)
    replay = _written_out(part.replay, "forward", shape, layer)
    return replace(
        part,
        forward=forward,
        backward=backward,
        replay=replay,
        forward_host=_with_more(part.forward_host, "forward", part.forward, forward),
        backward_host=_with_more(part.backward_host, "backward", part.backward, backward),
        replay_host=_with_more(part.replay_host, "forward", part.replay, replay),
    )


def _written_out(
    steps: Sequence[Step], phase: str, shape: StepShape, layer: Layer
) -> tuple[Step, ...]:
    tape = Tape()
    for step in steps:
        operator = step.operator if isinstance(step, Launch) else None
        if not isinstance(operator, MemoryBound):
            _accumulate(tape, step, shape)
        elif operator.kernel == "rotary":
            _rotate(tape, phase, operator, in_halves=layer.latent is None)
        elif operator.kernel in ACTIVATION:
            for name in ACTIVATION[operator.kernel]:
                tape.fresh(eager.kernel(name, operator.rows, operator.cols))
        else:
            tape.extend((step,))
    if layer.latent:
        _latent(tape, phase, shape.tokens, layer.heads, layer.head_dim, layer.latent)
    elif phase == "backward":
        for _ in range(2):
            tape.fresh(eager.kernel("add", shape.tokens, layer.hidden))
    if layer.biases:
        _sink(tape, phase, shape.tokens, layer.q)
        return flashed(tape.steps())
    return tape.steps()


def _accumulate(tape: Tape, step: Step, shape: StepShape) -> None:
    """A step, or a product for a weight's gradient and what FSDP2 does with it.

    Gradients that are not reduced yet are summed in the type that they are reduced in (torch
    2.11 ``_fsdp_param.py``, ``accumulate_unsharded_grad_if_needed``).
    """
    operator = step.operator if isinstance(step, Launch) else None
    if not (isinstance(operator, Gemm) and operator.kind == "wgrad" and operator.accumulate):
        tape.extend((step,))
        return
    tape.run(replace(operator, accumulate=False))
    if shape.micro_batches > 1:
        tape.fresh(eager.kernel("accumulate_fp32", operator.n, operator.k))


def _rotate(tape: Tape, phase: str, whole: MemoryBound, *, in_halves: bool) -> None:
    """A rotary embedding: of a head's two halves, put together again, or of complex numbers."""
    if not in_halves:
        for name in COMPLEX:
            tape.fresh(eager.kernel(name, whole.rows, whole.cols))
        return
    for name in HALVES:
        tape.fresh(eager.kernel(name, whole.rows, whole.cols // 2))
    if phase == "backward":
        tape.fresh(eager.kernel("rope_neg", whole.rows, whole.cols))
    tape.fresh(eager.kernel("cat", whole.rows, whole.cols))


def _latent(tape: Tape, phase: str, tokens: int, heads: int, head_dim: int, latent: Latent) -> None:
    """Parts of heads put together, or cut apart; what was projected down likewise.

    All heads share one rotary key, whose gradient is their sum (``deepseek_v3/layers.py``).
    """
    tape.fresh(eager.kernel("cat", tokens * heads, head_dim))
    if phase == "forward":  # a norm takes whole tensors
        tape.fresh(eager.kernel("rope_clone", tokens, latent.kv_rank))
        return
    tape.fresh(eager.kernel("cat", tokens, latent.kv_rank + latent.rope))
    tape.run(eager.kernel("sum_rows", tokens, heads * latent.rope))


def _sink(tape: Tape, phase: str, rows: int, cols: int) -> None:
    """Attention's output times what the sink leaves of it, put in the order of tokens."""
    tape.fresh(eager.kernel("mul_weight", rows, cols))
    tape.fresh(eager.kernel("cat", rows, cols))
    if phase == "backward":  # the factor's gradient: a product and its sum over a head
        tape.fresh(eager.kernel("mul", rows, cols))
        tape.fresh(eager.kernel("sum_rows", rows, cols))


def _with_more(
    host: HostWork | None, phase: str, before: Sequence[Step], after: Sequence[Step]
) -> HostWork | None:
    """Host work with the launches that came on top."""
    more = len(after) - len(before)
    return host if host is None or not more else (*host, *module_launches(phase, more))


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
    summed = Tape()
    for step in backward.steps():
        _accumulate(summed, step, shape)
    tied = shape.tied_embeddings and shape.stages == 1
    return Part(
        forward=forward.steps(),
        backward=summed.steps(),
        parameters=0 if tied else shape.vocab * shape.hidden,
    )


def replicas(stage: Stage) -> Replicas:
    """A gather before each layer's first use, a reduction behind its last gradient."""
    if stage.shape.sharding == "none":
        return Replicas(reduce="all_reduce", gradient_bytes=FP32_BYTES, overlap_reduce=True)
    return Replicas(
        reduce="reduce_scatter",
        gradient_bytes=FP32_BYTES,
        bucket_parameters=max(1, stage.shape.layer.dense_parameters),
        overlap_reduce=stage.shape.overlap_grad_reduce is not False,
        gather_bytes=BF16_BYTES,
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
        "gradients": FP32_BYTES * dense + 2.0 * experts,
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
