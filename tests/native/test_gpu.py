"""Products, attention and the sampler of the CUDA backend on a real GPU: right, and physical."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from predictor.bench.points import Point
from predictor.operators import Attention, GroupedGemm

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

pytestmark = [pytest.mark.native, pytest.mark.gpu]

BF16_ERROR = 5e-3  # an output rounded to 8 bits is off by 2^-9 at most
FP8_ERROR = 1e-2  # operands as they are stored; Hopper sums the forward product in 14 bits
TF32_ERROR = 2e-3  # operands rounded to 11 bits
FP32_ERROR = 1e-4  # sums of bf16 products in fp32, in another order
FIRST_WITH_FP8 = 8.9  # compute capability

GEMM = {"kind": "forward", "api": "cublaslt", "algorithm": "heuristic", "accumulate": False}
MAY_BE_UNSUPPORTED = {"window", "value_head_dim", "documents", "query_length", "head_dim"}
ATTENTION = {
    "batch": 2,
    "num_heads": 8,
    "num_query_groups": 8,
    "seq_length": 512,
    "head_dim": 128,
    "value_head_dim": 0,
    "causal": True,
    "bias": False,
    "window": 0,
    "dtype": "bf16",
    "kind": "forward",
    "impl": "cudnn",
}


def gemm_fields(m: int, n: int, k: int, **fields: object) -> dict[str, object]:
    """Return the fields of a GEMM, by default cuBLASLt's bf16 forward product."""
    shape = {"m": m, "n": n, "k": k, "dtype": "bf16"}
    return shape | {"bias": False, "gelu": False, "fill": "normal"} | GEMM | fields


@pytest.mark.parametrize("api", ["cublas", "cublaslt"])
@pytest.mark.parametrize("kind", ["forward", "dgrad", "wgrad"])
@pytest.mark.parametrize("shape", [(1024, 2048, 512), (129, 72, 1000), (7, 13, 33)], ids=str)
def test_gemm_is_right(
    gpu: Any, prepare: Callable[..., Any], api: str, kind: str, shape: tuple[int, int, int]
) -> None:
    workload = prepare("gemm", gemm_fields(*shape, api=api, kind=kind))
    assert gpu.check(workload, seed=1) < BF16_ERROR


@pytest.mark.parametrize("api", ["cublas", "cublaslt"])
def test_accumulating_gemm_adds_to_what_was_there(
    gpu: Any, prepare: Callable[..., Any], api: str
) -> None:
    fields = gemm_fields(1024, 512, 768, api=api, kind="wgrad", accumulate=True)
    assert gpu.check(prepare("gemm", fields), seed=1) < FP32_ERROR


@pytest.mark.parametrize(
    "fields",
    [
        {"bias": True},
        {"gelu": True},
        {"bias": True, "gelu": True},
        {"algorithm": "best"},
        {"fill": "uniform"},
        {"fill": "zeros"},
    ],
    ids=str,
)
def test_gemm_variant_is_right(
    gpu: Any, prepare: Callable[..., Any], fields: dict[str, object]
) -> None:
    workload = prepare("gemm", gemm_fields(512, 1024, 2048, **fields))
    assert gpu.check(workload, seed=2) < BF16_ERROR


@pytest.mark.parametrize("kind", ["forward", "dgrad", "wgrad"])
@pytest.mark.parametrize(
    "case",
    [
        ("fp16", "cublas", BF16_ERROR),
        ("fp16", "cublaslt", BF16_ERROR),
        ("tf32", "cublas", TF32_ERROR),
        ("tf32", "cublaslt", TF32_ERROR),
        ("fp8", "cublaslt", FP8_ERROR),
    ],
    ids=str,
)
def test_gemm_of_other_formats_is_right(
    native: ModuleType,
    gpu: Any,
    prepare: Callable[..., Any],
    kind: str,
    case: tuple[str, str, float],
) -> None:
    dtype, api, tolerance = case
    try:
        workload = prepare("gemm", gemm_fields(512, 1024, 2048, dtype=dtype, api=api, kind=kind))
    except native.Unsupported as reason:
        if dtype == "fp8" and float(gpu.properties["compute_capability"]) < FIRST_WITH_FP8:
            pytest.skip(f"this GPU has no fp8: {reason}")
        raise
    assert gpu.check(workload, seed=3) < tolerance


