"""Matrix products as the library runs them: the fastest of its tiles, in waves over the SMs.

    t = ( c_launch·t₀ + ( (T·heat)⁴ + (c_memory·B/β)⁴ )^¼ ) · exp(Σ flags)                (2)
    T = min over tiles a×b and splits s of
        W·( K/s·u + c_epilogue·a·b·o/L ) + [s>1]·( c_split·t₀ + c_partials·4·s·M·N/β )    (3)
    W = ⌈ s·⌈M/a⌉·⌈N/b⌉ / S ⌉
    u = max( c_tensor·2·a·b·S/Π, c_feed·(a+b)·i·(1 + c_ragged_feed·ragged)/L )            (4)
    heat = 1 + c_heat·x²/(1 + x²),  x = F/Π / 15 ms                                       (5)

An output of M×N is cut into tiles that run S at a time; a tile needs its products at the tensor
rate or its operands at the rate of an SM's port to L2 (L), whichever is slower, then writes its
output; where tiles are few, the library splits the reduction and adds up partial sums. Coefficients
are multiples of what the datasheet promises. Every candidate of (3) grows with M, N and K, and so
does the smallest of them. Symbols: docs/cost_model.md.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from predictor.costs.design import LAUNCH_SECONDS, Chip
from predictor.costs.prediction import Floats, Ints
from predictor.values import frozen


class Coefficient(NamedTuple):
    """What is known of a coefficient before anything is measured.

    Attributes:
        expected: Value that the fit starts from and keeps where the sweep is silent.
        deviation: How far it may be off, in logarithms where it ``scales``.
        scales: It multiplies a rate's time and is positive; else it adds to a logarithm.
    """

    expected: float
    deviation: float
    scales: bool


COEFFICIENTS: Final[Mapping[str, Coefficient]] = {
    "launch": Coefficient(1.3, 0.5, scales=True),
    "tensor": Coefficient(1.2, 0.2, scales=True),
    "feed": Coefficient(1.0, 0.3, scales=True),
    "epilogue": Coefficient(3.0, 0.5, scales=True),
    "memory": Coefficient(1.2, 0.2, scales=True),
    "split": Coefficient(1.0, 0.7, scales=True),
    "partials": Coefficient(3.0, 0.7, scales=True),
    "heat": Coefficient(0.15, 0.1, scales=False),
    "odd": Coefficient(0.03, 0.03, scales=False),
    "ragged_feed": Coefficient(0.5, 0.5, scales=False),
    "ragged": Coefficient(0.1, 0.1, scales=False),
    "misaligned": Coefficient(0.7, 0.5, scales=False),
    "dgrad": Coefficient(0.0, 0.05, scales=False),
    "wgrad": Coefficient(0.0, 0.05, scales=False),
    "accumulate": Coefficient(0.07, 0.1, scales=False),
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
EXPECTED: Final = np.array([each.expected for each in COEFFICIENTS.values()])

TILES: Final = (
    *((64, wide) for wide in (32, 64, 96, 128, 160, 192, 256)),
    *((128, wide) for wide in (32, 96, 128, 160, 192, 224, 256)),
    *((192, wide) for wide in (96, 128, 160, 192)),
    (320, 128),
)
"""Output tiles of the library's Hopper kernels, either side up, as their names list them. Those
that are no multiple of 64 wide fill one wave of SMs exactly; it runs no second wave of them."""

SPLIT_TILES: Final = ((64, 64), (64, 128), (128, 128), (128, 192), (128, 256))
SPLITS: Final = (2, 3, 4, 6, 8, 12)
TILE_DEPTH: Final = 64.0
"""Reduction step of a tile, in two-byte elements: one line of shared memory."""

WHOLE: Final = 64
HEAT_SECONDS: Final = 0.015
"""Bursts last some 30 ms, or a few calls where a call is long: calls of this length are half way
from a cool device's clock to the one that the power cap settles."""

TINY: Final = 1e-300

FORBIDDEN: Final = 1e9
"""What a second wave of an odd tile counts."""

BELOW_ONE: Final = 1.0 - 1e-12
"""Keeps a whole number of waves from being rounded up to the next."""

LARGEST_TILE: Final = max(a * b for a, b in TILES)

CHUNK: Final = 16384
"""Rows evaluated at once, so that temporaries stay in the cache."""


