"""Tiles and coefficients of matrix products (eq. 2-5) before anything is measured."""

from collections.abc import Iterable, Mapping
from functools import cache
from itertools import chain
from typing import Final, NamedTuple

import numpy as np

TILES: Final = (
    *((64, wide) for wide in (32, 64, 96, 128, 160, 192, 256)),
    *((128, wide) for wide in (32, 96, 128, 160, 192, 224, 256)),
    *((192, wide) for wide in (96, 128, 160, 192)),
    (320, 128),
)
"""Output tiles of the library's Hopper kernels, either side up, as their names list them. Where
64 divides the output, those of other sides fill one wave of SMs exactly; no second one is run."""

CUT_WIDTHS: Final = (72, 80, 112, 144, 168)
"""Of the other side of tiles 64 or 128 high that fill one wave, where that side lies along an
operand that is contiguous along K: along a turned one the library's tiles are multiples of 32."""

FITTED_WIDTHS: Final = (96, 112, 144, 160, 176, 208, 232, 272, 304)
"""Of the other side of tiles 128, 192 or 256 high, which cut an output that 64 does not divide: its
kernels' names have every multiple of 8."""

OLD_TILES: Final = ((128, 128), (128, 256))
"""Of the kernels that load rows off 16 bytes."""

ROUND_TILES: Final = ((192, 192), (128, 320), (128, 256), (128, 192))
"""Rows and columns of those that run in many rounds: 1,088 of 1,125 products of two rounds and more
ran one of the first three on an H100, as their kernels' names say."""

SPLIT_TILES: Final = ((64, 64), (64, 128), (128, 128), (128, 192), (128, 256))
SPLITS: Final = (2, 3, 4, 6)
LARGEST_TILE: Final = max(a * b for a, b in TILES)
WIDE_CLUSTERS: Final = 10 / 11
"""Share of SMs that clusters of four or eight fill: 120 of 132 (cudaOccupancyMaxActiveClusters on
two H100s and an H200). Tiles on more SMs than that share operands in pairs alone."""

SMALL_TILE: Final = 64 * 128
"""Smaller ones are asked only where one wave of the largest tiles holds the whole output."""

WHOLE: Final = 64
"""Columns of 128 bytes, which is what a row of shared memory holds."""


class Candidate(NamedTuple):
    """A tile and the number of parts that its reduction is split into."""

    high: int
    wide: int
    splits: int

    @property
    def is_odd(self) -> bool:
        """A side is no multiple of 64."""
        return self.high % WHOLE > 0 or self.wide % WHOLE > 0

    @property
    def coefficient(self) -> str:
        """Name of the coefficient of this tile, whichever side is up."""
        return _coefficient(self.high, self.wide)


@cache
def _coefficient(high: int, wide: int) -> str:
    return f"tile_{min(high, wide)}x{max(high, wide)}"


def _candidates(tiles: Iterable[tuple[int, int]], splits: Iterable[int]) -> tuple[Candidate, ...]:
    """Each tile either side up, with each number of splits."""
    found = (
        Candidate(high, wide, number)
        for a, b in tiles
        for high, wide in ((a, b), (b, a))
        for number in splits
    )
    return tuple(dict.fromkeys(found))


FEW: Final = _candidates(TILES, (1,))
"""Asked where one wave of the largest tiles holds the whole output; odd ones in one wave alone."""

ANY_WAVES: Final = tuple(
    tile for tile in FEW if not tile.is_odd and tile.high * tile.wide >= SMALL_TILE
)
CUT_COLS: Final = tuple(Candidate(high, wide, 1) for high in (64, 128) for wide in CUT_WIDTHS)
"""Asked in one wave where ``FEW`` is and the second operand is not turned."""

CUT_ROWS: Final = tuple(Candidate(wide, high, 1) for high, wide, _ in CUT_COLS)
"""The same of the first operand."""

SPLIT: Final = tuple(_candidates(SPLIT_TILES, (number,)) for number in SPLITS)
"""By the number of parts, asked where ``FEW`` is."""

FITTED_COLS: Final = tuple(
    Candidate(high, wide, 1)
    for high in (128, 192, 256)
    for wide in FITTED_WIDTHS
    if high * wide <= LARGEST_TILE
)
"""Asked where 64 does not divide the columns."""

FITTED_ROWS: Final = tuple(Candidate(wide, high, 1) for high, wide, _ in FITTED_COLS)
"""Asked where 64 does not divide the rows."""

OLD: Final = tuple(_candidates(OLD_TILES, (number,)) for number in (1, *SPLITS))
"""By the number of parts; asked, and nothing else is, where rows begin off 16 bytes."""


