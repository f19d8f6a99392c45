"""Attention calls as arrays: heads, and the blocks of scores that their masks leave.

A block is 128 queries of a head by 128 keys; a kernel computes a block whole or not at all.
Packed documents begin new blocks, and blocks are launched for all as for the longest of them.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from predictor.costs.design import column, flags, words
from predictor.costs.prediction import Floats
from predictor.operators import Attention, Operator
from predictor.values import frozen

BLOCK: Final = 128
"""Queries of a block, and keys of a step."""

LANE: Final = 64
"""Heads are padded to a multiple of this width."""


@frozen(kw_only=True)
class Calls:
    """Fields of attention calls as arrays.

    Attributes:
        backward: 1 in the backward pass.
        heads: Query heads of all sequences.
        queries: Of a sequence.
        width: Of the products of one score: 2·(d + dv) flops forward, padded to whole lanes.
        scores: Of a head, those of half-masked blocks as well.
        edges: Of those, what blocks on the mask's edges compute in vain.
        blocks: Of all heads.
        empty: Of all heads, those that begin behind the end of their document.
        longest: Scores of the block with the most keys.
    """

    backward: Floats
    heads: Floats
    queries: Floats
    width: Floats
    scores: Floats
    edges: Floats
    blocks: Floats
    empty: Floats
    longest: Floats


def calls_of(rows: Sequence[Operator]) -> Calls:
    """Attention calls, one entry each."""
    queries, keys = column(rows, "queries"), column(rows, "seq_length")
    window = column(rows, "window")
    backward = (words(rows, "kind") == "backward").astype(float)
    head, value = (np.ceil(column(rows, f) / LANE) * LANE for f in ("head_dim", "value_dim"))
    packed = column(rows, "documents") > 1
    edges = flags(rows, "causal") * (1 + (window > 0)) * (queries >= BLOCK)
    whole = (flags(rows, "causal") > 0) & (queries == keys) | packed
    documents = [row.document_lengths for row in rows if isinstance(row, Attention)]
    cut = np.array([sum(np.ceil(n / BLOCK) for n in each) for each in documents])
    heads = column(rows, "batch") * column(rows, "num_heads")
    longest = np.where(packed, [max(each) for each in documents], keys)
    launched = column(rows, "documents") * np.ceil(longest / BLOCK)
    longest = np.where(window > 0, np.minimum(window + BLOCK, longest), longest)
    scores = column(rows, "scores")
    vain = np.where(whole, _whole_blocks(rows) - scores, edges * queries * BLOCK / 2)
    return Calls(
        backward=backward,
        heads=heads,
        queries=queries,
        width=2 * np.where(backward > 0, 3 * head + 2 * value, head + value),
        scores=scores + vain,
        edges=vain,
        blocks=heads * np.where(packed, cut, np.ceil(queries / BLOCK)),
        empty=heads * packed * (launched - cut),
        longest=longest * np.minimum(queries, BLOCK),
    )


def _whole_blocks(rows: Sequence[Operator]) -> Floats:
    """Scores of a sequence in whole blocks, each document's blocks its own."""
    return np.array([_blocks(row) * BLOCK**2 if isinstance(row, Attention) else 0 for row in rows])


def _blocks(row: Attention) -> int:
    """Under a causal mask the i-th block of queries meets i blocks of keys, or the window's."""
    total = 0
    for length in row.document_lengths:
        count = -(-length // BLOCK)
        most = min(-(-row.window // BLOCK) + 1, count) if row.window else count
        causal = most * (most + 1) // 2 + (count - most) * most
        total += causal if row.causal else count * count
    return total
