"""Products and attention of a real GPU beside PyTorch's own calls, measured in turns."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

from predictor.operators import Gemm

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

pytestmark = [pytest.mark.native, pytest.mark.gpu]

TORCH_LAUNCHES = 4  # of one call of a callable workload


def interleaved_ratio(native: ModuleType, gpu: Any, ours: Any, theirs: Any) -> float:
    """Return the median over rounds of our seconds over theirs, measured in turns."""
    policy = native.SamplingPolicy()
    ratios = []
    for _ in range(7):
        own = gpu.sample(ours, policy).median_seconds
        ratios.append(own / gpu.sample(theirs, policy).median_seconds)
    return statistics.median(ratios)


@pytest.fixture
def torch_graph(gpu: Any) -> Callable[..., Any]:
    """Return a function that captures a PyTorch call in a graph and makes it a workload."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")

    def make(call: Callable[[], object]) -> Any:
        launches = 8
        stream = torch.cuda.ExternalStream(gpu.stream_handle)
        with torch.cuda.stream(stream):
            for _ in range(3):
                call()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=torch.cuda.Stream()):
            for _ in range(launches):
                call()

        def replay() -> None:
            with torch.cuda.stream(stream):
                graph.replay()

        return gpu.prepare_callable(replay, launches_per_call=launches)

    return make


@pytest.mark.filterwarnings("ignore:.*pynvml.*:FutureWarning")  # PyTorch, on import
@pytest.mark.parametrize("size", [4096, 8192])
def test_gemm_is_as_fast_as_torch(
    native: ModuleType,
    gpu: Any,
    prepare: Callable[..., Any],
    size: int,
) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x, w = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    y = torch.empty_like(x)
    torch.cuda.synchronize()
    stream = torch.cuda.ExternalStream(gpu.stream_handle)

    # Launched one by one as ours are: a graph's kernels follow each other a microsecond sooner.
    def call() -> None:
        with torch.cuda.stream(stream):
            for _ in range(TORCH_LAUNCHES):
                torch.matmul(x, w.t(), out=y)

    call()
    gpu.synchronize()
    theirs = gpu.prepare_callable(call, launches_per_call=TORCH_LAUNCHES)
    ours = prepare("gemm", asdict(Gemm(m=size, n=size, k=size, api="cublas")))
    assert interleaved_ratio(native, gpu, ours, theirs) == pytest.approx(1.0, abs=0.02)


@pytest.mark.filterwarnings("ignore:.*pynvml.*:FutureWarning")  # PyTorch, on import
@pytest.mark.parametrize("causal", [True, False])
def test_attention_is_as_fast_as_torch(
    native: ModuleType,
    gpu: Any,
    prepare: Callable[..., Any],
    torch_graph: Callable[..., Any],
    *,
    causal: bool,
) -> None:
    if not native.build["attention"]:
        pytest.skip("the extension was built without cuDNN's headers")
    import torch  # noqa: PLC0415 - only where the fixture found it
    from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: PLC0415

    q, k, v = (
        torch.randn(2, 4096, 32, 128, device="cuda", dtype=torch.bfloat16)
        .transpose(1, 2)
        .requires_grad_()
        for _ in range(3)
    )

    def call() -> None:
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)

    fields = {
        "batch": 2,
        "num_heads": 32,
        "num_query_groups": 32,
        "seq_length": 4096,
        "head_dim": 128,
        "value_head_dim": 0,
        "causal": causal,
        "bias": False,
        "window": 0,
        "dtype": "bf16",
        "kind": "forward",
        "impl": "cudnn",
    }
    ours = prepare("attention", fields)
    ratio = interleaved_ratio(native, gpu, ours, torch_graph(call))
    assert ratio == pytest.approx(1.0, abs=0.03)
