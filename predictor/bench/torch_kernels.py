"""Eager kernels of the elementwise, norm, rotary, loss and embedding operators.

Each entry calls one aten operator on inputs shaped and strided as in Hugging Face transformers 5.17
(Llama, Qwen3, GPT-2): rotary works on transposed views, norms multiply by a column of reciprocal
deviations, gradients of a slice are copied into zeros. Letters name the inputs
(:mod:`predictor.bench.torch_inputs`).
"""

from collections.abc import Callable
from functools import partial
from typing import Final

import torch
from torch.nn import functional

from predictor.bench.torch_fill import Fill, Recipe, Tensor
from predictor.bench.torch_inputs import TABLE_ROWS, inputs
from predictor.bench.torch_shaped import SHAPED
from predictor.operators import MemoryBound

_TOP_K: Final = 8
_KEPT: Final = 0.9
_aten = torch.ops.aten


def _scaled(*tensors: Tensor) -> tuple[Tensor, ...]:
    torch._foreach_mul_(tensors, 0.5)
    return tensors


_PLAIN: Final[dict[str, tuple[str, Callable[..., object]]]] = {
    "add": ("bb", lambda a, b: a + b),
    "mul": ("bb", lambda a, b: a * b),
    "mul_weight": ("wb", lambda w, x: w * x),
    "mul_scalar": ("b", lambda x: x * 0.5),
    "add_scalar": ("b", lambda x: x + 1.0),
    "pow": ("b", lambda x: torch.pow(x, 3.0)),
    "tanh": ("b", torch.tanh),
    "tanh_backward": ("bb", _aten.tanh_backward),
    "silu": ("b", functional.silu),
    "silu_backward": ("bb", _aten.silu_backward),
    "cast_up": ("b", lambda x: x.to(torch.float32)),
    "cast_down": ("f", lambda x: x.to(torch.bfloat16)),
    "pow_fp32": ("f", lambda x: x.pow(2)),
    "mean_fp32": ("f", lambda x: x.mean(-1, keepdim=True)),
    "sum_fp32": ("f", lambda x: x.sum(-1, keepdim=True)),
    "mul_rows_fp32": ("fr", lambda x, r: x * r),
    "mul_fp32": ("ff", lambda a, b: a * b),
    "add_fp32": ("ff", lambda a, b: a + b),
    "mul_scalar_fp32": ("f", lambda x: x * 2.0),
    "copy_fp32": ("f", lambda x: x.clone()),
    "sum_rows": ("b", lambda x: x.sum(0)),
    "rope_mul": ("qc", lambda q, c: q * c),
    "rope_neg": ("q", lambda q: -q[..., q.shape[-1] // 2 :]),
    "rope_clone": ("x", lambda x: x.transpose(1, 2).contiguous()),
    "log_softmax_fp32": ("f", lambda x: torch.log_softmax(x, -1)),
    "log_softmax_backward_fp32": (
        "ff",
        lambda g, y: _aten._log_softmax_backward_data(g, y, -1, torch.float32),  # noqa: SLF001
    ),
    "embedding": ("it", functional.embedding),
    "embedding_backward": (
        "bi",
        lambda g, i: _aten.embedding_dense_backward(g, i, TABLE_ROWS, -1, scale_grad_by_freq=False),
    ),
    "layer_norm": ("bww", lambda x, w, b: functional.layer_norm(x, w.shape, w, b)),
    "gelu": ("b", partial(functional.gelu, approximate="tanh")),
    "gelu_backward": ("bb", partial(_aten.gelu_backward, approximate="tanh")),
    "rms_norm": ("bw", lambda x, w: _aten._fused_rms_norm(x, w.shape, w, 1e-5)[0]),  # noqa: SLF001
    "dropout": ("b", lambda x: _aten.native_dropout(x, 1 - _KEPT, True)),  # noqa: FBT003
    "dropout_backward": ("bm", lambda g, m: _aten.native_dropout_backward(g, m, 1 / _KEPT)),
    "softmax": ("b", lambda x: torch.softmax(x, -1)),
    "softmax_backward": (
        "bb",
        lambda g, y: _aten._softmax_backward_data(g, y, -1, torch.bfloat16),  # noqa: SLF001
    ),
    "softmax_fp32": ("f", lambda x: torch.softmax(x, -1)),
    "masked_fill": ("bm", lambda x, m: x.masked_fill(m, -10000.0)),
    "accumulate_fp32": ("fb", lambda total, g: total.add_(g)),
    "transpose": ("b", lambda x: x.t().contiguous()),
    "cast_fp8": ("b", lambda x: x.to(torch.float8_e4m3fn)),
    "abs": ("b", torch.abs),
    "amax_fp32": ("f", lambda x: x.amax(-1, keepdim=True)),
    "exp_fp32": ("f", lambda x: torch.exp(x, out=x)),
    "sub_rows_fp32": ("fr", lambda x, r: x.sub_(r)),
    "sigmoid_fp32": ("f", torch.sigmoid),
    "mul_rows": ("bs", lambda x, s: x * s),
    "index_select": ("bp", lambda x, p: x.index_select(0, p)),
    "index_add": ("bpb", lambda y, p, x: y.index_add_(0, p, x)),
    "gather_fp32": ("fn", lambda x, n: x.gather(1, n)),
    "scatter_fp32": ("fnf", lambda y, n, x: y.scatter_(1, n, x)),
    "topk_fp32": ("f", lambda x: torch.topk(x, min(_TOP_K, x.shape[-1]))),
    "sort_int64": ("k", lambda k: torch.sort(k.view(-1), stable=True)),
    "cumsum_int64": ("k", lambda k: k.cumsum(0)),
    "foreach_norm": ("g", lambda *g: tuple(torch._foreach_norm(g))),  # noqa: SLF001
    "foreach_mul": ("g", _scaled),
    "zero": ("b", lambda x: x.zero_()),
}


def recipe(fill: Fill, operator: MemoryBound) -> Recipe:
    """How PyTorch runs a kernel of ``KERNELS["torch"]``.

    Raises:
        NotImplementedError: The kernel has no recipe here.
    """
    rows, cols = operator.rows, operator.cols
    if operator.kernel in _PLAIN:
        letters, call = _PLAIN[operator.kernel]
        return Recipe(make=partial(inputs, fill, letters, rows, cols), call=call)
    if operator.kernel in SHAPED:
        return SHAPED[operator.kernel](fill, rows, cols)
    raise NotImplementedError(f"no recipe for PyTorch's kernel {operator.kernel!r}")


def known() -> frozenset[str]:
    """Kernels that have a recipe."""
    return frozenset({*_PLAIN, *SHAPED})
