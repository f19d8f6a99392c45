"""The optimizer step over the parameters that a rank owns.

``adamw`` reads parameter, gradient and both moments and writes all but the gradient:
7 accesses an element, 14 B with bf16 states and 28 B with fp32 states. ``adamw_master`` keeps fp32
masters and moments, reads an fp32 gradient and also writes the bf16 working copy: 30 B.
"""

from dataclasses import dataclass
from typing import ClassVar

from predictor.dtypes import itemsize


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimizer:
    """One optimizer step.

    Attributes:
        kernel: ``adamw`` or ``adamw_master``.
        elements: Parameters updated by this rank.
        tensors: Tensors they are spread over (launch counts depend on it).
        dtype: Type of parameters, gradients and moments.
        impl: ``native`` or ``torch`` (the fused multi-tensor kernel).
    """

    name: ClassVar[str] = "optimizer"

    kernel: str = "adamw"
    elements: int
    tensors: int = 1
    dtype: str = "bf16"
    impl: str = "torch"

    @property
    def flops(self) -> float:
        """Arithmetic is negligible beside the traffic."""
        return 0.0

    @property
    def bytes(self) -> float:
        """HBM bytes of one step."""
        extra = 2.0 if self.kernel == "adamw_master" else 0.0
        return self.elements * (7.0 * itemsize(self.dtype) + extra)

    @property
    def working_set_bytes(self) -> float:
        """Bytes held by parameters, gradients and moments together."""
        return self.elements * 4.0 * itemsize(self.dtype)
