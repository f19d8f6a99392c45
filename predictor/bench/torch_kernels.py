"""Eager kernels of the elementwise, norm, rotary, loss and embedding operators.

Each entry calls one aten operator on inputs shaped and strided as in Hugging Face transformers 5.17
(Llama, Qwen3, GPT-2): rotary works on transposed views, norms multiply by a column of reciprocal
deviations, gradients of a slice are copied into zeros. A letter stands for one input:

    b  bf16 [rows, cols]        f  fp32 [rows, cols]
    w  bf16 [cols]              r  fp32 [rows, 1]
    q  bf16 [1, heads, s, cols] as a transposed view, with rows = heads·s
    x  bf16 [1, heads, s, cols], contiguous
    c  bf16 [1, 1, s, cols], cosines
    i  int64 [rows], ids below TABLE_ROWS
    t  bf16 [TABLE_ROWS, cols]
    m  bool [rows, cols]
    p  int64 [rows], each row once, shuffled
    n  int64 [rows, cols], columns
    s  bf16 [rows, 1]
    l  int64 [rows], columns
    k  int64 [rows, cols], experts
    g  list of 16 bf16 tensors, together [rows, cols]

What FSDP2 launches around its collectives works on lists of RANKS tensors, for RANKS ranks.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import torch
from torch.nn import functional

from predictor.bench.torch_fill import Fill, Recipe, Tensor
from predictor.operators import MemoryBound

TABLE_ROWS: Final = 8192
_HEADS: Final = 32
_EXPERTS: Final = 128
_TOP_K: Final = 8
_TENSORS: Final = 16
RANKS: Final = 8
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
        return Recipe(make=partial(_inputs, fill, letters, rows, cols), call=call)
    if operator.kernel in _SHAPED:
        return _SHAPED[operator.kernel](fill, rows, cols)
    raise NotImplementedError(f"no recipe for PyTorch's kernel {operator.kernel!r}")


def known() -> frozenset[str]:
    """Kernels that have a recipe."""
    return frozenset({*_PLAIN, *_SHAPED})


def _inputs(fill: Fill, letters: str, rows: int, cols: int) -> tuple[Tensor, ...]:
    heads = heads_of(rows)
    makers: dict[str, Callable[[], Tensor]] = {
        "b": lambda: fill.bf16(rows, cols),
        "f": lambda: fill.fp32(rows, cols),
        "w": lambda: fill.bf16(cols),
        "r": lambda: fill.fp32(rows, 1),
        "q": lambda: fill.heads(1, rows // heads, heads, cols),
        "x": lambda: fill.bf16(1, heads, rows // heads, cols),
        "c": lambda: fill.bf16(1, 1, rows // heads, cols),
        "i": lambda: fill.indices(rows, TABLE_ROWS),
        "t": lambda: fill.bf16(TABLE_ROWS, cols),
        "m": lambda: fill.fp32(rows, cols) < 0.0,
        "p": lambda: fill.shuffled(rows),
        "n": lambda: fill.indices(rows * cols, cols).view(rows, cols),
        "s": lambda: fill.bf16(rows, 1),
        "l": lambda: fill.indices(rows, cols),
        "k": lambda: fill.indices(rows * cols, _EXPERTS).view(rows, cols),
    }
    if letters == "g":
        return tuple(part.clone() for part in fill.bf16(rows, cols).view(-1).chunk(_TENSORS))
    return tuple(makers[letter]() for letter in letters)


def heads_of(rows: int) -> int:
    """Heads into which the rows of a rotary kernel divide."""
    return next(heads for heads in (_HEADS, 8, 1) if rows % heads == 0)


def _fill(fill: Fill, rows: int, cols: int, *, dtype: Any) -> Recipe:  # noqa: ANN401
    return Recipe(
        make=tuple,
        call=lambda: torch.zeros(rows, cols, dtype=dtype, device=fill.device),
    )


def _div_expanded(fill: Fill, rows: int, cols: int) -> Recipe:
    """Gradient of a mean: a scalar a row, expanded, divided, written in full."""
    return Recipe(make=lambda: (fill.fp32(rows, 1),), call=lambda r: r.expand(rows, cols) / cols)


def _cat(fill: Fill, rows: int, cols: int) -> Recipe:
    """Gradients of q, k and v joined to that of their common projection."""
    parts = [cols // 3, cols // 3, cols - 2 * (cols // 3)]
    return Recipe(
        make=lambda: tuple(fill.bf16(rows, part) for part in parts),
        call=lambda *each: torch.cat(each, dim=-1),
    )


def _rotated(q: Tensor) -> tuple[Tensor, Tensor]:
    half = q.shape[-1] // 2
    return -q[..., half:], q[..., :half]


def _rope_cat(fill: Fill, rows: int, cols: int) -> Recipe:
    """The negated half is a fresh product, the other a view of q."""
    return Recipe(
        make=lambda: _rotated(*_inputs(fill, "q", rows, cols)),
        call=lambda negated, first: torch.cat((negated, first), dim=-1),
    )


def _rope_add(fill: Fill, rows: int, cols: int) -> Recipe:
    """``q·cos`` keeps q's strides; ``cat·sin`` is contiguous."""

    def make() -> tuple[Tensor, ...]:
        q, cosine, sine = _inputs(fill, "qcc", rows, cols)
        return q * cosine, torch.cat(_rotated(q), dim=-1) * sine

    return Recipe(make=make, call=lambda a, b: a + b)


