"""Attention points: causal, full, and the full square with a bias, forward and backward."""

from itertools import product
from typing import Any, Final

from predictor.bench.points import Point
from predictor.bench.sweep import attention_sizes as sizes
from predictor.bench.sweep.tiers import ANCHOR, BETWEEN, CORE, SUSTAINED, WIDE
from predictor.operators import Attention
from predictor.operators.attention import AttentionKind

KINDS: Final[tuple[AttentionKind, ...]] = ("forward", "backward")

# (num_heads, num_query_groups, head_dim) of Llama 1B, GPT-2 small and medium, Llama 8B, Qwen3
# 0.6B, Llama 70B
_HEADS: Final = (
    (32, 8, 64),
    (12, 12, 64),
    (16, 16, 64),
    (32, 8, 128),
    (16, 8, 128),
    (64, 8, 128),
)
_ANCHORS: Final = (((32, 8, 64), 4096, 4), ((12, 12, 64), 1024, 4), ((32, 8, 128), 2048, 4))


def points() -> list[Point]:
    """All attention points, the most important first within each tier."""
    anchors = [_point(*each, kind, tier=ANCHOR) for each, kind in product(_ANCHORS, KINDS)]
    core = [
        _point(heads, seq, tokens // seq, kind, tier=CORE)
        for (seq, tokens), heads, kind in product(
            ((4096, 4096), (2048, 8192), (1024, 4096), (4096, 16384), (8192, 8192)), _HEADS, KINDS
        )
    ]
    masked = [
        _point((heads, heads, width), seq, batch, kind, tier=CORE, mask="bias")
        for (heads, width, seq, batch), kind in product(
            (
                (32, 64, 4096, 1),
                (32, 64, 4096, 4),
                (12, 64, 1024, 4),
                (32, 128, 2048, 2),
                (16, 128, 4096, 1),
                (32, 64, 1024, 8),
                (12, 64, 2048, 8),
                (32, 128, 4096, 1),
                (8, 128, 8192, 1),
                (32, 64, 2048, 4),
                (32, 64, 8192, 1),
                (16, 64, 1024, 8),
                (16, 64, 2048, 4),
                (12, 64, 1024, 16),
                (16, 128, 2048, 2),
                (16, 128, 1024, 4),
                (32, 128, 1024, 4),
                (32, 128, 8192, 1),
                (25, 64, 1024, 8),
            ),
            KINDS,
        )
    ]
    return [
        *anchors,
        *_interleaved(core, masked),
        *_masks(),
        *_interleaved(_wide(), _heads()),
        *_widths(),
        *_queries(),
        *_flash(),
        *_sustained(),
        *_between(),
    ]


def _point(  # noqa: PLR0913 - a shape, a pass and what masks it
    heads: tuple[int, int, int],
    seq_length: int,
    batch: int,
    kind: AttentionKind,
    *,
    tier: int,
    mask: str = "causal",
    impl: str = "cudnn",
    **fields: Any,  # noqa: ANN401 - further fields of Attention
) -> Point:
    operator = Attention(
        batch=batch,
        num_heads=heads[0],
        num_query_groups=heads[1],
        seq_length=seq_length,
        head_dim=heads[2],
        causal=mask == "causal",
        bias=mask == "bias",
        kind=kind,
        impl=impl,
        **fields,
    )
    return Point(operator=operator, tier=tier, anchor=tier == ANCHOR)


def _interleaved(first: list[Point], second: list[Point]) -> list[Point]:
    ranked = [((i + 0.5) / len(group), p) for group in (first, second) for i, p in enumerate(group)]
    return [p for _, p in sorted(ranked, key=lambda pair: pair[0])]


def _wide() -> list[Point]:
    """Short and long sequences, tensor-parallel shards, and the full square without a bias."""
    sequences = (
        ((32, 8, 64), 512, 16),
        ((32, 8, 128), 512, 8),
        ((32, 8, 64), 1024, 16),
        ((32, 8, 64), 2048, 16),
        ((32, 8, 64), 16384, 1),
        ((16, 8, 128), 16384, 1),
        ((25, 25, 64), 1024, 8),
        ((24, 8, 128), 4096, 2),
        ((32, 8, 128), 1024, 8),
        ((32, 8, 128), 8192, 2),
        ((12, 12, 64), 512, 32),
        ((32, 8, 128), 16384, 1),
        ((12, 12, 64), 8192, 1),
    )
    shards = (
        ((8, 1, 128), 4096, 1),
        ((8, 2, 64), 2048, 4),
        ((16, 2, 128), 8192, 1),
        ((4, 4, 128), 2048, 4),
        ((5, 5, 128), 4096, 2),
    )
    full = (
        ((32, 8, 64), 4096, 1),
        ((12, 12, 64), 1024, 8),
        ((32, 32, 128), 2048, 2),
        ((16, 16, 64), 512, 32),
    )
    return [
        *(_point(*each, kind, tier=WIDE) for each, kind in product(sequences, KINDS)),
        *(_point(*each, kind, tier=WIDE) for each, kind in product(shards, KINDS)),
        *(_point(*each, kind, tier=WIDE, mask="full") for each, kind in product(full, KINDS)),
    ]


def _heads() -> list[Point]:
    """Head counts, batches and lengths between those of known models."""
    shapes = (
        ((8, 8, 128), 2048, 8),
        ((128, 8, 128), 4096, 1),
        ((40, 8, 128), 4096, 2),
        ((96, 8, 128), 2048, 1),
        ((20, 20, 64), 4096, 2),
        ((64, 64, 64), 1024, 2),
        ((48, 8, 64), 8192, 1),
        ((128, 128, 64), 512, 4),
        ((8, 2, 128), 32768, 1),
        ((16, 4, 64), 32768, 1),
        ((10, 2, 128), 12288, 1),
        ((28, 4, 128), 3072, 3),
        ((8, 8, 64), 512, 2),
        ((24, 4, 64), 1536, 6),
        ((8, 1, 128), 65536, 1),
        ((4, 1, 128), 131072, 1),
    )
    return [_point(*each, kind, tier=WIDE) for each, kind in product(shapes, KINDS)]


def _widths() -> list[Point]:
    """Other head widths: Phi-3, Gemma, and the latent attention of DeepSeek."""
    equal = (
        ((32, 32, 96), 4096, 1),
        ((16, 4, 96), 8192, 1),
        ((8, 4, 256), 4096, 2),
        ((16, 8, 256), 8192, 1),
    )
    latent = (((16, 16, 192), 4096, 2), ((128, 128, 192), 4096, 1), ((32, 32, 192), 8192, 1))
    return [
        *(
            _point(*each, kind, tier=WIDE, value_head_dim=128)
            for each, kind in product(latent, KINDS)
        ),
        *(_point(*each, kind, tier=WIDE) for each, kind in product(equal, KINDS)),
    ]


def _masks() -> list[Point]:
    """Sliding windows (GPT-OSS, Mistral, Gemma 3) and packed documents."""
    windows = (
        ((64, 8, 64), 4096, 1, 128),
        ((64, 8, 64), 8192, 1, 128),
        ((64, 8, 64), 16384, 1, 128),
        ((32, 8, 128), 8192, 1, 4096),
        ((16, 8, 128), 8192, 2, 1024),
        ((32, 8, 128), 4096, 2, 512),
    )
    packed = (
        ((32, 8, 128), 8192, 1, 8),
        ((32, 8, 128), 8192, 1, 32),
        ((32, 8, 64), 4096, 2, 4),
        ((16, 8, 128), 32768, 1, 16),
    )
    return [
        *(
            _point(heads, seq, batch, kind, tier=WIDE, window=window)
            for (heads, seq, batch, window), kind in product(windows, KINDS)
        ),
        *(
            _point(heads, seq, batch, kind, tier=WIDE, documents=documents)
            for (heads, seq, batch, documents), kind in product(packed, KINDS)
        ),
    ]


def _queries() -> list[Point]:
    """Steps of ring attention, a chunk of a long prompt, and decoding."""
    ring = (((32, 8, 128), 4096, 1, 2048), ((16, 4, 128), 8192, 1, 4096))
    whole = (((32, 8, 128), 4096, 1), ((32, 8, 128), 8192, 1))
    chunks = (((32, 8, 128), 8192, 1, 512), ((32, 8, 128), 16384, 1, 2048))
    decode = (
        ((32, 8, 128), 4096, 8),
        ((32, 8, 128), 4096, 64),
        ((32, 8, 128), 32768, 8),
        ((64, 8, 128), 8192, 16),
    )
    return [
        *(
            _point(heads, seq, batch, kind, tier=WIDE, mask="full", query_length=queries)
            for (heads, seq, batch, queries), kind in product(ring, KINDS)
        ),
        *(_point(*each, kind, tier=WIDE, mask="full") for each, kind in product(whole, KINDS)),
        *(
            _point(heads, seq, batch, "forward", tier=WIDE, query_length=queries)
            for heads, seq, batch, queries in chunks
        ),
        *(_point(*each, "forward", tier=WIDE, query_length=1) for each in decode),
    ]


def _flash() -> list[Point]:
    shapes = (
        ((32, 8, 64), 4096, 1),
        ((12, 12, 64), 1024, 8),
        ((32, 8, 128), 2048, 2),
        ((32, 8, 128), 4096, 1),
        ((12, 12, 64), 2048, 4),
        ((32, 8, 64), 1024, 8),
        ((64, 8, 128), 4096, 1),
        ((16, 8, 128), 8192, 1),
    )
    others: tuple[tuple[tuple[int, int, int], int, int, dict[str, Any]], ...] = (
        ((64, 8, 64), 4096, 1, {"window": 128}),
        ((32, 8, 128), 8192, 1, {"documents": 8}),
        ((8, 4, 256), 4096, 2, {}),
    )
    return [
        *(_point(*each, kind, tier=WIDE, impl="flash") for each, kind in product(shapes, KINDS)),
        *(
            _point(heads, seq, batch, kind, tier=WIDE, impl="flash", **fields)
            for (heads, seq, batch, fields), kind in product(others, KINDS)
        ),
    ]


def _between() -> list[Point]:
    """Sizes between those before; masks and queries of more kinds."""
    return [
        *(
            _point(*each, kind, tier=BETWEEN)
            for each, kind in product([*sizes.SHARDS, *sizes.SHORT], KINDS)
        ),
        *(
            _point(heads, seq, batch, kind, tier=BETWEEN, window=window)
            for (heads, seq, batch, window), kind in product(sizes.WINDOWS, KINDS)
        ),
        *(
            _point(heads, seq, batch, kind, tier=BETWEEN, documents=documents)
            for (heads, seq, batch, documents), kind in product(sizes.PACKED, KINDS)
        ),
        *(_point(*each, "forward", tier=BETWEEN, query_length=1) for each in sizes.DECODE),
        *(
            _point(heads, seq, batch, "forward", tier=BETWEEN, query_length=queries)
            for heads, seq, batch, queries in sizes.CHUNKS
        ),
        *(
            _point(heads, seq, batch, kind, tier=BETWEEN, mask="full", query_length=queries)
            for (heads, seq, batch, queries), kind in product(sizes.RING, KINDS)
        ),
    ]


def _sustained() -> list[Point]:
    return [
        Point(
            operator=Attention(
                batch=4, num_heads=32, num_query_groups=8, seq_length=4096, head_dim=128, kind=kind
            ),
            sustained_seconds=3.0,
            tier=SUSTAINED,
        )
        for kind in KINDS
    ]
