"""Products of public models' layers: shards, experts with the tokens they get, bare vocabularies.

What the design of :mod:`predictor.bench.sweep.gemm` leaves thin: few rows, (n, k) that models have
after tensor parallelism, counts of tokens that are no round numbers, and rows that do not begin on
16 bytes.
"""

import random
from collections.abc import Iterable
from itertools import product
from typing import Final

from predictor.operators.gemm import GemmKind

Shape = tuple[int, int, int, GemmKind]

KINDS: Final[tuple[GemmKind, ...]] = ("forward", "dgrad", "wgrad")
FORWARD_SHARE: Final = 0.5
"""Of the drawn shapes; the rest are dgrad and wgrad in equal parts."""

# Hidden size, query width, key width and feed-forward size, from each model's published config:
# Qwen2.5 1.5B, 7B, 14B and 72B, Llama 2 7B and 13B, Llama 3 8B, 70B and 405B, Gemma 2 9B, Phi-3
# mini, Qwen3 4B, 14B and 32B, GPT-3 6.7B and 175B, Mixtral 8x22B.
_DENSE: Final = (
    (1536, 1536, 256, 8960),
    (3584, 3584, 512, 18944),
    (5120, 5120, 1024, 13824),
    (8192, 8192, 1024, 29568),
    (4096, 4096, 4096, 11008),
    (5120, 5120, 5120, 13824),
    (4096, 4096, 1024, 14336),
    (8192, 8192, 1024, 28672),
    (16384, 16384, 1024, 53248),
    (3584, 4096, 2048, 14336),
    (3072, 3072, 3072, 8192),
    (2560, 4096, 1024, 9728),
    (5120, 5120, 1024, 17408),
    (5120, 8192, 1024, 25600),
    (4096, 4096, 4096, 16384),
    (12288, 12288, 12288, 49152),
    (6144, 6144, 1024, 16384),
)
_SHARDS: Final = (1, 2, 4, 8)
_ROWS: Final = (
    *(16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192),
    *(16, 32, 48, 96, 192, 384, 768, 1536, 3072, 6144),
)

# Hidden size and an expert's feed-forward size: Qwen3 30B and 235B, Qwen2 57B, Mixtral 8x7B and
# 8x22B, DeepSeek V2, V2 Lite and V3, GPT-OSS, Llama 4.
_EXPERTS: Final = (
    (2048, 768),
    (4096, 1536),
    (3584, 2560),
    (4096, 14336),
    (6144, 16384),
    (5120, 1536),
    (2048, 1408),
    (7168, 2048),
    (2880, 2880),
    (5120, 8192),
)
_TOKENS: Final = (
    *(16, 24, 37, 53, 64, 77, 100, 128, 150, 200, 219, 256, 341, 410, 512, 640, 683),
    *(819, 1003, 1024, 1365, 1638, 2048, 2731, 3277, 4096, 5461, 8192),
)

_BARE: Final = (
    *((50257, 768), (50257, 1600), (32001, 4096), (1001, 1024), (2048, 1023)),
    *((30522, 1024), (28996, 1024)),
)
"""Vocabularies as tokenizers count them, and other lengths that no vector load likes: odd ones, and
even ones that 8 does not divide."""

_FLOPS_LIMIT: Final = 3.0e12
_STEP: Final = 64

