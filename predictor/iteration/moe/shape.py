"""Rows that one rank's expert kernels work on, and the operators over them."""

from typing import Final, Literal

import numpy as np

from predictor.iteration.layer import Layer
from predictor.iteration.layer_parts import Experts
from predictor.iteration.moe.mapping import ExpertPlan
from predictor.iteration.recipes import Recipe
from predictor.operators import GroupedGemm
from predictor.operators.gemm import GemmKind
from predictor.operators.grouped_gemm import token_counts
from predictor.values import frozen

PROBABILITY_BYTES: Final = 4.0
"""Of a row's probability, in fp32."""

GroupedImpl = Literal["looped", "multi_stream", "torch"]


@frozen(kw_only=True)
class Routed:
    """One expert layer of a micro-batch on the fullest rank.

    Attributes:
        layer: The layer.
        experts: Its experts.
        plan: Their mapping.
        tokens: Tokens that the rank routes.
    """

    layer: Layer
    experts: Experts
    plan: ExpertPlan
    tokens: int

    @property
    def copies(self) -> int:
        """Rows that the rank's tokens become, one for each expert visited, before any drop."""
        return self.tokens * self.experts.top_k

    @property
    def sent(self) -> int:
        """Rows that the rank sends."""
        return self._whole(self.copies * min(self.plan.load.kept, 1.0))

    @property
    def received(self) -> int:
        """Rows that the rank receives from the ranks that share the experts."""
        return self._whole(self.copies * self.plan.load.kept)

    @property
    def rows(self) -> int:
        """Rows that the rank's experts run: those of all ranks that share one expert.

        Batched experts all run as many rows as the fullest of them has.
        """
        rows = self.received * self.plan.tensor.ranks
        if self.plan.experts != "batched":
            return rows
        held = self.experts.held
        return held * max(token_counts(rows, held, round(self.plan.load.skew, 2)))

    def shared_bytes(self, *, probabilities: bool) -> list[float]:
        """What ranks that share an expert gather or sum: all its rows, and their probabilities."""
        sizes = [2.0 * self.rows * self.layer.hidden]
        return [*sizes, PROBABILITY_BYTES * self.rows] if probabilities else sizes

    @property
    def up(self) -> int:
        """Columns of an expert's first product."""
        return (2 if self.layer.gated else 1) * self.experts.ffn

    def grouped(
        self,
        out: int,
        into: int,
        kind: GemmKind,
        *,
        impl: GroupedImpl,
        recipe: Recipe | None = None,
        accumulate: bool = False,
    ) -> GroupedGemm:
        """One product of all experts of the rank, ``rows`` by ``into`` to ``out``.

        Experts of small numbers have their rows filled up to whole blocks.
        """
        rows, held = self.rows, self.experts.held
        if recipe:
            rows = held * recipe.expert_rows * -(-rows // (held * recipe.expert_rows))
        return GroupedGemm(
            tokens=rows,
            experts=held,
            n=out,
            k=into,
            dtype=recipe.dtype if recipe else "bf16",
            kind=kind,
            skew=0.0 if self.plan.experts == "batched" else round(self.plan.load.skew, 2),
            accumulate=accumulate,
            impl=impl,
        )

    def each(self, recipe: Recipe | None = None) -> tuple[int, ...]:
        """Rows of every expert of the rank, where they run one by one.

        No framework skips an expert without rows, so none has fewer than one.
        """
        counts = self.grouped(1, 1, "forward", impl="looped", recipe=recipe).counts
        return tuple(max(count, 1) for count in counts)

    @staticmethod
    def _whole(rows: float) -> int:
        if isinstance(rows, np.ndarray):  # of micro-batches of many sizes
            return np.maximum(np.rint(rows), 1.0)
        return max(1, round(rows))
