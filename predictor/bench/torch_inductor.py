"""Kernels that ``torch.compile`` generates for the layers of Hugging Face models.

Each entry is the layer's own arithmetic, compiled alone for one shape. A norm's backward pass takes
the gradient of the residual stream too, as in a compiled layer, where both meet in one kernel.
"""

from collections.abc import Callable
from typing import Any, Final

import torch
from torch.nn import functional

from predictor.bench.torch_fill import Fill, Recipe, Tensor
from predictor.bench.torch_inputs import heads_of
from predictor.operators import MemoryBound

_EPSILON: Final = 1e-5
_REPEATS: Final = 4
_BASE: Final = 500000.0


def recipe(fill: Fill, operator: MemoryBound) -> Recipe:
    """A compiled kernel of ``KERNELS["inductor"]``; compiling takes seconds.

    Raises:
        NotImplementedError: The kernel has no recipe here.
    """
    if operator.kernel not in _FUNCTIONS:
        raise NotImplementedError(f"no recipe for the compiled kernel {operator.kernel!r}")
    function, letters = _FUNCTIONS[operator.kernel]
    torch._dynamo.reset()  # noqa: SLF001 - one shape a point: no cache may fill up
    return Recipe(
        make=lambda: _inputs(fill, letters, operator.rows, operator.cols),
        call=torch.compile(function, dynamic=False, fullgraph=True),
    )


def functions() -> dict[str, tuple[Callable[..., Any], str]]:
    """The uncompiled arithmetic and the letters of its inputs, by kernel."""
    return dict(_FUNCTIONS)


