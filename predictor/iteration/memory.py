"""Peak memory of the fullest rank: what PyTorch's allocator reports, and what it reserves.

Bytes a token and layer that eager Hugging Face models save, counted with saved-tensor hooks on
transformers 5.17 (h hidden, q and k columns of queries and keys, f FFN, a heads):

    Llama, Mistral   16h + 4q + 4k + 8f + 4a + 8
    Qwen3            the same + 6(q + k) + 4(a + groups)
    GPT-2            16h + 10f + 4a + 8

The peak is the largest of three moments: the backward pass of the fp32 loss (saved
log-probabilities, their zeroed gradient and its result: 12 bytes a logit), the backward pass of the
last layer, and the optimizer step with every gradient alive.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from predictor.iteration.dimensions import Layer
from predictor.iteration.step import StepShape
from predictor.units import MIB

CUBLAS_WORKSPACE_BYTES = 2 * 32 * MIB + 2 * MIB
"""32 MiB for the forward thread's handle and as much for autograd's (PyTorch on Hopper)."""

CONTEXT_BYTES = 780 * MIB
"""CUDA context with PyTorch's, cuBLAS's and cuDNN's kernels loaded: device memory in use less what
the allocator reserved, 767 to 783 MiB on an H100 (driver 580, torch 2.11)."""

FRAGMENTATION = 0.05
"""Reserved beyond allocated, as a share: median of seven measured steps (2 to 26 %)."""

NCCL_BYTES = 1024 * MIB
"""Buffers of the communicators of one rank (channels × peers × 4 MiB and more)."""


@dataclass(frozen=True, slots=True)
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


def _finish(parts: dict[str, float], *, distributed: bool) -> Memory:
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


def _peak(
    shape: StepShape, saved: float, *, logit_bytes: float, micro_batches: int
) -> dict[str, float]:
    """The largest of the three moments of a single-GPU step."""
    layer, n = shape.layer, shape.tokens
    state = 4 if shape.fp32_states else 2
    parameters = float(state * shape.parameters)
    moments = 2.0 * parameters
    gradients = parameters if micro_batches > 1 else 0.0
    kept = shape.num_layers - shape.recompute_layers
    saved_bytes = n * (saved * kept + 2.0 * layer.hidden * shape.recompute_layers)
    replay = n * saved if shape.recompute_layers else 0.0
    transient = n * (6.0 * layer.ffn + 12.0 * layer.hidden)
    head = float(state * shape.vocab * layer.hidden)
    loss = {
        "activations": saved_bytes,
        "logits and loss": n * (logit_bytes * shape.vocab + 8.0 * layer.hidden),
        "gradients": gradients,
    }
    last_layer = {
        "activations": saved_bytes + replay + transient,
        "logits and loss": 0.0,
        "gradients": max(gradients, head),
    }
    update = {"activations": 0.0, "logits and loss": 0.0, "gradients": parameters}
    worst = max((loss, last_layer, update), key=lambda moment: sum(moment.values()))
    return {
        "parameters": parameters,
        "optimizer states": moments,
        **worst,
        "workspaces": float(CUBLAS_WORKSPACE_BYTES),
    }


def eager_memory(shape: StepShape, *, micro_batches: int) -> Memory:
    """One GPU, eager: 12 bytes a logit at the loss."""
    parts = _peak(
        shape, eager_saved_bytes(shape.layer), logit_bytes=12.0, micro_batches=micro_batches
    )
    return _finish(parts, distributed=False)


def compiled_memory(shape: StepShape, *, micro_batches: int) -> Memory:
    """One GPU, compiled: three bf16 buffers of logits at the loss."""
    parts = _peak(
        shape, compiled_saved_bytes(shape.layer), logit_bytes=6.0, micro_batches=micro_batches
    )
    return _finish(parts, distributed=False)


def fused_memory(shape: StepShape, *, in_flight: int, distributed: bool) -> Memory:
    """Megatron-Core with Transformer Engine layers, the first stage of a 1F1B pipeline.

    A layer keeps per token: two norm inputs and two norm outputs (8h, split over the sequence
    shard), q, k, v, the attention output and its statistics, the gate and up columns and their
    product (Korthikanti et al., arXiv:2205.05198, eq. 1–5, with flash attention and no dropout).
    """
    layer, n = shape.layer, shape.tokens
    up = 2 if layer.gated else 1
    kept = 8 * layer.hidden / shape.sequence_shard + 2 * (2 * layer.q + 2 * layer.kv)
    kept += 4 * layer.heads + 2 * (up + 1) * layer.ffn
    replays = shape.recompute_layers
    per_batch = n * (
        kept * (shape.num_layers - replays) + 2 * layer.hidden / shape.sequence_shard * replays
    )
    activations = per_batch * in_flight + (n * kept if replays else 0.0)
    parts = {
        "parameters": 2.0 * shape.parameters,
        "optimizer states": 12.0 * shape.owned_parameters,
        "activations": activations,
        "logits and loss": n * shape.vocab * 10.0,
        "gradients": 4.0 * shape.parameters,
        "workspaces": float(CUBLAS_WORKSPACE_BYTES),
    }
    return _finish(parts, distributed=distributed)