def test_fp8_weight_gradients_add_to_fp32(gpu: Any, prepare: Callable[..., Any]) -> None:
    if float(gpu.properties["compute_capability"]) < FIRST_WITH_FP8:
        pytest.skip("this GPU has no fp8")
    fields = gemm_fields(1024, 512, 768, dtype="fp8", kind="wgrad", accumulate=True)
    assert gpu.check(prepare("gemm", fields), seed=4) < FP8_ERROR


@pytest.mark.parametrize("kind", ["forward", "dgrad", "wgrad"])
@pytest.mark.parametrize("skew", [0.0, 1.0])
@pytest.mark.parametrize(
    "case",
    [
        ("looped", {}, BF16_ERROR),
        ("multi_stream", {}, BF16_ERROR),
        ("multi_stream", {"dtype": "fp8"}, FP8_ERROR),
        ("multi_stream", {"accumulate": True}, FP32_ERROR),
        ("cublas_grouped", {}, BF16_ERROR),
        ("cudnn_moe", {}, BF16_ERROR),
    ],
    ids=str,
)
def test_grouped_gemm_is_right(
    native: ModuleType,
    gpu: Any,
    prepare: Callable[..., Any],
    case: tuple[Any, dict[str, Any], float],
    kind: Any,
    skew: float,
) -> None:
    impl, fields, tolerance = case
    if fields.get("accumulate") and kind != "wgrad":
        pytest.skip("only weight gradients accumulate")
    if fields.get("dtype") == "fp8" and skew:
        pytest.skip("fp8 needs whole sixteens of rows")
    operator = GroupedGemm(
        tokens=1024, experts=8, n=768, k=512, kind=kind, skew=skew, impl=impl, **fields
    )
    try:
        workload = prepare("grouped_gemm", Point(operator=operator).arguments)
    except native.Unsupported as reason:
        old = float(gpu.properties["compute_capability"]) < FIRST_WITH_FP8
        if impl == "cudnn_moe" or (old and "dtype" in fields):
            pytest.skip(f"this machine does not: {reason}")
        raise
    assert gpu.check(workload, seed=5) < tolerance


def test_grouped_matmul_of_cublaslt_is_there_or_refused_with_a_reason(
    native: ModuleType, prepare: Callable[..., Any]
) -> None:
    operator = GroupedGemm(tokens=64, experts=4, n=64, k=64, impl="cublaslt_grouped")
    with pytest.raises(native.Unsupported, match=r"cuBLASLt \d+\.\d+"):
        prepare("grouped_gemm", Point(operator=operator).arguments)


@pytest.mark.parametrize("kind", ["forward", "backward"])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"num_query_groups": 2},
        {"causal": False},
        {"causal": False, "bias": True},
        {"head_dim": 64, "seq_length": 1024},
        {"head_dim": 96},
        {"seq_length": 1000},
        {"head_dim": 192, "value_head_dim": 128},
        {"window": 128},
        {"head_dim": 256},
        {"documents": 4},
        {"documents": 5, "seq_length": 1000, "num_query_groups": 2},
        {"query_length": 1},
        {"query_length": 128},
        {"query_length": 256, "causal": False},
    ],
    ids=str,
)
def test_attention_is_right(
    native: ModuleType,
    gpu: Any,
    prepare: Callable[..., Any],
    kind: str,
    fields: dict[str, object],
) -> None:
    if not native.build["attention"]:
        pytest.skip("the extension was built without cuDNN's headers")
    shape = ATTENTION | fields | {"kind": kind}
    shape["document_lengths"] = list(Attention(**shape).document_lengths)  # type: ignore[arg-type]
    try:
        workload = prepare("attention", shape)
    except native.Unsupported as reason:
        if fields.keys() & MAY_BE_UNSUPPORTED:
            pytest.skip(f"this cuDNN does not: {reason}")
        raise
    # dS = P·(dP - delta) is a difference of bf16-rounded products: four times one rounding.
    assert gpu.check(workload, seed=3) < 4 * BF16_ERROR