def _inputs(fill: Fill, letters: str, rows: int, cols: int) -> tuple[Tensor, ...]:
    heads = heads_of(rows)
    seq = rows // heads
    makers: dict[str, Callable[[], Tensor]] = {
        "b": lambda: fill.bf16(rows, cols),
        "d": lambda: fill.bf16(rows, 2 * cols),
        "w": lambda: fill.bf16(cols),
        "r": lambda: fill.fp32(rows, 1),
        "q": lambda: fill.heads(1, seq, heads, cols),
        "x": lambda: fill.bf16(1, heads, seq, cols),
        "k": lambda: fill.heads(1, seq, max(1, heads // _REPEATS), cols),
        "i": lambda: fill.indices(rows, cols),
    }
    return tuple(makers[letter]() for letter in letters)


def _rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    wide = x.float()
    deviation = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + _EPSILON)
    return weight * (wide * deviation).to(x.dtype)


def _add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    total = x + residual
    return total, _rms_norm(total, weight)


def _rms_norm_backward(
    gradient: Tensor, x: Tensor, residual: Tensor, weight: Tensor, deviation: Tensor
) -> tuple[Tensor, Tensor]:
    wide = x.float()
    normal = wide * deviation
    product = gradient.float() * weight.float()
    mean = (product * normal).mean(-1, keepdim=True)
    dx = deviation * (product - normal * mean)
    return dx.to(x.dtype) + residual, (gradient * normal.to(x.dtype)).sum(0)


def _add_layer_norm(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    total = x + residual
    return total, functional.layer_norm(total, weight.shape, weight, bias, _EPSILON)


def _layer_norm_backward(
    gradient: Tensor, x: Tensor, residual: Tensor, weight: Tensor, deviation: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    wide = x.float()
    normal = (wide - wide.mean(-1, keepdim=True)) * deviation
    product = gradient.float() * weight.float()
    mean = product.mean(-1, keepdim=True)
    projection = (product * normal).mean(-1, keepdim=True)
    dx = deviation * (product - mean - normal * projection)
    into_weight = (gradient.float() * normal).sum(0).to(x.dtype)
    return dx.to(x.dtype) + residual, into_weight, gradient.sum(0)


def _silu_mul(gate: Tensor, up: Tensor) -> Tensor:
    return functional.silu(gate) * up


def _silu_mul_backward(gradient: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    wide = gate.float()
    sigmoid = torch.sigmoid(wide)
    into_up = gradient * (wide * sigmoid).to(gate.dtype)
    slope = sigmoid * (1 + wide * (1 - sigmoid))
    return (gradient * up).float().mul(slope).to(gate.dtype), into_up


def _silu_mul_halves(x: Tensor) -> Tensor:
    return _silu_mul(*torch.chunk(x, 2, -1))


def _silu_mul_halves_backward(gradient: Tensor, x: Tensor) -> Tensor:
    """As Megatron-Core writes it: both halves of the gradient are joined."""
    gate, up = torch.chunk(x, 2, -1)
    sigmoid = torch.sigmoid(gate)
    into_gate = gradient * sigmoid * (1 + gate * (1 - sigmoid)) * up
    return torch.cat((into_gate, gradient * functional.silu(gate)), -1)


def _gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1.0 + torch.tanh(0.7978845608 * (x + 0.044715 * torch.pow(x, 3.0))))


def _gelu_backward(gradient: Tensor, x: Tensor) -> Tensor:
    wide = x.float()
    tanh = torch.tanh(0.7978845608 * (wide + 0.044715 * wide.pow(3)))
    slope = 0.7978845608 * (1 + 3 * 0.044715 * wide.pow(2))
    inner = 0.5 * (1 + tanh) + 0.5 * wide * (1 - tanh * tanh) * slope
    return (gradient.float() * inner).to(x.dtype)


def _angles(seq: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines computed inside the kernel, as traced Llama does."""
    steps = torch.arange(0, width, 2, device=like.device, dtype=torch.float32) / width
    positions = torch.arange(seq, device=like.device, dtype=torch.float32)
    angles = torch.outer(positions, _BASE ** (-steps))
    both = torch.cat((angles, angles), dim=-1)
    return both.cos().to(like.dtype), both.sin().to(like.dtype)


def _rotate(q: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    half = q.shape[-1] // 2
    return q * cosine + torch.cat((-q[..., half:], q[..., :half]), dim=-1) * sine


def _rotary(q: Tensor) -> Tensor:
    return _rotate(q, *_angles(q.shape[-2], q.shape[-1], q))


def _rotary_backward(gradient: Tensor) -> Tensor:
    cosine, sine = _angles(gradient.shape[-2], gradient.shape[-1], gradient)
    return _rotate(gradient, cosine, -sine).transpose(1, 2).contiguous()


def _repeat_heads(k: Tensor) -> Tensor:
    batch, groups, seq, width = k.shape
    repeated = k[:, :, None].expand(batch, groups, _REPEATS, seq, width)
    return repeated.reshape(batch, groups * _REPEATS, seq, width)


def _sum_heads(gradient: Tensor) -> Tensor:
    batch, heads, seq, width = gradient.shape
    return gradient.view(batch, heads // _REPEATS, _REPEATS, seq, width).sum(2)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(logits.float(), labels)


def _cross_entropy_backward(logits: Tensor, labels: Tensor, logsumexp: Tensor) -> Tensor:
    probabilities = torch.exp(logits.float() - logsumexp)
    columns = torch.arange(logits.shape[-1], device=logits.device)
    hit = columns[None, :] == labels[:, None]
    return ((probabilities - hit.float()) / logits.shape[0]).to(logits.dtype)


_FUNCTIONS: Final[dict[str, tuple[Callable[..., Any], str]]] = {
    "rms_norm": (_rms_norm, "bw"),
    "add_rms_norm": (_add_rms_norm, "bbw"),
    "rms_norm_backward": (_rms_norm_backward, "bbbwr"),
    "add_layer_norm": (_add_layer_norm, "bbww"),
    "layer_norm_backward": (_layer_norm_backward, "bbbwr"),
    "silu_mul": (_silu_mul, "bb"),
    "silu_mul_backward": (_silu_mul_backward, "bbb"),
    "silu_mul_halves": (_silu_mul_halves, "d"),
    "silu_mul_halves_backward": (_silu_mul_halves_backward, "bd"),
    "gelu": (_gelu, "b"),
    "gelu_backward": (_gelu_backward, "bb"),
    "rotary": (_rotary, "q"),
    "rotary_backward": (_rotary_backward, "x"),
    "repeat_heads": (_repeat_heads, "k"),
    "sum_heads": (_sum_heads, "x"),
    "cross_entropy": (_cross_entropy, "bi"),
    "cross_entropy_backward": (_cross_entropy_backward, "bir"),
}
