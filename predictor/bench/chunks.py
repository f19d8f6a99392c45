"""Chunks of a run: points that are prepared together, and whose rounds are mixed."""

from collections.abc import Iterator, Sequence
from typing import Final

from predictor.bench.points import Point

CHUNK_POINTS: Final = 32
SLOW_CHUNK_POINTS: Final = 8
"""Of points that take seconds to prepare: little is lost when the budget ends meanwhile."""
CHUNK_MEMORY_BYTES: Final = 16e9


def chunks(points: Sequence[Point], l2_bytes: float) -> Iterator[list[Point]]:
    """Split points in order: by tier, by number and by the device memory they hold together."""
    chunk: list[Point] = []
    held = 0.0
    for point in points:
        needed = point.memory_bytes(l2_bytes)
        full = len(chunk) >= _most_points(point) or held + needed > CHUNK_MEMORY_BYTES
        if chunk and (full or point.tier != chunk[-1].tier):
            yield chunk
            chunk, held = [], 0.0
        chunk.append(point)
        held += needed
    if chunk:
        yield chunk


def _most_points(point: Point) -> int:
    return SLOW_CHUNK_POINTS if point.cost_seconds > 1.0 else CHUNK_POINTS
