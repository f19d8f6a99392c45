"""Peak memory of the fullest rank: what PyTorch's allocator reports, and what it reserves.

Bytes a token and layer that eager Hugging Face models save, counted with saved-tensor hooks on
transformers 5.17 (h hidden, q and k columns of queries and keys, f FFN, a heads):

    Llama, Mistral   16h + 4q + 4k + 8f + 4a + 8
    Qwen3            the same + 6(q + k) + 4(a + groups)
    GPT-2            16h + 10f + 4a + 8
    experts          top_k·(4h + 8f + 41) + 4·experts + 4 in place of 8f; 35 for 41 where scores
                     are cast to bf16 (Qwen3)

The peak is the largest of three moments: the backward pass of the fp32 loss (saved
log-probabilities, their zeroed gradient and its result: 12 bytes a logit), the backward pass of the
last layer, and the optimizer step with every gradient alive.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np

from predictor.iteration.dimensions import Experts, Layer
from predictor.iteration.step import Stage, StepShape
from predictor.units import MIB
from predictor.values import frozen

CUBLAS_WORKSPACE_BYTES = 2 * 32 * MIB + 2 * MIB
"""32 MiB for the forward thread's handle and as much for autograd's (PyTorch on Hopper)."""

CONTEXT_BYTES = 780 * MIB
"""CUDA context with PyTorch's, cuBLAS's and cuDNN's kernels loaded: device memory in use less what
the allocator reserved, 767 to 783 MiB on an H100 (driver 580, torch 2.11)."""

FRAGMENTATION = 0.05
"""Reserved beyond allocated, as a share: median of seven measured steps (2 to 26 %)."""

NCCL_BYTES = 1024 * MIB
"""Buffers of the communicators of one rank (channels × peers × 4 MiB and more)."""


@frozen
class Memory:
    """Peak memory of the fullest rank.

    Attributes:
        parts: Bytes by part; they add up to the allocator's peak.
        reserved_bytes: Peak plus fragmentation, context and communication buffers.
    """

    parts: Mapping[str, float]
    reserved_bytes: float

    @property
    def allocated_bytes(self) -> float:
        """Peak of ``max_memory_allocated``."""
        return sum(self.parts.values())


def worst_of(*moments: Mapping[str, float]) -> dict[str, float]:
    """The moment of the largest sum; of arrays over stages, element by element."""
    totals = [sum(moment.values()) for moment in moments]
    if all(np.ndim(total) == 0 for total in totals):
        return dict(moments[int(np.argmax(totals))])
    most = np.argmax(np.stack(np.broadcast_arrays(*totals)), axis=0)
    chosen: dict[str, Any] = {
        name: np.choose(most, np.broadcast_arrays(*(moment[name] for moment in moments), most)[:-1])
        for name in moments[0]
    }
    return chosen


def largest(sizes: Iterable[float]) -> float:
    """The largest of some bytes, 0 of none; of arrays over stages, element by element."""
    return reduce(np.maximum, sizes, 0.0)


def finished(parts: dict[str, float], *, distributed: bool) -> Memory:
    """Parts of the allocator's peak, and what the device holds beside them."""
    allocated = sum(parts.values())
    extra = CONTEXT_BYTES + (NCCL_BYTES if distributed else 0)
    return Memory(parts, allocated * (1 + FRAGMENTATION) + extra)


def eager_saved_bytes(layer: Layer) -> float:
    """Bytes a token and layer that eager Hugging Face keeps for the backward pass."""
    h, q, k, f, a = layer.hidden, layer.q, layer.kv, layer.ffn, layer.heads
    if layer.block == "gpt2":
        return 16 * h + 10 * f + 4 * a + 8
    saved = 16 * h + 4 * q + 4 * k + 8 * f + 4 * a + 8
    if layer.qk_norm:
        saved += 6 * (q + k) + 4 * (a + layer.groups)
    if layer.experts:
        routing = 35 if layer.qk_norm else 41
        saved += layer.experts.top_k * (4 * h + 8 * layer.experts.ffn + routing)
        saved += 4 * layer.experts.total + 4
    return saved


def compiled_saved_bytes(layer: Layer) -> float:
    """Bytes a token and layer that inductor's partitioner keeps.

    Gated: two norm inputs or outputs (8h to 10h), repeated heads, gate, up and product; GPT-2: both
    norm outputs, qkv and attention output, the activation's input and output.
    """
    q, k, f = layer.q, layer.kv, layer.ffn
    if layer.block == "gpt2":
        return 4 * layer.hidden + 8 * q + 4 * f + 4 * layer.heads + 8
    saved = 9 * layer.hidden + 8 * q + (6 if layer.gated else 4) * f + 4 * layer.heads + 8
    return saved + (2 * (q + k) if layer.qk_norm else 0)