def _rope_half_copy(fill: Fill, rows: int, cols: int) -> Recipe:
    """Gradient of a slice: half a head copied into zeros."""

    def make() -> tuple[Tensor, ...]:
        gradient, zeros = _inputs(fill, "qx", rows, cols)
        return zeros[..., cols // 2 :], gradient[..., : cols // 2]

    return Recipe(make=make, call=lambda into, half: into.copy_(half))


def _layer_norm_backward(fill: Fill, rows: int, cols: int) -> Recipe:
    """Two kernels, measured together: input gradient, and weight with bias."""

    def make() -> tuple[Tensor, ...]:
        gradient, x, weight, bias = _inputs(fill, "bbww", rows, cols)
        _, mean, deviation = _aten.native_layer_norm(x, [cols], weight, bias, 1e-5)
        return gradient, x, mean, deviation, weight, bias

    def call(*each: Tensor) -> object:
        gradient, x, *rest = each
        return _aten.native_layer_norm_backward(gradient, x, [cols], *rest, [True, True, True])

    return Recipe(make=make, call=call)


def _nll_loss_backward(fill: Fill, rows: int, cols: int) -> Recipe:
    """Gradient of the mean negative log likelihood, as ``cross_entropy`` runs it."""

    def make() -> tuple[Tensor, ...]:
        x, labels = _inputs(fill, "fl", rows, cols)
        return x.new_ones(()), x, labels, x.new_full((), float(rows))

    def call(gradient: Tensor, x: Tensor, labels: Tensor, count: Tensor) -> object:
        return _aten.nll_loss_backward(gradient, x, labels, None, 1, -100, count)

    return Recipe(make=make, call=call)


def _rms_norm_backward(fill: Fill, rows: int, cols: int) -> Recipe:
    def make() -> tuple[Tensor, ...]:
        gradient, x, weight = _inputs(fill, "bbw", rows, cols)
        _, deviation = _aten._fused_rms_norm(x, [cols], weight, 1e-5)  # noqa: SLF001
        return gradient, x, deviation, weight

    def call(gradient: Tensor, x: Tensor, deviation: Tensor, weight: Tensor) -> object:
        return _aten._fused_rms_norm_backward(  # noqa: SLF001
            gradient, x, [cols], deviation, weight, [True, True]
        )

    return Recipe(make=make, call=call)


def _foreach_copy(fill: Fill, rows: int, cols: int, *, dtype: str) -> Recipe:
    """Tensors of a type into views of one flat bf16 buffer."""

    def make() -> tuple[Tensor, ...]:
        source = fill.of(dtype, rows, cols).view(-1).chunk(_TENSORS)
        into = fill.bf16(rows * cols).chunk(_TENSORS)
        return (*into, *(part.clone() for part in source))

    def call(*each: Tensor) -> object:
        half = len(each) // 2
        torch._foreach_copy_(each[:half], each[half:])
        return each[:half]

    return Recipe(make=make, call=call)


def _split_copy(fill: Fill, rows: int, cols: int) -> Recipe:
    """What every rank sent lies together; each tensor gets its piece of each rank."""
    piece = -(-rows * cols // RANKS // RANKS)

    def make() -> tuple[Tensor, ...]:
        gathered = fill.bf16(RANKS, piece * RANKS)
        return (gathered, *(fill.bf16(RANKS, piece) for _ in range(RANKS)))

    def call(gathered: Tensor, *tensors: Tensor) -> object:
        torch.split_with_sizes_copy(gathered, [piece] * RANKS, dim=1, out=list(tensors))
        return tensors

    return Recipe(make=make, call=call)


def _chunk_cat(fill: Fill, rows: int, cols: int) -> Recipe:
    """Rows of each gradient, cut for the ranks, behind each other in each rank's part."""
    held = -(-rows // RANKS)
    chunk = -(-held // RANKS)

    def make() -> tuple[Tensor, ...]:
        buffer = fill.fp32(RANKS, chunk * cols * RANKS)
        return (buffer, *(fill.bf16(held, cols) for _ in range(RANKS)))

    def call(buffer: Tensor, *gradients: Tensor) -> object:
        return torch._chunk_cat(list(gradients), 0, RANKS, out=buffer)  # noqa: SLF001

    return Recipe(make=make, call=call)


_SHAPED: Final[dict[str, Callable[[Fill, int, int], Recipe]]] = {
    "fill": partial(_fill, dtype=torch.bfloat16),
    "fill_fp32": partial(_fill, dtype=torch.float32),
    "div_expanded_fp32": _div_expanded,
    "cat": _cat,
    "rope_cat": _rope_cat,
    "rope_add": _rope_add,
    "rope_half_copy": _rope_half_copy,
    "layer_norm_backward": _layer_norm_backward,
    "rms_norm_backward": _rms_norm_backward,
    "nll_loss_backward_fp32": _nll_loss_backward,
    "foreach_copy": partial(_foreach_copy, dtype="bf16"),
    "foreach_cast_down": partial(_foreach_copy, dtype="fp32"),
    "split_copy": _split_copy,
    "chunk_cat": _chunk_cat,
}
