"""FlashAttention-2 as PyTorch ships it, called at its aten operators: no dispatch is left open.

Tensors are ``[batch, tokens, heads, head_dim]``, or ``[tokens, heads, head_dim]`` where sequences
hold several documents, whose ends are then handed over.
"""

from functools import partial
from itertools import accumulate
from typing import Any

import torch

from predictor.bench.torch_fill import Fill, Recipe, Tensor
from predictor.operators import Attention

_aten = torch.ops.aten


def recipe(fill: Fill, operator: Attention) -> Recipe:
    """One forward or backward call.

    Raises:
        NotImplementedError: FlashAttention-2 in PyTorch has no bias and no narrower values.
    """
    if operator.bias or operator.value_dim != operator.head_dim:
        raise NotImplementedError("PyTorch's FlashAttention-2 takes no bias and no value width")
    ends, longest = _documents(fill, operator)
    lengths = (ends, ends, longest or operator.queries, longest or operator.seq_length)
    window = _window(operator)

    def forward(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        attend = partial(_aten._flash_attention_forward, return_debug_mask=False)  # noqa: SLF001
        result: tuple[Tensor, ...] = attend(
            q, k, v, *lengths, dropout_p=0.0, is_causal=operator.causal, **window
        )
        return result

    if operator.kind == "forward":
        return Recipe(make=lambda: _inputs(fill, operator), call=forward)

    def make() -> tuple[Tensor, ...]:
        q, k, v = _inputs(fill, operator)
        gradient = _tensor(fill, operator, operator.queries, operator.num_heads)
        return (gradient, q, k, v, *forward(q, k, v)[:4])

    def call(*saved: Tensor) -> object:
        gradient, q, k, v, out, statistics, seed, offset = saved
        return _aten._flash_attention_backward(  # noqa: SLF001
            gradient,
            q,
            k,
            v,
            out,
            statistics,
            *lengths,
            0.0,
            operator.causal,
            seed,
            offset,
            **window,
        )

    return Recipe(make=make, call=call)


def _window(operator: Attention) -> dict[str, Any]:
    """Tokens seen to the left and right of each: ``window`` counts the token itself."""
    if not operator.window:
        return {}
    left = operator.window - 1
    return {"window_size_left": left, "window_size_right": 0 if operator.causal else left}


def _documents(fill: Fill, operator: Attention) -> tuple[Tensor | None, int]:
    """Ends of all documents of the batch and the longest one's length; None and 0 for one each."""
    if operator.documents == 1:
        return None, 0
    lengths = operator.document_lengths * operator.batch
    ends = list(accumulate(lengths, initial=0))
    return torch.tensor(ends, dtype=torch.int32, device=fill.device), max(lengths)


def _inputs(fill: Fill, operator: Attention) -> tuple[Tensor, ...]:
    groups = operator.num_query_groups
    return (
        _tensor(fill, operator, operator.queries, operator.num_heads),
        _tensor(fill, operator, operator.seq_length, groups),
        _tensor(fill, operator, operator.seq_length, groups),
    )


def _tensor(fill: Fill, operator: Attention, tokens: int, heads: int) -> Tensor:
    if operator.documents > 1:
        return fill.bf16(operator.batch * tokens, heads, operator.head_dim)
    return fill.bf16(operator.batch, tokens, heads, operator.head_dim)