def _peak(stage: Stage, saved: Callable[[Layer], float], *, logit_bytes: float) -> dict[str, float]:
    """The largest of a single-GPU step's moments: loss, last and first layer, update."""
    shape = stage.shape
    n = shape.tokens
    state = 4 if shape.fp32_states else 2
    parameters = 1.0 * state * stage.parameters
    moments = 2.0 * parameters
    gradients = parameters if shape.micro_batches > 1 else 0.0
    blocks = [block for chunk in stage.chunks for block in chunk.blocks]
    kept = sum(
        block.count * (2.0 * shape.hidden if block.replayed else saved(block.layer))
        for block in blocks
    )
    replay = largest(n * saved(block.layer) for block in blocks if block.replayed)
    head = float(state * shape.vocab * shape.hidden)
    loss = {
        "activations": n * kept,
        "logits and loss": n * (logit_bytes * shape.vocab + 8.0 * shape.hidden),
        "gradients": gradients,
    }
    last, first = blocks[-1].layer, blocks[0].layer
    last_layer = {
        "activations": n * (kept + _passing_bytes(last)) + replay,
        "logits and loss": 0.0,
        "gradients": max(gradients, head + state * last.expert_parameters),
    }
    moments_of_backward = [last_layer]
    if first.experts:  # its weights' gradients are made when all layers behind have theirs
        behind = sum(block.count * block.layer.parameters for block in blocks) - first.parameters
        first_layer = {
            "activations": n * (saved(first) + _passing_bytes(first)),
            "logits and loss": 0.0,
            "gradients": max(gradients, head + state * (behind + first.expert_parameters)),
        }
        moments_of_backward.append(first_layer)
    update = {"activations": 0.0, "logits and loss": 0.0, "gradients": parameters}
    worst = worst_of(loss, *moments_of_backward, update)
    return {
        "parameters": parameters,
        "optimizer states": moments,
        **worst,
        "workspaces": float(CUBLAS_WORKSPACE_BYTES),
    }


def _passing_bytes(layer: Layer) -> float:
    """Bytes a token beyond what a layer keeps, as its backward pass makes weights' gradients.

    Of experts that is the gradient of the first product's output and of its input, when what the
    activation and the second product read is free again (tensors followed through transformers'
    ``grouped_mm`` experts on torch 2.11).
    """
    if layer.experts is None:
        return 6.0 * layer.ffn + 12.0 * layer.hidden
    freed, made = 8.0 * layer.experts.ffn, 4.0 * layer.experts.ffn + 2.0 * layer.hidden
    return layer.experts.top_k * (made - freed) + 2.0 * layer.hidden


def eager_memory(stage: Stage, in_flight: tuple[int, ...] = (1,)) -> Memory:
    """One GPU, eager: 12 bytes a logit at the loss."""
    del in_flight
    return finished(_peak(stage, eager_saved_bytes, logit_bytes=12.0), distributed=False)


def compiled_memory(stage: Stage, in_flight: tuple[int, ...] = (1,)) -> Memory:
    """One GPU, compiled: three bf16 buffers of logits at the loss."""
    del in_flight
    return finished(_peak(stage, compiled_saved_bytes, logit_bytes=6.0), distributed=False)


def fused_memory(stage: Stage, in_flight: tuple[int, ...]) -> Memory:
    """Megatron-Core with Transformer Engine layers: one stage with micro-batches in flight.

    A layer keeps per token: two norm inputs and two norm outputs (8h, split over the sequence
    shard), q, k, v, the attention output and its statistics, the gate and up columns and their
    product (Korthikanti et al., arXiv:2205.05198, eq. 1–5, with flash attention and no dropout).

    Args:
        stage: What it holds.
        in_flight: Micro-batches whose activations each of its chunks holds at the peak.
    """
    shape = stage.shape
    heads = 1 + sum(
        block.count for chunk in stage.chunks for block in chunk.blocks if block.layer.predicts
    )
    logits = 10.0 * shape.tokens * shape.vocab * heads
    held, whole = stage.parameters, 0
    if shape.sharding == "parameters":  # shards, and two layers whole with one layer's gradient
        held = stage.owned_parameters
        whole = max(b.layer.parameters for chunk in stage.chunks for b in chunk.blocks)
    parts = {
        "parameters": 2.0 * held + 4.0 * whole,
        "optimizer states": 12.0 * stage.owned_parameters,
        "activations": fused_activations(stage, in_flight),
        "logits and loss": logits if stage.last else 0.0,
        "gradients": 1.0 * shape.gradient_bytes * (held + whole),
        "workspaces": float(CUBLAS_WORKSPACE_BYTES),
    }
    return finished(parts, distributed=shape.world.ranks > 1)


