"""What a family's cost function makes of a batch of operators, before any coefficient is known."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol, Self
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from predictor.case import Gpu
from predictor.costs.prediction import Floats, Ints
from predictor.errors import FitError
from predictor.operators import Operator
from predictor.values import frozen

LAUNCH_SECONDS = 2.0e-6
"""A kernel that does nothing: start, one wave of empty blocks, end."""

LEAST_RATIO = 0.05
"""No kernel beats its bound twentyfold, even out of L2; keeps logarithms finite."""

L2_BYTES_PER_CLOCK = 64.0
"""What an SM reads from L2 in a clock (Jia et al. 2018, arXiv:1804.06826, table 3.1: Volta)."""

Prior = Mapping[str, tuple[float, float]]
"""Expected coefficient and its standard deviation, by regressor."""


@frozen(kw_only=True)
class Chip:
    """The datasheet rates that bounds are made of.

    Attributes:
        flops_per_second: Dense tensor rate at boost clock, by number format.
        bytes_per_second: HBM rate.
        l2_bytes: Second-level cache.
        sm_count: Streaming multiprocessors.
        clock_hz: Boost clock.
        link_bytes_per_second: Scale-up rate of a GPU, one way.
        host_bytes_per_second: Rate of the link to the host, one way.
    """

    flops_per_second: Mapping[str, float]
    bytes_per_second: float
    l2_bytes: float
    sm_count: int
    clock_hz: float = 1.8e9
    link_bytes_per_second: float = 0.0
    host_bytes_per_second: float = 0.0

    @property
    def sm_l2_bytes_per_second(self) -> float:
        """What one SM reads from L2."""
        return L2_BYTES_PER_CLOCK * self.clock_hz

    @property
    def l2_bytes_per_second(self) -> float:
        """What all SMs read from L2."""
        return self.sm_l2_bytes_per_second * self.sm_count


def chip_of(gpu: Gpu) -> Chip:
    """The rates of a datasheet that bounds are made of."""
    return Chip(
        flops_per_second=gpu.peak_flops_per_second,
        bytes_per_second=gpu.memory_bytes_per_second,
        l2_bytes=float(gpu.l2_bytes or 50e6),
        sm_count=gpu.sm_count or 132,
        clock_hz=gpu.boost_clock_hz or 1.8e9,
        link_bytes_per_second=gpu.scaleup_bytes_per_second,
        host_bytes_per_second=gpu.pcie_bytes_per_second,
    )


UNRELATED = 100.0
"""A step of a coordinate across which residuals do not correlate."""


class Design(Protocol):
    """Bound, coordinates and trend of a batch of operators; one entry or row an operator.

    Attributes:
        bound: Physical lower estimate, seconds.
        floor: Seconds that the memory level which holds the data needs; nothing is faster.
        coordinates: Positions for the correlation of residuals.
        group: Residuals correlate only within one group; unmeasured groups are extrapolated.
        stratum: Operators of one stratum are about equally hard to predict.
    """

    @property
    def bound(self) -> Floats: ...  # noqa: D102
    @property
    def floor(self) -> Floats: ...  # noqa: D102
    @property
    def coordinates(self) -> Floats: ...  # noqa: D102
    @property
    def group(self) -> Ints: ...  # noqa: D102
    @property
    def stratum(self) -> Ints: ...  # noqa: D102
    @property
    def names(self) -> tuple[str, ...]:
        """Names of the coefficients."""

    def log_trend(self, coefficients: Floats) -> Floats:
        """Logarithm of seconds over the bound for one set of coefficients, or a row for each."""

    def take(self, chosen: NDArray[np.bool_]) -> Self:
        """The rows where ``chosen``."""


@frozen(kw_only=True)
class LinearDesign:
    """A design whose trend is a sum of regressors; see :class:`Design`.

    Attributes:
        bound: See :class:`Design`.
        floor: See :class:`Design`.
        coordinates: See :class:`Design`.
        group: See :class:`Design`.
        stratum: See :class:`Design`.
        columns: Regressors by name, each over the bound: they add up to the ratio itself.
    """

    bound: Floats
    floor: Floats
    coordinates: Floats
    group: Ints
    stratum: Ints
    columns: Mapping[str, Floats]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the regressors."""
        return tuple(self.columns)

    @property
    def matrix(self) -> Floats:
        """One row an operator, one column a regressor."""
        return np.stack(list(self.columns.values()), axis=1)

    def log_trend(self, coefficients: Floats) -> Floats:
        """Logarithm of the ratio that coefficients (one set, or a row an operator) predict."""
        trend = np.sum(self.matrix * coefficients, axis=1)
        return np.asarray(np.log(np.maximum(trend, LEAST_RATIO)))

    def take(self, chosen: NDArray[np.bool_]) -> Self:
        """The rows where ``chosen``."""
        return replace(
            self,
            bound=self.bound[chosen],
            floor=self.floor[chosen],
            coordinates=self.coordinates[chosen],
            group=self.group[chosen],
            stratum=self.stratum[chosen],
            columns={name: values[chosen] for name, values in self.columns.items()},
        )


def column(rows: Sequence[Operator], key: str) -> Floats:
    """One numeric field of all rows."""
    return np.array([getattr(row, key) for row in rows], dtype=float)


def words(rows: Sequence[Operator], key: str) -> NDArray[np.str_]:
    """One text field of all rows."""
    return np.array([getattr(row, key) for row in rows], dtype=np.str_)


def flags(rows: Sequence[Operator], key: str) -> Floats:
    """One yes-or-no field of all rows as 0 and 1."""
    return np.array([bool(getattr(row, key)) for row in rows], dtype=float)


def labels(rows: Sequence[Operator], *keys: str) -> Ints:
    """One number for each combination of the words in some fields, the same in every release."""
    return np.array([_label(row, keys) for row in rows], dtype=np.int64)


def _label(row: Operator, keys: tuple[str, ...]) -> int:
    return crc32("/".join(str(getattr(row, key)) for key in keys).encode())


def peaks(chip: Chip, dtypes: NDArray[np.str_]) -> Floats:
    """Tensor rate of each row's number format.

    Raises:
        FitError: The datasheet gives no rate for a format.
    """
    missing = sorted(set(dtypes.ravel().tolist()) - set(chip.flops_per_second))
    if missing:
        known = ", ".join(sorted(chip.flops_per_second))
        raise FitError(f"dtype = {missing[0]!r}: this GPU's datasheet gives rates of {known}")
    return np.array([chip.flops_per_second[str(d)] for d in dtypes])
