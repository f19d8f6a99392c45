"""FlashAttention-2 as PyTorch ships it, called at its aten operators: no dispatch is left open."""

import torch

from predictor.bench.torch_fill import Fill, Recipe, Tensor
from predictor.operators import Attention

_aten = torch.ops.aten


def recipe(fill: Fill, operator: Attention) -> Recipe:
    """One forward or backward call.

    Raises:
        NotImplementedError: FlashAttention-2 in PyTorch has no bias, window or narrower values.
    """
    if operator.bias or operator.window or operator.value_dim != operator.head_dim:
        raise NotImplementedError("PyTorch's FlashAttention-2 takes no bias, window or value width")
    if operator.kind == "forward":
        return Recipe(
            make=lambda: _inputs(fill, operator),
            call=lambda q, k, v: _forward(q, k, v, causal=operator.causal),
        )

    def make() -> tuple[Tensor, ...]:
        q, k, v = _inputs(fill, operator)
        gradient = _heads(fill, operator, operator.num_heads)
        return (gradient, q, k, v, *_forward(q, k, v, causal=operator.causal)[:8])

    def call(gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, *saved: Tensor) -> object:
        out, statistics, ends_q, ends_k, longest_q, longest_k, seed, offset = saved
        return _aten._scaled_dot_product_flash_attention_backward(  # noqa: SLF001 - an aten name
            gradient,
            q,
            k,
            v,
            out,
            statistics,
            ends_q,
            ends_k,
            longest_q,
            longest_k,
            0.0,
            operator.causal,
            seed,
            offset,
        )

    return Recipe(make=make, call=call)


def _forward(q: Tensor, k: Tensor, v: Tensor, *, causal: bool) -> tuple[Tensor, ...]:
    result: tuple[Tensor, ...] = _aten._scaled_dot_product_flash_attention(  # noqa: SLF001
        q, k, v, 0.0, causal
    )
    return result


def _inputs(fill: Fill, operator: Attention) -> tuple[Tensor, ...]:
    groups = operator.num_query_groups
    return tuple(_heads(fill, operator, count) for count in (operator.num_heads, groups, groups))


def _heads(fill: Fill, operator: Attention, heads: int) -> Tensor:
    return fill.heads(operator.batch, operator.seq_length, heads, operator.head_dim)