class Candidate(NamedTuple):
    """A tile and the number of parts that its reduction is split into."""

    high: int
    wide: int
    splits: int


def _candidates(tiles: Iterable[tuple[int, int]], splits: Iterable[int]) -> tuple[Candidate, ...]:
    """Each tile either side up, with each number of splits."""
    found = (
        Candidate(high, wide, number)
        for a, b in tiles
        for high, wide in ((a, b), (b, a))
        for number in splits
    )
    return tuple(dict.fromkeys(found))


def _is_odd(tile: tuple[int, int]) -> bool:
    return tile[0] % WHOLE > 0 or tile[1] % WHOLE > 0


ANY_WAVES: Final = _candidates((tile for tile in TILES if not _is_odd(tile)), (1,))
ONE_WAVE: Final = _candidates(filter(_is_odd, TILES), (1,)) + _candidates(SPLIT_TILES, SPLITS)
"""Asked only where one wave of the largest tiles holds the whole output."""


@frozen(kw_only=True)
class Products:
    """Matrix products as the tensor cores see them; one entry each.

    Attributes:
        rows: M of the output.
        cols: N of the output.
        depth: K, the reduced length, in two-byte elements.
        output_bytes: Of one element of the output.
        compute_seconds: Flops over the datasheet's rate.
        memory_seconds: Bytes over HBM's rate.
        ragged: Share of the operands whose rows do not begin on 32-byte sectors.
        flags: One column each of ``FLAGS``.
    """

    rows: Floats
    cols: Floats
    depth: Floats
    output_bytes: Floats
    compute_seconds: Floats
    memory_seconds: Floats
    ragged: Floats
    flags: Floats

    def take(self, chosen: NDArray[np.bool_] | slice) -> "Products":
        """Some of them."""
        return Products(**{each.name: getattr(self, each.name)[chosen] for each in fields(self)})


def tile_cost(tile: Candidate, products: Products, coefficients: Floats, chip: Chip) -> Floats:
    """Seconds of one tile on one SM: its reduction and its output (eq. 3 and 4)."""
    c = dict(zip(NAMES, coefficients.tolist(), strict=True))
    tensor = c["tensor"] * 2.0 * chip.sm_count / chip.flops_per_second["bf16"]
    feed = c["feed"] * 2.0 / chip.sm_l2_bytes_per_second * (1 + c["ragged_feed"] * products.ragged)
    depth = np.ceil(products.depth / TILE_DEPTH) * TILE_DEPTH
    step = np.maximum(tensor * tile.high * tile.wide, feed * (tile.high + tile.wide))
    output = c["epilogue"] * products.output_bytes * (tile.high * tile.wide)
    return np.asarray(depth * step + output / chip.sm_l2_bytes_per_second)


def tile_seconds(products: Products, coefficients: Floats, chip: Chip) -> Floats:
    """Time on the tensor cores, eq. 3 and 4.

    Args:
        products: What to run.
        coefficients: In the order of ``NAMES``.
        chip: Datasheet rates.
    """
    best = np.empty(len(products.rows))
    for begin in range(0, len(best), CHUNK):
        part = slice(begin, begin + CHUNK)
        best[part] = _fastest(products.take(part), coefficients, chip)
    return best


def _fastest(products: Products, coefficients: Floats, chip: Chip) -> Floats:
    best = np.full(len(products.rows), np.inf)
    _try(ANY_WAVES, products, coefficients, chip, best)
    few = products.rows * products.cols <= chip.sm_count * LARGEST_TILE
    if few.any():
        chosen = best[few]
        _try(ONE_WAVE, products.take(few), coefficients, chip, chosen)
        best[few] = chosen
    return best


