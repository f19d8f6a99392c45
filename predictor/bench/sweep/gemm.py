"""GEMM points: the linear layers of real models, sharded or not, and a space-filling design."""

import random
from dataclasses import replace
from itertools import product
from typing import Final

from predictor.bench.points import Point
from predictor.bench.sweep import gemm_layers
from predictor.bench.sweep.tiers import ANCHOR, BETWEEN, CORE, SUSTAINED, WIDE
from predictor.operators import Gemm
from predictor.operators.gemm import GemmKind

KINDS: Final[tuple[GemmKind, ...]] = ("forward", "dgrad", "wgrad")

# (n, k) of the linear layers, from each model's published config: hidden h, query width q, key
# width g, feed-forward f, vocabulary v. First those that eager Hugging Face launches one by one.
_MODELS: Final = {
    "gpt2": (768, 768, 768, 3072, 50304),
    "gpt2-medium": (1024, 1024, 1024, 4096, 50304),
    "gpt2-xl": (1600, 1600, 1600, 6400, 50304),
    "llama-1b": (2048, 2048, 512, 8192, 128256),
    "llama-3b": (3072, 3072, 1024, 8192, 128256),
    "llama-8b": (4096, 4096, 1024, 14336, 128256),
    "qwen3-0.6b": (1024, 2048, 1024, 3072, 151936),
    "qwen3-8b": (4096, 4096, 1024, 12288, 151936),
    "qwen3-32b": (5120, 8192, 1024, 25600, 151936),
    "llama-70b": (8192, 8192, 1024, 28672, 128256),
}
_FLOPS_LIMIT: Final = 2.0e13
_LEAST_INNER: Final = 256
_ROWS: Final = (1024, 2048, 4096, 8192, 16384, 32768)
_ANCHORS: Final = ((4096, 8192, 2048), (4096, 2048, 8192), (8192, 14336, 4096), (8192, 8192, 8192))


def points(seed: int) -> list[Point]:
    """All GEMM points, the most important first within each tier."""
    generator = random.Random(seed)  # noqa: S311 - a design of experiments, not a secret
    anchors = [_point(m, n, k, kind, tier=ANCHOR) for (m, n, k), kind in product(_ANCHORS, KINDS)]
    layers = [_point(m, n, k, kind, tier=CORE) for m, n, k, kind in _unsharded()]
    sharded = _sample(generator, _sharded(), 240, tier=WIDE)
    filling = _sample(generator, _space_filling(generator), 240, tier=WIDE)
    wide = [point for pair in zip(sharded, filling, strict=True) for point in pair]
    return [
        *(*anchors, *layers, *_with_bias(), *wide, *_variants(), *_sustained()),
        *(*_fills(), *_fp8(), *_halves(), *_epilogues(), *_between(seed)),
        *_of_models(seed),
    ]


def _point(m: int, n: int, k: int, kind: GemmKind, *, tier: int, **fields: object) -> Point:
    operator = Gemm(m=m, n=n, k=k, kind=kind, **fields)  # type: ignore[arg-type]
    return Point(operator=operator, tier=tier, anchor=tier == ANCHOR)


def _fp8_point(m: int, n: int, k: int, kind: GemmKind, *, tier: int) -> Point:
    """As Transformer Engine multiplies: weights' gradients are added into fp32."""
    fields = {"api": "cublaslt", "dtype": "fp8", "accumulate": kind == "wgrad"}
    return _point(m, n, k, kind, tier=tier, **fields)


def _layers(model: str) -> list[tuple[int, int]]:
    """(n, k) of the separate projections: q, k or v, o, gate or up, down; fused qkv for GPT-2."""
    h, q, g, f, _ = _MODELS[model]
    if model.startswith("gpt2"):
        return [(3 * h, h), (h, h), (f, h), (h, f)]
    shapes = [(q, h), (g, h), (h, q), (f, h), (h, f)]
    return list(dict.fromkeys(shapes))


def _unsharded() -> list[tuple[int, int, int, GemmKind]]:
    """The layers of small and middle models as one GPU trains them, each pass."""
    rows = {
        "gpt2": (4096, 16384, 8192, 1024, 2048),
        "gpt2-medium": (4096, 8192, 16384),
        "gpt2-xl": (4096, 8192),
        "llama-1b": (4096, 16384, 8192, 1024, 2048),
        "llama-3b": (4096, 8192),
        "llama-8b": (2048, 8192, 4096, 1024, 16384),
        "qwen3-0.6b": (4096, 8192, 2048, 16384),
        "qwen3-8b": (4096, 8192),
    }
    shapes = [
        (m, n, k, kind)
        for place in range(5)
        for model, sizes in rows.items()
        for m in sizes[place : place + 1]
        for n, k in [*_layers(model), (_MODELS[model][4], _MODELS[model][0])]
        for kind in KINDS
    ]
    return [shape for shape in dict.fromkeys(shapes) if _affordable(*shape[:3])]