class Coefficient(NamedTuple):
    """What is known of a coefficient before anything is measured.

    Attributes:
        expected: Value that the fit starts from and keeps where the sweep is silent.
        deviation: How far it may be off, in logarithms where it ``scales``.
        scales: It multiplies a rate's time and is positive; else it adds to a logarithm or a share.
    """

    expected: float
    deviation: float
    scales: bool


COEFFICIENTS: Final[Mapping[str, Coefficient]] = {
    "launch": Coefficient(1.3, 0.5, scales=True),
    "tensor": Coefficient(1.2, 0.2, scales=True),
    "feed": Coefficient(1.0, 0.3, scales=True),
    "epilogue": Coefficient(2.0, 0.5, scales=True),
    "drain": Coefficient(1.0, 0.5, scales=True),
    "queue": Coefficient(0.5, 1.0, scales=True),
    "wave": Coefficient(0.3, 0.5, scales=True),
    "memory": Coefficient(1.2, 0.2, scales=True),
    "latency": Coefficient(0.3, 0.5, scales=True),
    "turned": Coefficient(0.0, 0.1, scales=False),
    "split": Coefficient(1.0, 0.7, scales=True),
    "partials": Coefficient(3.0, 0.7, scales=True),
    "misaligned": Coefficient(2.0, 1.0, scales=False),
    "misaligned_turned": Coefficient(0.0, 0.3, scales=False),
    "odd_operand": Coefficient(6.0, 2.0, scales=False),
    "odd_turned_rows": Coefficient(0.0, 0.5, scales=False),
    "odd_output": Coefficient(9.0, 3.0, scales=False),
    "idle": Coefficient(0.4, 0.7, scales=True),
    "power": Coefficient(1.0, 0.2, scales=True),
    "written": Coefficient(0.3, 0.3, scales=True),
    "rounds": Coefficient(0.6, 0.2, scales=True),
    "rounds_deep": Coefficient(-0.015, 0.01, scales=False),
    "rounds_128x320": Coefficient(0.01, 0.02, scales=False),
    "rounds_128x256": Coefficient(0.02, 0.02, scales=False),
    "rounds_128x192": Coefficient(0.06, 0.02, scales=False),
    "warm": Coefficient(0.05, 0.1, scales=False),
    "hot": Coefficient(0.3, 0.15, scales=False),
    "odd": Coefficient(0.03, 0.03, scales=False),
    "odd_turned": Coefficient(0.1, 0.2, scales=False),
    "ragged_feed": Coefficient(0.5, 0.5, scales=False),
    "pairs": Coefficient(0.1, 1.0, scales=True),
    "ragged_pairs": Coefficient(0.2, 1.0, scales=True),
    "ragged_epilogue": Coefficient(0.3, 0.3, scales=False),
    "ragged_write": Coefficient(0.3, 0.3, scales=False),
    "rewrite": Coefficient(0.5, 0.3, scales=False),
    **{
        name: Coefficient(0.0, 0.04, scales=False)
        for name in sorted({tile.coefficient for tile in FEW + CUT_COLS + FITTED_COLS})
    },
    "ragged": Coefficient(0.1, 0.1, scales=False),
    "dgrad": Coefficient(0.0, 0.05, scales=False),
    "wgrad": Coefficient(0.0, 0.05, scales=False),
    "accumulate": Coefficient(0.0, 0.05, scales=False),
    "bias": Coefficient(0.03, 0.05, scales=False),
    "gelu": Coefficient(0.05, 0.1, scales=False),
    "cublaslt": Coefficient(0.0, 0.03, scales=False),
    "best": Coefficient(0.0, 0.03, scales=False),
    "fp16": Coefficient(0.0, 0.05, scales=False),
    "tf32": Coefficient(0.0, 0.15, scales=False),
    "fp8": Coefficient(0.1, 0.2, scales=False),
    "tf32_turned": Coefficient(0.3, 0.2, scales=False),
}
NAMES: Final = tuple(COEFFICIENTS)
FLAGS: Final = NAMES[NAMES.index("ragged") :]
"""Coefficients that add to the logarithm of seconds."""

EXPECTED: Final = np.array([each.expected for each in COEFFICIENTS.values()])
CANDIDATES: Final = (
    *ANY_WAVES,
    *FEW,
    *chain(*SPLIT),
    *CUT_COLS,
    *CUT_ROWS,
    *FITTED_COLS,
    *FITTED_ROWS,
    *chain(*OLD),
)
