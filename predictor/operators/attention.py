"""Scaled dot-product attention: ``o = softmax(q·kᵀ/√d + bias)·v`` per head, never materialised.

Tensors are ``q[b, s, h, d]``, ``k[b, s, g, d]``, ``v[b, s, g, dv]``, ``o[b, s, h, dv]``.
The forward pass is two products of ``s²`` scores a head, the backward pass five (one of them the
recomputed scores); a causal mask halves what must be computed (FlashAttention-2,
arXiv:2307.08691, section 4.1: 4·s²·d·h forward, 2.5 times that backward, divided by two if causal).

Queries may be fewer than keys: they are then the last ones of the sequence, so a causal mask is
aligned to the bottom right corner. One query is decoding; half a sequence of queries against a full
square of keys is a step of ring attention. A sequence may hold several documents that do not see
each other; the i-th of n is cut i times as long as the first, so that lengths differ as in packed
data and all counts follow from the fields.
"""

from itertools import pairwise
from typing import ClassVar, Literal

from predictor.dtypes import itemsize
from predictor.values import frozen

AttentionKind = Literal["forward", "backward"]


@frozen(kw_only=True)
class Attention:
    """One attention call of one rank.

    A field that says nothing new (``value_head_dim`` equal to ``head_dim``, ``query_length`` equal
    to ``seq_length``, a window over the whole sequence) becomes 0, so that equal calls are equal.

    Attributes:
        batch: Sequences in the call.
        num_heads: Query heads held by the rank.
        num_query_groups: Key and value heads held by the rank.
        seq_length: Keys a sequence, and queries unless ``query_length`` says otherwise.
        head_dim: Width of a query and key head.
        value_head_dim: Width of a value head; 0 stands for ``head_dim``.
        causal: The library skips the upper triangle.
        bias: An additive bf16 bias over the full square is read (a mask that tracing materialised).
        window: Tokens each query sees; 0 is all of them.
        dtype: Type of q, k, v and o.
        kind: Pass.
        impl: ``cudnn`` or ``flash`` (FlashAttention-2 as PyTorch ships it).
        query_length: Queries a sequence, the last of its tokens; 0 is ``seq_length``.
        documents: Documents packed into each sequence.

    Raises:
        ValueError: Lengths that contradict each other.
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
    query_length: int = 0
    documents: int = 1

    def __post_init__(self) -> None:
        """Check the lengths and write equal calls alike."""
        if self.query_length > self.seq_length:
            msg = f"query_length ({self.query_length}) exceeds seq_length ({self.seq_length})"
            raise ValueError(msg)
        if not 1 <= self.documents <= self.seq_length:
            msg = f"documents ({self.documents}) must be from 1 to seq_length ({self.seq_length})"
            raise ValueError(msg)
        if self.documents > 1 and self.queries != self.seq_length:
            msg = f"query_length ({self.query_length}) is of one document, not of {self.documents}"
            raise ValueError(msg)
        for name, same in (
            ("value_head_dim", self.value_head_dim == self.head_dim),
            ("query_length", self.query_length == self.seq_length),
            ("window", self.window >= self.seq_length),
        ):
            if same:
                object.__setattr__(self, name, 0)

    @property
    def value_dim(self) -> int:
        """Width of a value head."""
        return self.value_head_dim or self.head_dim

    @property
    def queries(self) -> int:
        """Queries a sequence."""
        return self.query_length or self.seq_length

    @property
    def document_lengths(self) -> tuple[int, ...]:
        """Tokens of each document of a sequence, growing by about the length of the first."""
        n, s = self.documents, self.seq_length
        ends = [s * i * (i + 1) // (n * (n + 1)) for i in range(n + 1)]
        return tuple(end - begin for begin, end in pairwise(ends))

    @property
    def scores(self) -> float:
        """Query-key pairs a head and sequence that the mask leaves."""
        if self.documents == 1:
            return self._scores(float(self.queries), float(self.seq_length))
        return sum(self._scores(float(s), float(s)) for s in self.document_lengths)

    def _scores(self, queries: float, keys: float) -> float:
        """Pairs of the last ``queries`` of ``keys`` tokens; half a square where all are causal."""
        window = float(self.window) if self.window and self.window < keys else keys
        if not self.causal:
            return min(2 * window, keys) * queries if window < keys else keys * queries
        if window == keys == queries:
            return keys * keys / 2
        growing = min(max(window - 1 - (keys - queries), 0.0), queries)  # see fewer than a window
        first = keys - queries + 1
        return growing * first + growing * (growing - 1) / 2 + (queries - growing) * window

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
        queries = 1.0 * self.batch * self.queries
        keys = 1.0 * self.batch * self.seq_length
        size = itemsize(self.dtype)
        q = queries * self.num_heads * self.head_dim
        k = keys * self.num_query_groups * self.head_dim
        v = keys * self.num_query_groups * self.value_dim
        o = queries * self.num_heads * self.value_dim
        statistics = 4.0 * queries * self.num_heads
        bias = 2.0 * queries * self.seq_length if self.bias else 0.0
        if self.kind == "forward":
            return (q + k + v + o) * size + statistics + bias
        return (2 * q + 2 * k + 2 * v + 2 * o) * size + 12.0 * q + 3 * statistics + bias

    @property
    def working_set_bytes(self) -> float:
        """Bytes that one launch touches."""
        return self.bytes
