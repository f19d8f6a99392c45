"""Scaled dot-product attention: ``o = softmax(q·kᵀ/√d + bias)·v`` per head, never materialised.

Tensors are ``q[b, s, h, d]``, ``k[b, s, g, d]``, ``v[b, s, g, dv]``, ``o[b, s, h, dv]``.
The forward pass is two products of ``s²`` scores a head, the backward pass five (one of them the
recomputed scores); a causal mask halves what must be computed (FlashAttention-2,
arXiv:2307.08691, section 4.1: 4·s²·d·h forward, 2.5 times that backward, divided by two if causal).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from predictor.dtypes import itemsize

AttentionKind = Literal["forward", "backward"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """One attention call of one rank.

    Attributes:
        batch: Sequences in the call.
        num_heads: Query heads held by the rank.
        num_query_groups: Key and value heads held by the rank.
        seq_length: Tokens a sequence, for queries and keys alike.
        head_dim: Width of a query and key head.
        value_head_dim: Width of a value head; 0 stands for ``head_dim``.
        causal: The library skips the upper triangle.
        bias: An additive bf16 bias over the full square is read (a mask that tracing materialised).
        window: Tokens each query sees; 0 is all of them.
        dtype: Type of q, k, v and o.
        kind: Pass.
        impl: ``cudnn`` or ``flash`` (FlashAttention-2 as PyTorch ships it).
    """

    name: ClassVar[str] = "attention"

    batch: int
    num_heads: int
    num_query_groups: int
    seq_length: int
    head_dim: int
    value_head_dim: int = 0
    causal: bool = True
    bias: bool = False
    window: int = 0
    dtype: str = "bf16"
    kind: AttentionKind = "forward"
    impl: str = "cudnn"

    @property
    def value_dim(self) -> int:
        """Width of a value head."""
        return self.value_head_dim or self.head_dim

    @property
    def scores(self) -> float:
        """Query-key pairs a head and sequence that the mask leaves."""
        s = float(self.seq_length)
        if self.window and self.window < self.seq_length:
            w = float(self.window)
            return w * s - w * (w - 1) / 2 if self.causal else min(2 * w, s) * s
        return s * s / 2 if self.causal else s * s

    @property
    def flops(self) -> float:
        """Tensor-core flops of the pass, counting only the scores that the mask leaves."""
        per_head = 2.0 * self.scores * self.batch
        if self.kind == "forward":
            return per_head * self.num_heads * (self.head_dim + self.value_dim)
        return per_head * self.num_heads * (3 * self.head_dim + 2 * self.value_dim)

    @property
    def bytes(self) -> float:
        """HBM bytes if every tensor is touched once; backward adds the fp32 ``dq`` workspace."""
        tokens = 1.0 * self.batch * self.seq_length
        size = itemsize(self.dtype)
        q = tokens * self.num_heads * self.head_dim
        k = tokens * self.num_query_groups * self.head_dim
        v = tokens * self.num_query_groups * self.value_dim
        o = tokens * self.num_heads * self.value_dim
        statistics = 4.0 * tokens * self.num_heads
        bias = 2.0 * self.batch * float(self.seq_length) ** 2 if self.bias else 0.0
        if self.kind == "forward":
            return (q + k + v + o) * size + statistics + bias
        return (2 * q + 2 * k + 2 * v + 2 * o) * size + 12.0 * q + 3 * statistics + bias

    @property
    def working_set_bytes(self) -> float:
        """Bytes that one launch touches."""
        return self.bytes
