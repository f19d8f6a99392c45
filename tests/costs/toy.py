"""A chip for mental arithmetic, and samples made from known coefficients."""

import numpy as np

from predictor.costs.design import Chip
from predictor.costs.families import FAMILIES
from predictor.costs.products import gemm_design
from predictor.costs.tile_table import EXPECTED, NAMES
from predictor.costs.trend import Sample
from predictor.operators import Gemm

TOY = Chip(
    flops_per_second={"bf16": 1e12, "fp8": 2e12},
    bytes_per_second=1e10,
    l2_bytes=1e6,
    sm_count=10,
    clock_hz=2.5e7,
)
SIZES = (16, 128, 512, 1024, 4096)


def gemms():
    return [
        Gemm(m=m, n=n, k=k, kind=kind)
        for m in SIZES
        for n, k in (
            (64, 64),
            (512, 512),
            (768, 3072),
            (3072, 768),
            (2048, 2048),
            (300, 4096),
            (8192, 1024),
        )
        for kind in ("forward", "dgrad", "wgrad")
    ]


def truth(**coefficients):
    """Coefficients as expected, but for those that are given."""
    values = dict(zip(NAMES, EXPECTED.tolist(), strict=True)) | coefficients
    return np.array(list(values.values()))


def sample_of(operators, coefficients, noise=0.0, seed=0):
    design = gemm_design(operators, TOY)
    wobble = np.random.default_rng(seed).normal(0.0, noise, len(operators)) if noise else 0.0
    seconds = design.seconds(coefficients) * np.exp(wobble)
    shapes = sorted({(op.n, op.k) for op in operators})
    clusters = np.array([shapes.index((op.n, op.k)) for op in operators])
    return Sample(operators=operators, design=design, seconds=seconds, clusters=clusters)


def stream_sample(operators, seconds, cache="cold"):
    family = FAMILIES[operators[0].name]
    return Sample(
        operators=operators,
        design=family.design(operators, TOY, cache),
        seconds=seconds,
        clusters=np.arange(len(operators)),
        prior=family.prior,
        resemblance=family.resemblance,
    )
