"""Every way of measuring works on a real GPU: one small point of each kind."""

from pathlib import Path
from typing import Any

import pytest

from predictor.bench.main import Outcome, run
from predictor.bench.options import Options
from predictor.bench.points import Point
from predictor.bench.sweep import default_points
from predictor.operators import KERNELS, Attention, Gemm, GroupedGemm, Host, MemoryBound, Optimizer
from predictor.tables import read_folder

pytestmark = pytest.mark.gpu


def measured(tmp_path: Path, points: list[Point]) -> Outcome:
    """Measure on the first GPU; every point must come out well."""
    outcome = run(
        Options(
            device="cuda", out=tmp_path / "out", points=tuple(points), time_budget_seconds=240.0
        )
    )
    provenance = read_folder(outcome.folder).runs[outcome.run]
    assert provenance["failures"] == []
    assert outcome.left == 0
    assert {row.status for row in outcome.rows} <= {"ok", "throttled"}
    return outcome


def test_native_operators(tmp_path: Path) -> None:
    gemms = [Gemm(m=512, n=1024, k=512, kind=kind) for kind in ("forward", "dgrad", "wgrad")]
    variants = [
        Gemm(m=512, n=1024, k=512, api="cublaslt"),
        Gemm(m=512, n=1024, k=512, api="cublaslt", algorithm="best"),
        Gemm(m=512, n=1024, k=512, api="cublaslt", bias=True),
        Gemm(m=512, n=1024, k=512, kind="wgrad", accumulate=True),
        Gemm(m=512, n=1024, k=512, dtype="fp16"),
        Gemm(m=512, n=1024, k=512, dtype="tf32"),
        Gemm(m=512, n=1024, k=512, api="cublaslt", bias=True, gelu=True),
        Gemm(m=512, n=1024, k=512, fill="zeros"),
    ]
    optimizers = [
        Optimizer(elements=1 << 20, kernel=kernel, dtype=dtype, impl="native")
        for kernel, dtype in (("adamw", "bf16"), ("adamw", "fp32"), ("adamw_master", "fp32"))
    ]
    kernels = [
        MemoryBound(kernel=name, rows=4096, cols=128 if name.startswith("router") else 1024)
        for name in KERNELS["native"]
    ]
    points = [Point(operator=each) for each in (*gemms, *variants, *optimizers, *kernels)]
    warm = [Point(operator=each, cache="warm") for each in kernels]
    outcome = measured(tmp_path, points + warm)
    assert all(row.seconds_high < 2 * row.seconds_low for row in outcome.rows)


@pytest.mark.parametrize("impl", ["cudnn", "flash"])
def test_attention(tmp_path: Path, impl: str) -> None:
    if impl == "flash":
        pytest.importorskip("torch")
    masks = [(True, False), (False, False)] + ([(False, True)] if impl == "cudnn" else [])
    points = [
        Point(
            operator=Attention(
                batch=2,
                num_heads=8,
                num_query_groups=8 if bias else 2,
                seq_length=1024,
                head_dim=64,
                causal=causal,
                bias=bias,
                kind=kind,
                impl=impl,
            )
        )
        for causal, bias in masks
        for kind in ("forward", "backward")
    ]
    measured(tmp_path, points)


@pytest.mark.parametrize("impl", ["looped", "multi_stream", "cublas_grouped", "torch"])
def test_grouped_gemm(tmp_path: Path, impl: Any) -> None:
    if impl == "torch":
        pytest.importorskip("torch")
    points = [
        Point(
            operator=GroupedGemm(
                tokens=2048, experts=8, n=768, k=512, kind=kind, skew=skew, impl=impl
            )
        )
        for kind in ("forward", "dgrad", "wgrad")
        for skew in (0.0, 1.0)
    ]
    measured(tmp_path, points)


def test_pytorchs_kernels(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    points = [
        Point(operator=MemoryBound(kernel=name, rows=4096, cols=768, impl="torch"), cache=cache)
        for name in KERNELS["torch"]
        for cache in ("cold", "warm")
    ]
    points += [
        Point(operator=Optimizer(elements=1 << 22, tensors=12, dtype=dtype, impl="torch"))
        for dtype in ("bf16", "fp32")
    ]
    measured(tmp_path, points)


@pytest.mark.slow
def test_compiled_kernels(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    points = [
        Point(operator=MemoryBound(kernel=name, rows=4096, cols=768, impl="inductor"))
        for name in KERNELS["inductor"]
    ]
    measured(tmp_path, points)


def hosts(*stacks: str) -> list[Point]:
    """The host's points of the sweep, of these stacks."""
    return [
        point
        for point in default_points(["host"])
        if isinstance(point.operator, Host) and point.operator.stack in stacks
    ]


@pytest.mark.slow
def test_host_costs(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    points = hosts("cuda", "torch", "torch.distributed", "hf-eager", "hf-fsdp2")
    rows = measured(tmp_path, points).rows
    seconds = {row.operator: row.seconds for row in rows}
    launch = seconds[Host(stack="torch", quantity="launch")]
    assert launch is not None
    assert 1e-7 < launch < 1e-4


@pytest.mark.slow
def test_host_costs_of_megatron(tmp_path: Path) -> None:
    pytest.importorskip("megatron.core")
    rows = measured(tmp_path, hosts("megatron-core-local")).rows
    assert all(row.seconds is not None and 0 < row.seconds < 1 for row in rows)
