"""Eager kernels whose inputs are views of others, lists, or what another kernel left.

What FSDP2 launches around its collectives works on lists of RANKS tensors, for RANKS ranks.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import torch

from predictor.bench.torch_fill import Fill, Recipe, Tensor
from predictor.bench.torch_inputs import TENSORS, inputs

RANKS: Final = 8
_aten = torch.ops.aten


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
        make=lambda: _rotated(*inputs(fill, "q", rows, cols)),
        call=lambda negated, first: torch.cat((negated, first), dim=-1),
    )


def _rope_add(fill: Fill, rows: int, cols: int) -> Recipe:
    """``q·cos`` keeps q's strides; ``cat·sin`` is contiguous."""

    def make() -> tuple[Tensor, ...]:
        q, cosine, sine = inputs(fill, "qcc", rows, cols)
        return q * cosine, torch.cat(_rotated(q), dim=-1) * sine

    return Recipe(make=make, call=lambda a, b: a + b)


def _rope_half_copy(fill: Fill, rows: int, cols: int) -> Recipe:
    """Gradient of a slice: half a head copied into zeros."""

    def make() -> tuple[Tensor, ...]:
        gradient, zeros = inputs(fill, "qx", rows, cols)
        return zeros[..., cols // 2 :], gradient[..., : cols // 2]

    return Recipe(make=make, call=lambda into, half: into.copy_(half))


def _layer_norm_backward(fill: Fill, rows: int, cols: int) -> Recipe:
    """Two kernels, measured together: input gradient, and weight with bias."""

    def make() -> tuple[Tensor, ...]:
        gradient, x, weight, bias = inputs(fill, "bbww", rows, cols)
        _, mean, deviation = _aten.native_layer_norm(x, [cols], weight, bias, 1e-5)
        return gradient, x, mean, deviation, weight, bias

    def call(*each: Tensor) -> object:
        gradient, x, *rest = each
        return _aten.native_layer_norm_backward(gradient, x, [cols], *rest, [True, True, True])

    return Recipe(make=make, call=call)


def _nll_loss_backward(fill: Fill, rows: int, cols: int) -> Recipe:
    """Gradient of the mean negative log likelihood, as ``cross_entropy`` runs it."""

    def make() -> tuple[Tensor, ...]:
        x, labels = inputs(fill, "fl", rows, cols)
        return x.new_ones(()), x, labels, x.new_full((), float(rows))

    def call(gradient: Tensor, x: Tensor, labels: Tensor, count: Tensor) -> object:
        return _aten.nll_loss_backward(gradient, x, labels, None, 1, -100, count)

    return Recipe(make=make, call=call)


def _rms_norm_backward(fill: Fill, rows: int, cols: int) -> Recipe:
    def make() -> tuple[Tensor, ...]:
        gradient, x, weight = inputs(fill, "bbw", rows, cols)
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
        source = fill.of(dtype, rows, cols).view(-1).chunk(TENSORS)
        into = fill.bf16(rows * cols).chunk(TENSORS)
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


SHAPED: Final[dict[str, Callable[[Fill, int, int], Recipe]]] = {
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
