"""PyTorch's AdamW over a list of tensors: fused, or list by list (``foreach``)."""

from functools import partial

import torch
from torch.optim.adamw import adamw

from predictor.bench.torch_fill import Fill, Recipe, Tensor
from predictor.operators import Optimizer


def recipe(fill: Fill, operator: Optimizer) -> Recipe:
    """One step over ``elements`` parameters in ``tensors`` tensors of equal size.

    Raises:
        NotImplementedError: The kernel is not PyTorch's.
    """
    if operator.kernel not in {"adamw", "adamw_foreach"}:
        raise NotImplementedError(f"PyTorch has no fused optimizer {operator.kernel!r}")
    foreach = operator.kernel == "adamw_foreach"
    size = max(1, operator.elements // operator.tensors)

    def tensors() -> list[Tensor]:
        return [fill.of(operator.dtype, size) for _ in range(operator.tensors)]

    def make() -> tuple[list[Tensor], ...]:
        parameters, gradients, first = tensors(), tensors(), tensors()
        second = [tensor.abs_() for tensor in tensors()]
        device = "cpu" if foreach else fill.device
        steps = [torch.ones((), device=device) for _ in range(operator.tensors)]
        return parameters, gradients, first, second, steps

    return Recipe(make=make, call=partial(_step, foreach=foreach))


def _step(
    parameters: list[Tensor],
    gradients: list[Tensor],
    first: list[Tensor],
    second: list[Tensor],
    steps: list[Tensor],
    *,
    foreach: bool,
) -> None:
    adamw(  # what torch.optim.AdamW's step calls
        parameters,
        gradients,
        first,
        second,
        [],
        steps,
        foreach=foreach,
        fused=not foreach,
        lr=1e-5,
        beta1=0.9,
        beta2=0.95,
        weight_decay=0.1,
        eps=1e-8,
        amsgrad=False,
        maximize=False,
    )
