"""Peak memory of the fullest rank: what PyTorch's allocator reports, and what it reserves.

What a stack's layers keep stands beside it: :mod:`predictor.iteration.hf_memory`,
:mod:`predictor.iteration.megatron_memory`, or in the file of the stack.
"""

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any

import numpy as np

from predictor.units import MIB
from predictor.values import frozen

CUBLAS_WORKSPACE_BYTES = 2 * 32 * MIB + 2 * MIB
"""32 MiB for the forward thread's handle and as much for autograd's (PyTorch on Hopper)."""

CONTEXT_BYTES = 780 * MIB
"""CUDA context with PyTorch's, cuBLAS's and cuDNN's kernels loaded: device memory in use less what
the allocator reserved, 767 to 783 MiB on an H100 (driver 580, torch 2.11)."""

FRAGMENTATION = 0.05
"""Reserved beyond allocated, as a share: median of seven measured steps (2 to 26 %)."""

NCCL_BYTES = 1024 * MIB
"""Buffers of the communicators of one rank (channels × peers × 4 MiB and more)."""


@frozen
class Memory:
    """Peak memory of the fullest rank.

    Attributes:
        parts: Bytes by part; they add up to the allocator's peak.
        reserved_bytes: Peak plus fragmentation, context and communication buffers.
    """

    parts: Mapping[str, float]
    reserved_bytes: float

    @property
    def allocated_bytes(self) -> float:
        """Peak of ``max_memory_allocated``."""
        return sum(self.parts.values())


def worst_of(*moments: Mapping[str, float]) -> dict[str, float]:
    """The moment of the largest sum; of arrays over stages, element by element."""
    totals = [sum(moment.values()) for moment in moments]
    if all(np.ndim(total) == 0 for total in totals):
        return dict(moments[int(np.argmax(totals))])
    most = np.argmax(np.stack(np.broadcast_arrays(*totals)), axis=0)
    chosen: dict[str, Any] = {
        name: np.choose(most, np.broadcast_arrays(*(moment[name] for moment in moments), most)[:-1])
        for name in moments[0]
    }
    return chosen


def largest(sizes: Iterable[float]) -> float:
    """The largest of some bytes, 0 of none; of arrays over stages, element by element."""
    return reduce(np.maximum, sizes, 0.0)


def finished(parts: dict[str, float], *, distributed: bool) -> Memory:
    """Parts of the allocator's peak, and what the device holds beside them."""
    allocated = sum(parts.values())
    extra = CONTEXT_BYTES + (NCCL_BYTES if distributed else 0)
    return Memory(parts, allocated * (1 + FRAGMENTATION) + extra)
