"""The optimizer step over the parameters that a rank owns.

``adamw`` reads parameter, gradient and both moments and writes all but the gradient:
7 accesses an element, 14 B with bf16 states and 28 B with fp32 states. ``adamw_master`` keeps an
fp32 master beside moments and gradient of ``dtype`` and also writes the bf16 working copy: 30 B
with fp32 moments, 20 B with bf16 ones. ``adamw_foreach`` is PyTorch's AdamW list by list:
decay, the second moment's decay, root, correction and epsilon access two numbers an element each,
both moments three, the update four. Over several tensors, the native step walks a list of
chunks, as Apex's and Transformer Engine's multi-tensor kernels do; one tensor is a distributed
optimizer's flat buffer.
"""

from typing import ClassVar

from predictor.dtypes import itemsize
from predictor.values import frozen


@frozen(kw_only=True)
class Optimizer:
    """One optimizer step.

    Attributes:
        kernel: ``adamw``, ``adamw_master`` or ``adamw_foreach``.
        elements: Parameters updated by this rank.
        tensors: Tensors they are spread over (launch counts depend on it).
        dtype: Type of gradients and moments, and of ``adamw``'s parameters.
        impl: ``native`` or ``torch`` (its multi-tensor kernels).
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
        size = itemsize(self.dtype)
        if self.kernel == "adamw_master":
            return self.elements * (5.0 * size + 10.0)
        return self.elements * size * (20.0 if self.kernel == "adamw_foreach" else 7.0)

    @property
    def working_set_bytes(self) -> float:
        """Bytes held by parameters, gradients and moments together."""
        size = itemsize(self.dtype)
        if self.kernel == "adamw_master":
            return self.elements * (3.0 * size + 6.0)
        return self.elements * size * (5.0 if self.kernel == "adamw_foreach" else 4.0)