@pytest.mark.parametrize("kind", ["forward", "backward"])
def test_a_plan_built_beside_other_work_is_the_same_plan(
    native: ModuleType, gpu: Any, prepare: Callable[..., Any], kind: str
) -> None:
    if not native.build["attention"]:
        pytest.skip("the extension was built without cuDNN's headers")
    shape = ATTENTION | {"kind": kind, "num_heads": 16, "num_query_groups": 4, "seq_length": 2048}
    policy = native.SamplingPolicy()
    seconds = gpu.sample(prepare("attention", shape), policy).median_seconds
    gpu.foresee([("attention", shape), ("attention", shape | {"seq_length": 1536})])
    ahead = prepare("attention", shape)
    assert gpu.sample(ahead, policy).median_seconds == pytest.approx(seconds, rel=0.03)
    assert gpu.check(ahead, seed=3) < 4 * BF16_ERROR


@pytest.mark.parametrize(
    ("operator", "fields", "reason"),
    [
        ("gemm", gemm_fields(8, 8, 8, dtype="int8"), "int8"),
        ("gemm", gemm_fields(8, 8, 8, api="magma"), "magma"),
        ("attention", ATTENTION | {"impl": "flash"}, "flash|headers"),
        ("sort", {}, "sort"),
        (
            "memory_bound",
            {"kernel": "sort", "rows": 1, "cols": 8, "dtype": "bf16", "impl": "native"},
            "rms_norm",
        ),
    ],
)
def test_what_is_not_served_is_named(
    native: ModuleType,
    prepare: Callable[..., Any],
    operator: str,
    fields: dict[str, object],
    reason: str,
) -> None:
    with pytest.raises(native.Unsupported, match=reason):
        prepare(operator, fields)


def test_timer_follows_the_duration_and_rates_are_physical(
    native: ModuleType, gpu: Any, prepare: Callable[..., Any]
) -> None:
    for rows, timer in ((64, "graph"), (65536, "gated")):
        fields: dict[str, object] = {
            "kernel": "copy",
            "rows": rows,
            "cols": 8192,
            "dtype": "bf16",
            "impl": "native",
        }
        moved = 4.0 * rows * 8192
        workload = prepare("memory_bound", fields, bytes_=moved, cache="cold")
        found = gpu.sample(workload, native.SamplingPolicy())
        assert found.timer == timer
        assert 0 < moved / found.median_seconds < 20e12  # no HBM is faster
        assert found.wall_end_seconds > found.wall_begin_seconds


def test_cold_launches_rotate_over_more_than_the_cache(
    gpu: Any, prepare: Callable[..., Any]
) -> None:
    fields = gemm_fields(1024, 1024, 1024)
    moved = 3 * 2.0 * 1024**2
    cold = prepare("gemm", fields, bytes_=moved, cache="cold")
    assert (cold.buffer_sets - 1) * moved >= 5 * gpu.properties["l2_bytes"]
    assert prepare("gemm", fields, bytes_=moved).buffer_sets == 1


def test_out_of_memory_leaves_the_device_usable(
    native: ModuleType, gpu: Any, prepare: Callable[..., Any]
) -> None:
    small = prepare("gemm", gemm_fields(512, 512, 512))
    gpu.sample(small, native.SamplingPolicy())
    elements = int(gpu.properties["memory_bytes"])  # times 16 bytes
    fields: dict[str, object] = {
        "kernel": "adamw",
        "elements": elements,
        "tensors": 1,
        "dtype": "fp32",
        "impl": "native",
    }
    with pytest.raises(native.OutOfDeviceMemory, match="adamw"):
        prepare("optimizer", fields, bytes_=28.0 * elements)
    assert gpu.check(small, seed=4) < BF16_ERROR
    assert gpu.sample(small, native.SamplingPolicy()).median_seconds > 0


def test_sustained_load_settles(native: ModuleType, gpu: Any, prepare: Callable[..., Any]) -> None:
    workload = prepare("gemm", gemm_fields(4096, 4096, 4096))
    found = gpu.sample(workload, native.SamplingPolicy(sustained_seconds=1.0))
    assert found.stop_reason in {"settled", "budget"}
    assert found.wall_end_seconds - found.wall_begin_seconds >= 1.0
    assert found.wall_begin_seconds < found.tail_begin_seconds < found.wall_end_seconds
