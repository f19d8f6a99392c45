"""The families of operators that have a cost function, one line each."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from predictor.costs.attention import ATTENTION_PRIOR, attention_design
from predictor.costs.bounds import (
    STREAM_PRIOR,
    WARM_LIKE_COLD,
    optimizer_design,
    stream_design,
)
from predictor.costs.design import Chip, Design, Prior
from predictor.costs.grouped import GROUPED_PRIOR, grouped_design
from predictor.costs.limits import FACTOR, LOGARITHM, SCALE, SHARE, Limits
from predictor.costs.messages import (
    COPY_PRIOR,
    MESSAGE_PRIOR,
    collective_design,
    memcpy_design,
)
from predictor.costs.products import gemm_design
from predictor.costs.tile_table import COEFFICIENTS
from predictor.operators import OPERATORS, Collective, Operator
from predictor.values import frozen


@frozen(kw_only=True)
class Family:
    """How one family is fitted.

    Attributes:
        design: Bound, regressors and coordinates of operators in a cache state.
        shape: Fields that make a shape, which is held out as a whole.
        prior: If given, each group of the design has coefficients of its own, drawn to it.
        shared_prior: If given, what the coefficients of all groups together are drawn to.
        resemblance: How far coefficients of warm groups lie from those of the cold ones.
    """

    design: Callable[[Sequence[Operator], Chip, str], Design]
    shape: tuple[str, ...]
    prior: Prior | None = None
    shared_prior: Prior | None = None
    resemblance: Mapping[str, float] | None = None

    @property
    def limits(self) -> Mapping[str, Limits]:
        """Names of its coefficients, and where each may lie."""
        return dict.fromkeys(self.prior or self.shared_prior or (), FACTOR) or PRODUCT_LIMITS


PRODUCT_LIMITS: Final[Mapping[str, Limits]] = {
    name: SCALE if each.scales else LOGARITHM for name, each in COEFFICIENTS.items()
} | {"idle": SHARE}

COLLECTIVES: Final = tuple(
    name for name, operator in OPERATORS.items() if issubclass(operator, Collective)
)

FAMILIES: Final[Mapping[str, Family]] = {
    "gemm": Family(design=gemm_design, shape=("n", "k")),
    "grouped_gemm": Family(design=grouped_design, shape=("n", "k", "experts"), prior=GROUPED_PRIOR),
    "attention": Family(
        design=attention_design,
        shape=("num_heads", "num_query_groups", "head_dim"),
        shared_prior=ATTENTION_PRIOR,
    ),
    "memory_bound": Family(
        design=stream_design,
        shape=("kernel", "impl", "rows", "cols"),
        prior=STREAM_PRIOR,
        resemblance=WARM_LIKE_COLD,
    ),
    "optimizer": Family(
        design=optimizer_design, shape=("kernel", "impl", "dtype", "elements"), prior=STREAM_PRIOR
    ),
    "memcpy": Family(
        design=memcpy_design, shape=("direction", "pinned", "bytes"), prior=COPY_PRIOR
    ),
    **{
        name: Family(design=collective_design, shape=("bytes",), prior=MESSAGE_PRIOR)
        for name in COLLECTIVES
    },
}
