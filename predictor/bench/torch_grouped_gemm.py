"""PyTorch's grouped matrix product, a CUTLASS kernel, as torchtitan's experts call it."""

from itertools import accumulate
from typing import Any

import torch

from predictor.bench.torch_fill import Fill, Recipe, Tensor
from predictor.operators import GroupedGemm


def recipe(fill: Fill, operator: GroupedGemm) -> Recipe:
    """One product over all experts.

    Raises:
        NotImplementedError: The kernel reads bf16 and writes bf16, or this PyTorch has none.
    """
    if operator.dtype != "bf16" or operator.accumulate:
        raise NotImplementedError("PyTorch's grouped_mm takes bf16 and does not accumulate")
    product = _grouped_mm()
    tokens, experts, n, k = operator.tokens, operator.experts, operator.n, operator.k

    def ends() -> Tensor:
        """Row after the last of each expert."""
        rows = list(accumulate(operator.counts))
        return torch.tensor(rows, dtype=torch.int32, device=fill.device)

    if operator.kind == "forward":
        return Recipe(
            make=lambda: (fill.bf16(tokens, k), fill.bf16(experts, n, k), ends()),
            call=lambda x, w, offs: product(x, w.transpose(-2, -1), offs=offs),
        )
    if operator.kind == "dgrad":
        return Recipe(
            make=lambda: (fill.bf16(tokens, n), fill.bf16(experts, n, k), ends()),
            call=lambda dy, w, offs: product(dy, w, offs=offs),
        )
    return Recipe(
        make=lambda: (fill.bf16(tokens, n), fill.bf16(tokens, k), ends()),
        call=lambda dy, x, offs: product(dy.t(), x, offs=offs),
    )


def _grouped_mm() -> Any:  # noqa: ANN401 - a function of PyTorch's
    """The public name of newer versions, or the one that came before it."""
    found = getattr(torch.nn.functional, "grouped_mm", None) or getattr(torch, "_grouped_mm", None)
    if found is None:
        raise NotImplementedError(f"PyTorch {torch.__version__} has no grouped_mm")
    return found