def _with_bias() -> list[Point]:
    """GPT-2's layers: addmm runs cuBLASLt with the bias in its epilogue."""
    return [
        _point(m, n, k, "forward", tier=CORE, api="cublaslt", bias=True)
        for model in ("gpt2", "gpt2-medium", "gpt2-xl")
        for m in (4096, 8192, 16384)
        for n, k in _layers(model)
    ]


def _sharded() -> list[tuple[int, int, int, GemmKind]]:
    """Layers cut by tensor parallelism: columns of q, k, v, gate and up, rows of o and down."""
    shapes = []
    for (h, q, g, f, v), ways in product(_MODELS.values(), (1, 2, 4, 8)):
        column = [((q + 2 * g) // ways, h), (2 * f // ways, h), (f // ways, h), (v // ways, h)]
        row = [(h, q // ways), (h, f // ways)]
        shapes += [(m, n, k, kind) for m in _ROWS for n, k in column + row for kind in KINDS]
    return [shape for shape in dict.fromkeys(shapes) if _affordable(*shape[:3])]


def _space_filling(generator: random.Random) -> list[tuple[int, int, int, GemmKind]]:
    """Powers of two, three quarters between them, and tile edges one vector of eight off."""
    powers = [2**p for p in range(4, 16)]
    between = [3 * 2 ** (p - 1) for p in range(5, 14)]
    edges = [
        tile * factor + step for tile in (64, 128, 256) for factor in (3, 9, 20) for step in (-8, 8)
    ]
    rows = powers + between + edges
    inner = [size for size in rows if size >= _LEAST_INNER]
    shapes = [
        (generator.choice(rows), generator.choice(inner), generator.choice(inner), kind)
        for _ in range(400)
        for kind in KINDS
    ]
    return [shape for shape in dict.fromkeys(shapes) if _affordable(*shape[:3])]


def _affordable(m: int, n: int, k: int) -> bool:
    return 2.0 * m * n * k <= _FLOPS_LIMIT


def _sample(
    generator: random.Random,
    shapes: list[tuple[int, int, int, GemmKind]],
    count: int,
    *,
    tier: int,
) -> list[Point]:
    """Draw shapes evenly over the logarithm of their work, in random order."""
    ordered = sorted(shapes, key=lambda shape: shape[0] * shape[1] * shape[2])
    step = len(ordered) / count
    drawn = [ordered[int((i + generator.random()) * step)] for i in range(count)]
    generator.shuffle(drawn)
    return [_point(m, n, k, kind, tier=tier) for m, n, k, kind in drawn]


def _variants() -> list[Point]:
    """The other entry point, the best algorithm, and fused gradient accumulation."""
    shapes = [(4096, 8192, 2048), (4096, 2048, 8192), (8192, 14336, 4096), (4096, 2304, 768)]
    more = [(16384, 3072, 1024), (2048, 4096, 4096), (8192, 3584, 4096)]
    lt = [
        _point(m, n, k, kind, tier=WIDE, api="cublaslt")
        for (m, n, k), kind in product([*shapes, *more], KINDS)
    ]
    best = [
        _point(m, n, k, kind, tier=WIDE, api="cublaslt", algorithm="best")
        for (m, n, k), kind in product([*shapes, *more], KINDS)
    ]
    accumulate = [
        _point(m, n, k, "wgrad", tier=WIDE, accumulate=True)
        for (n, k), m in product(
            ((8192, 2048), (2048, 8192), (14336, 4096), (3072, 2048), (6144, 4096)), (4096, 8192)
        )
    ]
    return [*lt, *best, *accumulate]


def _sustained() -> list[Point]:
    """Loaded until the power cap has settled the clock, in 16 bits and in 8."""
    shapes: list[tuple[int, int, int, GemmKind]] = [
        (8192, 8192, 8192, "forward"),
        (4096, 8192, 2048, "forward"),
        (8192, 14336, 4096, "wgrad"),
        (16384, 2048, 8192, "dgrad"),
        (4096, 4096, 4096, "forward"),
        (4096, 768, 3072, "forward"),
        (2048, 2048, 2048, "forward"),
        (16384, 128, 8192, "forward"),
    ]
    eighths: list[tuple[int, int, int, GemmKind]] = [
        (8192, 8192, 8192, "forward"),
        (8192, 10240, 8192, "wgrad"),
    ]
    points = [_point(m, n, k, kind, tier=SUSTAINED) for m, n, k, kind in shapes]
    points += [_fp8_point(m, n, k, kind, tier=SUSTAINED) for m, n, k, kind in eighths]
    return [replace(point, sustained_seconds=3.0) for point in points]


def _fills() -> list[Point]:
    """What uniform numbers and zeros do to the power, and so to the clock."""
    shapes = ((4096, 4096, 4096), (8192, 8192, 8192), (8192, 14336, 4096))
    normal = [_point(m, n, k, "forward", tier=CORE) for m, n, k in shapes]
    others = [
        _point(m, n, k, "forward", tier=CORE, fill=fill)
        for (m, n, k), fill in product(shapes, ("uniform", "zeros"))
    ]
    return [*normal, *others]


def _fp8() -> list[Point]:
    """Layers of models that train in fp8: gradients in bf16, and weights' also added into fp32."""
    layers = (
        *((4096, 4096), (6144, 4096), (28672, 4096), (4096, 14336)),
        *((8192, 8192), (10240, 8192), (57344, 8192), (8192, 28672)),
        *((2048, 2048), (16384, 2048), (7168, 2048), (4096, 7168)),
    )
    rows = ((1024, 8192), (2048, 16384), (4096, 32768), (512, 4096))
    main = [
        _fp8_point(m, n, k, kind, tier=CORE)
        for (i, (n, k)), kind in product(enumerate(layers), KINDS)
        for m in (*rows[i % len(rows)], 8192)
        if _affordable(m, n, k)
    ]
    odd = ((4096, 2304, 768), (8192, 1536, 7168), (16, 4096, 4096), (64, 8192, 8192))
    more = [
        _point(m, n, k, kind, tier=CORE, api="cublaslt", dtype="fp8")
        for (m, n, k), kind in product(odd, KINDS)
    ]
    return [*main, *more]


def _halves() -> list[Point]:
    """fp16 as models of its day trained (GPT-3 175B and 22B under Megatron), and tf32."""
    fp16 = ((2048, 6144, 6144), (2048, 24576, 6144), (2048, 12288, 12288), (2048, 6144, 12288))
    more = ((4096, 4096, 4096), (8192, 8192, 8192), (4096, 3072, 768), (8192, 2560, 10240))
    tf32 = ((4096, 4096, 4096), (8192, 8192, 8192), (4096, 3072, 768), (8192, 1024, 4096))
    return [
        _point(m, n, k, kind, tier=WIDE, dtype=dtype)
        for dtype, shapes in (("fp16", (*fp16, *more)), ("tf32", (*tf32, (2048, 8192, 2048))))
        for (m, n, k), kind in product(shapes, KINDS)
    ]


def _epilogues() -> list[Point]:
    """GELU, with and without a bias, on the first layer of the feed-forward block."""
    layers = ((3072, 768), (4096, 1024), (6400, 1600), (8192, 2048), (16384, 4096))
    return [
        _point(m, n, k, "forward", tier=WIDE, api="cublaslt", bias=bias, gelu=True)
        for (n, k), m, bias in product(layers, (4096, 16384), (True, False))
    ]


# Hidden sizes, feed-forward sizes and vocabularies of public models that the tiers before leave
# out, from 2.5 billion parameters to 400.
_HIDDEN: Final = (2560, 3072, 3584, 5120, 6144, 6656, 7168, 8192, 10240, 12288, 14336, 16384, 18432)
_FEEDFORWARD: Final = (6912, 9728, 11008, 13824, 14336, 17920, 18944, 20480, 22016, 24576, 27648)
_WIDE_FEEDFORWARD: Final = (28672, 49152, 53248)
_VOCABULARIES: Final = (32000, 50304, 100352, 128256, 151936, 152064, 256000)
_FEW_ROWS: Final = (16, 24, 48, 80, 96, 160, 192, 320, 384, 640, 768, 896, 1280, 1536, 2560, 3072)
_MANY_ROWS: Final = (1024, 2048, 3584, 4096, 5120, 6144, 8192, 10240, 12288, 16384, 24576)


def _between(seed: int) -> list[Point]:
    """Sizes that interleave those measured so far, whole and cut by tensor parallelism."""
    generator = random.Random(seed + 1)  # noqa: S311 - its own stream: the others stay as they were
    pairs = []
    for hidden, ways in product(_HIDDEN, (1, 2, 4, 8)):
        other = generator.choice((*_FEEDFORWARD, *_WIDE_FEEDFORWARD))
        vocabulary = generator.choice(_VOCABULARIES)
        pairs += [
            (other // ways, hidden),
            (hidden, other // ways),
            ((hidden + 2 * 1024) // ways, hidden),
            (hidden, hidden // ways),
            (vocabulary // ways, hidden),
        ]
    shapes = [
        (m, n, k, kind)
        for n, k in dict.fromkeys(pairs)
        for rows in (_FEW_ROWS, _MANY_ROWS)
        for m in generator.sample(rows, 2)
        for kind in KINDS
        if _affordable(m, n, k)
    ]
    return _sample(generator, shapes, 200, tier=BETWEEN)


def _of_models(seed: int) -> list[Point]:
    """Layers of public models: shards, experts, vocabularies as they are."""
    generator = random.Random(seed + 2)  # noqa: S311 - its own stream, as above
    shapes = [
        *gemm_layers.layers(generator, 420),
        *gemm_layers.experts(generator, 270),
        *gemm_layers.bare(),
    ]
    more = random.Random(seed + 3)  # noqa: S311
    shapes += gemm_layers.trained(more, 420)
    shapes += gemm_layers.long(more, 130)
    shapes += gemm_layers.experts(more, 90)
    return [_point(m, n, k, kind, tier=BETWEEN) for m, n, k, kind in shapes]