def _try(
    candidates: Sequence[Candidate],
    products: Products,
    coefficients: Floats,
    chip: Chip,
    best: Floats,
) -> None:
    """Lower ``best`` to the fastest of the candidates, eq. 3 and 4."""
    c = dict(zip(NAMES, coefficients.tolist(), strict=True))
    tensor = c["tensor"] * 2.0 * chip.sm_count / chip.flops_per_second["bf16"]
    ragged = 1.0 + c["ragged_feed"] * _common(products.ragged)
    feed = c["feed"] * 2.0 / chip.sm_l2_bytes_per_second * ragged
    output = _common(products.output_bytes)
    epilogue = c["epilogue"] * output / chip.sm_l2_bytes_per_second
    partials = c["partials"] * 4.0 * products.rows * products.cols / chip.bytes_per_second
    steps = products.depth / TILE_DEPTH
    waved = {
        (h, s): np.ceil(products.rows / h) * (s / chip.sm_count * BELOW_ONE)
        for h, s in {(each.high, each.splits) for each in candidates}
    }
    wides = {w: np.ceil(products.cols / w) for w in {each.wide for each in candidates}}
    depths = {s: np.ceil(steps / s) * TILE_DEPTH for s in {each.splits for each in candidates}}
    waves, cost = np.empty_like(steps), np.empty_like(steps)
    for high, wide, splits in candidates:
        np.multiply(waved[high, splits], wides[wide], out=waves)
        np.ceil(waves, out=waves)
        step = np.maximum(feed * (high + wide), tensor * high * wide)
        if _is_odd((high, wide)):
            step = step * (1.0 + c["odd"])
            waves -= 1.0
            waves *= FORBIDDEN
            waves += 1.0
        np.multiply(depths[splits], step, out=cost)
        cost += epilogue * (high * wide)
        cost *= waves
        if splits > 1:
            cost += partials * splits
            cost += c["split"] * LAUNCH_SECONDS
        np.minimum(best, cost, out=best)


def smooth_maximum(one: Floats, other: Floats) -> Floats:
    """Fourth root of the sum of fourth powers: two parts that overlap, but not perfectly."""
    larger = np.maximum(one, other)
    share = np.minimum(one, other) / np.maximum(larger, TINY)
    return np.asarray(larger * np.sqrt(np.sqrt(1.0 + np.square(np.square(share)))))


def _common(values: Floats) -> Floats | float:
    """The one value of an array that holds no other, so that arithmetic on it is done once."""
    first = float(values[0])
    return first if bool(np.all(values == first)) else values


@frozen(kw_only=True)
class TileDesign:
    """A design (:class:`predictor.costs.design.Design`) whose trend is eq. 2.

    Attributes:
        products: What runs.
        chip: Where.
        group: Number format, pass and options; unmeasured ones are extrapolated.
    """

    products: Products
    chip: Chip
    group: Ints

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the coefficients."""
        return NAMES

    @property
    def bound(self) -> Floats:
        """Launch, then the slower of tensor cores and memory at the datasheet's rates (eq. 1)."""
        products = self.products
        work = np.maximum(products.compute_seconds, products.memory_seconds)
        return np.asarray(LAUNCH_SECONDS + work)

    @property
    def floor(self) -> Floats:
        """Operands come from memory."""
        return self.products.memory_seconds

    @property
    def coordinates(self) -> Floats:
        """Logarithms of M, N and K."""
        products = self.products
        return np.log2(np.stack([products.rows, products.cols, products.depth], axis=1))

    @property
    def stratum(self) -> Ints:
        """Rows on or off sectors; calls that launch and drain for most of their time, or not."""
        products = self.products
        off = (products.ragged > 0) | (products.flags[:, FLAGS.index("misaligned")] > 0)
        short = products.compute_seconds < 5 * LAUNCH_SECONDS
        return np.asarray(2 * off + short, dtype=np.int64)

    def log_trend(self, coefficients: Floats) -> Floats:
        """Logarithm of seconds over the bound (eq. 2)."""
        return np.asarray(np.log(self.seconds(coefficients) / self.bound))

    def seconds(self, coefficients: Floats) -> Floats:
        """Seconds, eq. 2."""
        products = self.products
        c = dict(zip(NAMES, coefficients.tolist(), strict=True))
        compute = tile_seconds(products, coefficients, self.chip)
        long = (products.compute_seconds / HEAT_SECONDS) ** 2
        compute *= 1.0 + c["heat"] * long / (1.0 + long)
        memory = c["memory"] * products.memory_seconds
        work = smooth_maximum(compute, memory)
        factor = np.exp(products.flags @ coefficients[-len(FLAGS) :])
        return np.asarray((c["launch"] * LAUNCH_SECONDS + work) * factor)

    def take(self, chosen: NDArray[np.bool_]) -> Self:
        """The rows where ``chosen``."""
        return type(self)(
            products=self.products.take(chosen), chip=self.chip, group=self.group[chosen]
        )
