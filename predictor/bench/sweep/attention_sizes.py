"""Attention calls between those of :mod:`predictor.bench.sweep.attention`, by their sizes alone.

Heads are (query heads, key heads, width); then keys a sequence and the batch.
"""

from typing import Final

Heads = tuple[int, int, int]

SHARDS: Final[tuple[tuple[Heads, int, int], ...]] = (
    ((28, 4, 128), 4096, 1),
    ((14, 2, 64), 4096, 2),
    ((48, 8, 128), 4096, 1),
    ((24, 24, 128), 2048, 2),
    ((12, 12, 128), 2048, 4),
    ((20, 4, 128), 8192, 1),
    ((40, 40, 128), 2048, 1),
    ((10, 10, 128), 4096, 1),
    ((16, 1, 128), 8192, 1),
    ((16, 16, 128), 4096, 1),
    ((64, 8, 64), 4096, 1),
    ((8, 1, 64), 8192, 2),
    ((4, 1, 128), 16384, 1),
    ((8, 8, 128), 6144, 1),
    ((32, 4, 128), 4096, 1),
    ((16, 2, 128), 2048, 2),
    ((6, 6, 64), 1024, 16),
    ((25, 25, 64), 2048, 2),
    ((32, 32, 80), 2048, 2),
    ((16, 16, 96), 2048, 4),
)
"""Heads of public models, whole and cut by tensor parallelism."""

SHORT: Final[tuple[tuple[Heads, int, int], ...]] = (
    ((32, 8, 128), 256, 16),
    ((12, 12, 64), 256, 32),
    ((16, 16, 64), 384, 16),
    ((32, 32, 128), 512, 4),
    ((16, 16, 64), 512, 8),
    ((64, 8, 128), 512, 8),
    ((12, 12, 64), 768, 16),
    ((32, 8, 64), 640, 8),
    ((40, 8, 128), 1024, 2),
)
"""Sequences of a few blocks."""

WINDOWS: Final[tuple[tuple[Heads, int, int, int], ...]] = (
    ((64, 8, 64), 2048, 2, 128),
    ((8, 1, 64), 8192, 2, 128),
    ((32, 8, 64), 4096, 4, 128),
    ((32, 8, 128), 4096, 1, 256),
    ((8, 4, 256), 8192, 1, 1024),
    ((16, 8, 128), 8192, 1, 2048),
    ((32, 8, 128), 16384, 1, 4096),
    ((32, 8, 64), 8192, 1, 1024),
)
"""Last: the window."""

PACKED: Final[tuple[tuple[Heads, int, int, int], ...]] = (
    ((32, 8, 128), 4096, 2, 2),
    ((8, 2, 128), 8192, 2, 4),
    ((16, 16, 64), 8192, 1, 16),
    ((32, 8, 128), 16384, 1, 64),
    ((12, 12, 64), 4096, 4, 8),
    ((64, 8, 128), 8192, 1, 3),
)
"""Last: documents a sequence."""

DECODE: Final[tuple[tuple[Heads, int, int], ...]] = (
    ((32, 8, 128), 2048, 16),
    ((32, 8, 128), 8192, 32),
    ((8, 1, 128), 8192, 64),
    ((32, 32, 128), 2048, 8),
    ((64, 8, 64), 8192, 8),
    ((16, 8, 128), 16384, 4),
    ((8, 2, 128), 4096, 128),
)
"""One query a sequence."""

CHUNKS: Final[tuple[tuple[Heads, int, int, int], ...]] = (
    ((32, 8, 128), 4096, 1, 1024),
    ((16, 8, 128), 8192, 2, 1024),
    ((64, 8, 64), 16384, 1, 512),
)
"""Last: queries, the end of a prompt whose beginning is cached."""

RING: Final[tuple[tuple[Heads, int, int, int], ...]] = (
    ((8, 2, 128), 8192, 1, 4096),
    ((32, 8, 64), 4096, 1, 2048),
)
"""Last: queries, against keys of which the mask leaves all."""
