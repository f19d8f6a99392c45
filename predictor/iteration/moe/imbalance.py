"""How unevenly tokens reach the experts: the load of the fullest rank of a layer.

Dispatch ends when the fullest rank has its tokens and combine begins when it has run them, so each
layer takes what its fullest rank takes, and a step the sum of these. What is wanted is therefore
the expected maximum over ranks. A distribution is named in ``model.moe.imbalance``:

    balanced      every expert has the same share (a router that is forced to, or Megatron's
                  ``--moe-router-force-load-balancing`` over many tokens)
    consecutive   the same share, and each token's experts lie next to each other (the fake balanced
                  gate of NeMo AutoModel's benchmarks), so that it travels to fewer places
    random        every token picks ``top_k`` experts uniformly
    zipf:s        the share of the expert of popularity r goes with r**-s; which expert is how
                  popular is anybody's guess, so they are dealt to the ranks at random
    dirichlet:a   shares are drawn from a symmetric Dirichlet distribution of concentration a
    a number      tokens of the fullest rank over the mean, as somebody measured them

``model.moe.expert_tokens`` is a histogram; its experts lie on the ranks in their order. No expert
gets more than one copy of a token, so no share exceeds ``1/top_k``. Random loads are the mean of
``SAMPLES`` draws with a fixed seed.
"""

import math
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from predictor.case import Moe
from predictor.values import frozen

SAMPLES: Final = 512
EVEN: Final = frozenset({None, "balanced", "consecutive"})
SEED: Final = 20_260_101
MOST_SKEW: Final = 16.0

Floats = NDArray[np.float64]


@frozen(kw_only=True)
class Load:
    """What reaches the fullest rank of a layer.

    Attributes:
        fullest: Routed copies on it over the mean of all ranks, before any is dropped.
        kept: Routed copies on it that capacity leaves, over the same mean; padding included.
        skew: Zipf exponent of its experts' shares that has the same fullest expert.
    """

    fullest: float = 1.0
    kept: float = 1.0
    skew: float = 0.0


@lru_cache(maxsize=256)
def load_of(moe: Moe, *, ranks: int, copies: int) -> Load:
    """The expected load of the fullest of ``ranks`` expert-parallel ranks in one layer.

    Experts that are padded to their capacity (Megatron's
    ``--moe-pad-expert-input-to-capacity``) all have the same.

    Args:
        moe: The experts, their imbalance and their capacity.
        ranks: Ranks among which the experts lie; must divide their number.
        copies: Routed copies of tokens in the layer, over all ranks: tokens times ``top_k``.
    """
    capacity = math.inf if moe.capacity_factor is None else moe.capacity_factor
    given = 1.0 if moe.imbalance in EVEN else moe.imbalance
    if isinstance(given, float) and moe.expert_tokens is None:
        fullest = min(given, float(ranks))
        kept = capacity if moe.pad_to_capacity else min(fullest, capacity)
        return Load(fullest=fullest, kept=kept)
    held = (_shares(moe, copies) * moe.num_experts).reshape(-1, ranks, moe.num_experts // ranks)
    means = held.mean(axis=2)
    fullest = float(means.max(axis=1).mean())
    if moe.pad_to_capacity:
        return Load(fullest=fullest, kept=capacity)
    kept = float(np.minimum(held, capacity).mean(axis=2).max(axis=1).mean())
    experts = held[np.arange(len(held)), means.argmax(axis=1)]
    top = float(np.mean(experts.max(axis=1) / experts.mean(axis=1)))
    return Load(fullest=fullest, kept=kept, skew=_zipf_exponent(top, experts.shape[1]))


def _shares(moe: Moe, copies: int) -> Floats:
    """Shares of the routed copies by expert, one row a draw; rows sum to one.

    Counts of random routing have the variance ``n·p·(1-p)`` of picking ``top_k`` of all experts
    ``n`` times, ``p = top_k/experts``, and sum to ``n·top_k``.
    """
    experts = moe.num_experts
    if moe.expert_tokens is not None:
        counts = np.array([moe.expert_tokens], dtype=np.float64)
        return np.asarray(counts / counts.sum())
    if experts == 1:
        return np.ones((1, 1))
    name, _, parameter = str(moe.imbalance).partition(":")
    rng = np.random.default_rng(SEED)
    if name == "random":
        tokens, p = max(1, copies // moe.top_k), moe.top_k / experts
        noise = rng.standard_normal((SAMPLES, experts))
        noise -= noise.mean(axis=1, keepdims=True)
        sigma = math.sqrt(tokens * p * (1 - p) * experts / (experts - 1))
        counts = np.clip(tokens * p + sigma * noise, 0.0, tokens)
        return np.asarray(counts / counts.sum(axis=1, keepdims=True))
    if name == "zipf":
        weights = np.arange(1, experts + 1, dtype=np.float64) ** -float(parameter)
        shares = _capped(weights / weights.sum(), 1.0 / moe.top_k)
        return rng.permuted(np.tile(shares, (SAMPLES, 1)), axis=1)
    draws = rng.standard_gamma(float(parameter), (SAMPLES, experts)) + 1e-300
    shares = draws / draws.sum(axis=1, keepdims=True)
    if moe.top_k > 1:
        shares = np.array([_capped(row, 1.0 / moe.top_k) for row in shares])
    return np.asarray(shares)


def _capped(shares: Floats, most: float) -> Floats:
    """Shares with none above ``most``; what is cut off goes to the others in proportion."""
    result = shares.copy()
    full = np.zeros(len(shares), dtype=bool)
    while (over := (result > most * (1 + 1e-12)) & ~full).any():
        full |= over
        result[full] = most
        rest = ~full
        if not rest.any():
            break
        result[rest] *= (1.0 - most * full.sum()) / result[rest].sum()
    return result


@lru_cache(maxsize=256)
def _zipf_exponent(top: float, experts: int) -> float:
    """Exponent of a Zipf distribution whose first share is ``top`` times the mean."""
    if experts == 1 or top <= 1.0 + 1e-9:
        return 0.0
    ranks = np.arange(1, experts + 1, dtype=float)
    low, high = 0.0, MOST_SKEW
    for _ in range(40):
        middle = (low + high) / 2
        first = experts / float((ranks**-middle).sum())
        low, high = (middle, high) if first < top else (low, middle)
    return (low + high) / 2
