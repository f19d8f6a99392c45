"""What Hugging Face models keep on one GPU, eager or compiled.

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

from collections.abc import Callable

from predictor.iteration.layer import Layer
from predictor.iteration.memory import (
    CUBLAS_WORKSPACE_BYTES,
    Memory,
    finished,
    largest,
    worst_of,
)
from predictor.iteration.step import Stage


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
