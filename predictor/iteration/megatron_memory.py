"""What the Megatron lineage keeps on a stage of many ranks, with fused attention and without."""

from collections.abc import Callable
from dataclasses import replace

from predictor.iteration.layer import Layer
from predictor.iteration.layer_parts import Adapters, Experts
from predictor.iteration.memory import CUBLAS_WORKSPACE_BYTES, Memory, finished, largest
from predictor.iteration.step import Stage, StepShape


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
    held, graded, whole = stage.parameters, stage.trained_parameters, 0
    if shape.sharding == "parameters":  # shards, and two layers whole with one layer's gradient
        held = graded = stage.owned_parameters
        whole = max(b.layer.parameters for chunk in stage.chunks for b in chunk.blocks)
    parts = {
        "parameters": 2.0 * held + 4.0 * whole,
        "optimizer states": 12.0 * stage.owned_parameters,
        "activations": fused_activations(stage, in_flight),
        "logits and loss": logits if stage.last else 0.0,
        "gradients": 1.0 * shape.gradient_bytes * (graded + whole),
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
    if layer.adapters:
        return _adapted_saved_bytes(shape, layer, layer.adapters)
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


def _adapted_saved_bytes(shape: StepShape, layer: Layer, adapters: Adapters) -> float:
    """The same where adapters alone are trained: frozen products keep no input, adapters theirs.

    Both norms' inputs, queries, keys, values, attention's output and its statistics, and what the
    activation reads are kept for their own gradients. An adapter behind a norm keeps that one's
    output, gathered over tensor ranks; one behind the activation keeps its output; each keeps the
    ``rank`` columns between its products (Transformer Engine 2.8 ``linear.py``: ``saved_inputmat``
    of a frozen weight is None; Megatron-Core ``tensor_parallel/layers.py``).
    """
    n, up = shape.tokens, 2 if layer.gated else 1
    kept = 4.0 * shape.shard_tokens * layer.hidden + 4.0 * n * layer.heads
    kept += 2.0 * n * (2 * layer.q + 2 * layer.kv)
    inputs = {
        "linear_qkv": layer.hidden,
        "linear_proj": 0,  # attention's output, kept anyway
        "linear_fc1": layer.hidden,
        "linear_fc2": layer.ffn,
    }
    modules = adapters.modules
    if "mlp" in shape.recomputed:
        modules -= {"linear_fc1", "linear_fc2"}
    else:
        kept += 2.0 * n * up * layer.ffn
    return kept + sum(2.0 * n * (inputs[name] + adapters.rank) for name in modules)


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
