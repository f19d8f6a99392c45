"""Attention points: causal, full, and the full square with a bias, forward and backward."""

from itertools import product
from typing import Final

from predictor.bench.points import Point
from predictor.bench.sweep.tiers import ANCHOR, CORE, SUSTAINED, WIDE
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
    return [*anchors, *_interleaved(core, masked), *_wide(), *_flash(), *_sustained()]


def _point(  # noqa: PLR0913 - a shape, a pass and what masks it
    heads: tuple[int, int, int],
    seq_length: int,
    batch: int,
    kind: AttentionKind,
    *,
    tier: int,
    mask: str = "causal",
    impl: str = "cudnn",
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
    return [_point(*each, kind, tier=WIDE, impl="flash") for each, kind in product(shapes, KINDS)]


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