# Hidden size, query width, key width, feed-forward size and vocabulary of models that the lists
# above leave out: Qwen3 1.7B and 8B, Llama 3.2 1B and 3B, Mistral Nemo and Large 2, Gemma 3 12B and
# 27B, Phi-4, OLMo 2 13B, Yi 34B, Falcon 40B, Command R+, Nemotron-4 340B, GPT-NeoX 20B, GPT-3 13B,
# BLOOM 176B, MT-NLG 530B, a trillion parameters (Narayanan et al. 2021).
_MORE: Final = (
    (2048, 2048, 1024, 6144, 151936),
    (4096, 4096, 1024, 12288, 151936),
    (2048, 2048, 512, 8192, 128256),
    (3072, 3072, 1024, 8192, 128256),
    (5120, 4096, 1024, 14336, 131072),
    (12288, 12288, 1024, 28672, 32768),
    (3840, 4096, 2048, 15360, 262144),
    (5376, 4096, 2048, 21504, 262144),
    (5120, 5120, 1280, 17920, 100352),
    (5120, 5120, 5120, 13824, 100352),
    (7168, 7168, 1024, 20480, 64000),
    (8192, 8192, 512, 32768, 65024),
    (12288, 12288, 1024, 33792, 256000),
    (18432, 18432, 1536, 73728, 256000),
    (6144, 6144, 6144, 24576, 50688),
    (5120, 5120, 5120, 20480, 51200),
    (14336, 14336, 14336, 57344, 250880),
    (20480, 20480, 20480, 81920, 51200),
    (25600, 25600, 25600, 102400, 51200),
)
_TRAINED_ROWS: Final = (2048, 4096, 8192, 16384, 1024, 4096, 6144, 8192, 12288, 32768, 512, 3072)
"""Tokens of a micro-batch, whole or cut by context or sequence parallelism."""

_LONG: Final = (2.0e12, 2.0e13)
"""Flops of the products that a step spends most of its time in: milliseconds each."""


def trained(generator: random.Random, count: int) -> list[Shape]:
    """Layers of further models as training runs them, whole and cut by tensor parallelism."""
    return _drawn(generator, _pairs(_MORE), _TRAINED_ROWS, count)


def long(generator: random.Random, count: int) -> list[Shape]:
    """Products of milliseconds: vocabularies and wide feed-forward layers of many tokens."""
    pairs = _pairs(tuple((*each[:4], each[4] // 2) for each in _MORE)) + _pairs(_MORE)
    return _drawn(generator, list(dict.fromkeys(pairs)), _TRAINED_ROWS, count, flops=_LONG)


def _pairs(models: Iterable[tuple[int, int, int, int, int]]) -> list[tuple[int, int]]:
    """(n, k) of every layer, by columns or rows over 1 to 8 GPUs, in steps of 64."""
    pairs = [
        pair
        for (h, q, g, f, v), ways in product(models, _SHARDS)
        for pair in (
            *(((q + 2 * g) // ways, h), (2 * f // ways, h), (f // ways, h), (v // ways, h)),
            *((h, q // ways), (h, f // ways)),
        )
    ]
    return [pair for pair in dict.fromkeys(pairs) if not any(side % _STEP for side in pair)]


def layers(generator: random.Random, count: int) -> list[Shape]:
    """Dense layers cut by tensor parallelism: qkv, gate and up, up by columns; o, down by rows."""
    pairs = [
        pair
        for (h, q, g, f), ways in product(_DENSE, _SHARDS)
        for pair in (
            *(((q + 2 * g) // ways, h), (2 * f // ways, h), (f // ways, h)),
            *((h, q // ways), (h, f // ways)),
        )
    ]
    return _drawn(generator, list(dict.fromkeys(pairs)), _ROWS, count)


def experts(generator: random.Random, count: int) -> list[Shape]:
    """Gate and up together, and down, of one expert, whole or halved by tensor parallelism."""
    pairs = [
        pair
        for (h, f), ways in product(_EXPERTS, (1, 2))
        for pair in ((2 * f // ways, h), (h, f // ways))
    ]
    return _drawn(generator, list(dict.fromkeys(pairs)), _TOKENS, count)


def bare() -> list[Shape]:
    """Rows off 16 bytes."""
    return [(m, n, k, kind) for (n, k), m, kind in product(_BARE, (512, 4096), KINDS)]


def _drawn(
    generator: random.Random,
    pairs: list[tuple[int, int]],
    rows: tuple[int, ...],
    count: int,
    *,
    flops: tuple[float, float] = (0.0, _FLOPS_LIMIT),
) -> list[Shape]:
    """So many shapes, each pair and each number of rows about equally often."""
    found: dict[Shape, None] = {}
    while len(found) < count:
        generator.shuffle(pairs)
        for n, k in pairs:
            m = generator.choice(rows)
            backward = generator.random() >= FORWARD_SHARE
            kind = generator.choice(KINDS[1:]) if backward else KINDS[0]
            if flops[0] <= 2.0 * m * n * k <= flops[1]:
                found[m, n, k, kind] = None
    return list(found)[:count]