def fused_activations(stage: Stage, in_flight: tuple[int, ...]) -> float:
    """Bytes that a stage's layers keep, and one replayed layer anew.

    Args:
        stage: What it holds.
        in_flight: Micro-batches whose activations each of its chunks holds at the peak.
    """
    return _activations(stage, in_flight, _fused_saved_bytes)


def _activations(
    stage: Stage, in_flight: tuple[int, ...], saved_bytes: Callable[[StepShape, Layer], float]
) -> float:
    """Bytes kept by all micro-batches in flight; what one layer replays is there anew.

    A layer that is replayed whole keeps its input.
    """
    shape = stage.shape
    whole = replace(shape, recomputed=frozenset()) if shape.recomputed else None
    activations = replay = 0.0
    for chunk, batches in zip(stage.chunks, in_flight, strict=True):
        for block in chunk.blocks:
            kept = saved_bytes(shape, block.layer)
            if block.replayed:
                replay = largest((replay, kept))
                kept = 2.0 * shape.shard_tokens * shape.hidden
            elif whole is not None:
                replay = largest((replay, saved_bytes(whole, block.layer) - kept))
            activations += kept * block.count * batches
    return activations + replay


def _fused_saved_bytes(shape: StepShape, layer: Layer) -> float:
    """Bytes that one layer keeps of a micro-batch, less what is recomputed."""
    n, norms = shape.tokens, 2
    kept = 4.0 * n * layer.heads
    if layer.latent:
        kept += 4.0 * shape.shard_tokens * (layer.latent.q_rank + layer.latent.kv_rank)
        kept += 2.0 * n * layer.v
        kept += 0.0 if "mla_up_proj" in shape.recomputed else 2.0 * n * (2 * layer.q + layer.v)
        norms -= "layernorm" in shape.recomputed
    else:
        kept += 2.0 * n * (2 * layer.q + 2 * layer.kv)
    if layer.experts:
        kept += _experts_saved_bytes(shape, layer, layer.experts)
        norms -= "layernorm" in shape.recomputed
    elif "mlp" in shape.recomputed:
        norms -= 1
    else:
        kept += 2.0 * n * (3 if layer.gated else 2) * layer.ffn
    return kept + 2.0 * (2 + norms) * shape.shard_tokens * layer.hidden


def _experts_saved_bytes(shape: StepShape, layer: Layer, experts: Experts) -> float:
    """Bytes that experts and the MLPs beside them keep; nothing where all of them run again.

    The router's fp32 logits and scores, the experts' inputs, the first product and the activation
    of every row they run; what dispatch and combine send is not kept.
    """
    if "moe" in shape.recomputed:
        return 0.0
    n, up = shape.tokens, 2 if layer.gated else 1
    inside = up + ("moe_act" not in shape.recomputed)
    kept = 8.0 * shape.shard_tokens * experts.total
    kept += 2.0 * shape.routed(layer).rows * (layer.hidden + inside * experts.ffn)
    beside = experts.residual_ffn
    beside += 0 if "shared_experts" in shape.recomputed else experts.shared_ffn
    return kept + 2.0 * n * (up + 1) * beside


def unfused_memory(stage: Stage, in_flight: tuple[int, ...]) -> Memory:
    """Megatron-LM before flash attention: scores, their softmax and its dropout are kept.

    Bytes a layer: 10·s·b·h over the sequence shard, 8·q + 4·f a token, 5·a·s² a sequence unless
    core attention is recomputed (Korthikanti et al., arXiv:2205.05198, eq. 1 to 6).

    Args:
        stage: What it holds.
        in_flight: Micro-batches whose activations each of its chunks holds at the peak.
    """
    shape = stage.shape
    parts = {
        "parameters": 2.0 * stage.parameters,
        "optimizer states": 12.0 * stage.owned_parameters,
        "activations": _activations(stage, in_flight, _unfused_saved_bytes),
        "logits and loss": shape.tokens * shape.vocab * 10.0 if stage.last else 0.0,
        "gradients": 1.0 * shape.gradient_bytes * stage.parameters,
        "workspaces": float(CUBLAS_WORKSPACE_BYTES),
    }
    return finished(parts, distributed=shape.world.ranks > 1)


def _unfused_saved_bytes(shape: StepShape, layer: Layer) -> float:
    scores = 5.0 * shape.batch * layer.heads * shape.seq_length**2
    kept = 10.0 * shape.shard_tokens * layer.hidden
    kept += shape.tokens * (8.0 * layer.q + 4.0 * layer.ffn)
    return kept if shape.selective_recompute else kept + scores
