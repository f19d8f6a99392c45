"""The cost function of matrix products (eq. 1 and 2).

    t = ( (c_launch·t₀ + w)⁸ + P⁸ )^⅛ · exp(Σ flags)                                       (2)
    m = c_latency·t₀ + c_memory·e^(c_turned·turned)·B'/β                                   (5a)
    B' = B + (c_rewrite·[accumulate] + c_ragged_write·off)·(bytes of the output)

w is the time of the fastest tiles beside memory's m (:mod:`predictor.costs.tile_search`). A call
back to back with others takes at least P, what its energy takes at the power cap
(:mod:`predictor.costs.tile_power`). Symbols: docs/cost_model.md.
"""

from collections.abc import Mapping
from typing import Self

import numpy as np
from numpy.typing import NDArray

from predictor.costs.design import LAUNCH_SECONDS, Chip
from predictor.costs.prediction import Floats, Ints
from predictor.costs.tile_power import power_seconds
from predictor.costs.tile_search import TINY, fastest_tiles, tiling_work, work_seconds
from predictor.costs.tile_table import FLAGS, NAMES
from predictor.costs.tiles import Products, Tiling, common, named
from predictor.values import frozen


def _larger(work: Floats, power: Floats) -> Floats:
    """The slower of work and power, smoothly: x⁸ + y⁸ under the eighth root."""
    larger = np.maximum(work, power)
    share = np.square(np.square(np.square(np.minimum(work, power) / np.maximum(larger, TINY))))
    return np.asarray(larger * np.sqrt(np.sqrt(np.sqrt(1.0 + share))))


@frozen(kw_only=True)
class TileDesign:
    """A design (:class:`predictor.costs.design.Design`) whose trend is eq. 2.

    Attributes:
        products: What runs.
        chip: Where.
        rounds: One column each of ``ROUND_TILES``: what whole rounds compute, over the output.
        group: Number format, pass and options; unmeasured ones are extrapolated.
    """

    products: Products
    chip: Chip
    rounds: Floats
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
        off = products.ragged + products.misaligned + products.odd_output > 0
        short = products.compute_seconds < 5 * LAUNCH_SECONDS
        return np.asarray(2 * off + short, dtype=np.int64)

    def log_trend(self, coefficients: Floats) -> Floats:
        """Logarithm of seconds over the bound (eq. 2)."""
        return np.asarray(np.log(self.seconds(coefficients) / self.bound))

    def seconds(self, coefficients: Floats) -> Floats:
        """Seconds, eq. 2."""
        c = named(coefficients)
        return self._around(work_seconds(self.products, self._memory(c), c, self.chip), c)

    def fastest(self, coefficients: Floats) -> Ints:
        """Tiles that eq. 2a chooses, by their place among the candidates."""
        c = named(coefficients)
        return fastest_tiles(self.products, self._memory(c), c, self.chip)

    def log_trend_of(self, chosen: Ints, coefficients: Floats) -> Floats:
        """As :meth:`log_trend`, with these tiles even where others were faster."""
        c = named(coefficients)
        work = tiling_work(Tiling.each(chosen, c), self.products, self._memory(c), c, self.chip)
        return np.asarray(np.log(self._around(work, c) / self.bound))

    def _memory(self, c: Mapping[str, float]) -> Floats:
        """Seconds of reading and writing (eq. 5a)."""
        products = self.products
        again = c["rewrite"] * products.rewritten + c["ragged_write"] * products.ragged_output
        written = products.rows * products.cols * products.output_bytes
        moved = products.memory_seconds + again * written / self.chip.bytes_per_second
        turned = common(products.turned_rows) + common(products.turned_cols)
        return np.asarray(
            c["latency"] * LAUNCH_SECONDS + c["memory"] * np.exp(c["turned"] * turned) * moved
        )

    def _around(self, work: Floats, c: Mapping[str, float]) -> Floats:
        """Seconds of eq. 2 from those of tiles and memory."""
        products = self.products
        turned = np.maximum(common(products.turned_rows), common(products.turned_cols))
        power = power_seconds(products.compute_seconds, products.depth, self.rounds, turned, c)
        factor = np.exp(products.flags @ np.array([c[name] for name in FLAGS]))
        return np.asarray(_larger(c["launch"] * LAUNCH_SECONDS + work, power) * factor)

    def take(self, chosen: NDArray[np.bool_]) -> Self:
        """The rows where ``chosen``."""
        return type(self)(
            products=self.products.take(chosen),
            chip=self.chip,
            rounds=self.rounds[chosen],
            group=self.group[chosen],
        )
