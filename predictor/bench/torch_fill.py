"""Tensors of random normal data, and the recipe that turns them into launches."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

Tensor = Any


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One operator as PyTorch runs it.

    Attributes:
        make: Allocates and fills one buffer set of inputs.
        call: Launches the kernel over one set; what it returns are the outputs.
    """

    make: Callable[[], tuple[Any, ...]]
    call: Callable[..., object]


@dataclass(frozen=True, kw_only=True)
class Fill:
    """Makes tensors on one device.

    Attributes:
        device: ``cuda``, or ``cpu`` in tests.
    """

    device: str

    def bf16(self, *shape: int) -> Tensor:
        """Normal data in bf16."""
        return torch.empty(shape, dtype=torch.bfloat16, device=self.device).normal_()

    def fp32(self, *shape: int) -> Tensor:
        """Normal data in fp32."""
        return torch.empty(shape, dtype=torch.float32, device=self.device).normal_()

    def of(self, dtype: str, *shape: int) -> Tensor:
        """Normal data in a named type."""
        return {"bf16": self.bf16, "fp32": self.fp32}[dtype](*shape)

    def indices(self, count: int, below: int) -> Tensor:
        """Uniform integers, as token ids."""
        return torch.randint(below, (count,), device=self.device)

    def shuffled(self, count: int) -> Tensor:
        """Each integer below ``count`` once, in random order."""
        return torch.randperm(count, device=self.device)

    def heads(self, batch: int, seq: int, heads: int, width: int) -> Tensor:
        """``[b, h, s, d]`` as a transposed view of ``[b, s, h, d]``, as projections are split."""
        return self.bf16(batch, seq, heads, width).transpose(1, 2)
