"""The GPU's own kernels and copies: every memory-bound kernel and optimizer step is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from predictor.bench.sweep.host import RUNTIME_QUANTITIES
from predictor.operators import KERNELS

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

pytestmark = [pytest.mark.native, pytest.mark.gpu]

BF16_ERROR = 5e-3  # an output rounded to 8 bits is off by 2^-9 at most
FP32_ERROR = 1e-4  # sums of bf16 products in fp32, in another order
MOST_EXPERTS = 512  # of the router's kernel
MEMORY_BOUND = sorted(KERNELS["native"])


@pytest.mark.parametrize("kernel", MEMORY_BOUND)
@pytest.mark.parametrize(
    ("rows", "cols"),
    [(4096, 4096), (1031, 128), (3, 16384), (77, 1000), (129, 50258), (1, 8)],
)
def test_memory_bound_kernel_is_right(
    gpu: Any, prepare: Callable[..., Any], kernel: str, rows: int, cols: int
) -> None:
    fields: dict[str, object] = {
        "kernel": kernel,
        "rows": rows,
        "cols": cols,
        "dtype": "bf16",
        "impl": "native",
    }
    copies = 8 if kernel.endswith("top8") else 2
    if "permute" in kernel and rows % copies:
        fields["rows"] = rows * copies
    if kernel == "router_top_k" and cols > MOST_EXPERTS:
        fields |= {"rows": 1031, "cols": 160}
    assert gpu.check(prepare("memory_bound", fields), seed=rows) < BF16_ERROR


@pytest.mark.parametrize(
    "step",
    [
        ("adamw", "bf16", BF16_ERROR),
        ("adamw", "fp32", FP32_ERROR),
        ("adamw_master", "fp32", BF16_ERROR),
        ("adamw_master", "bf16", BF16_ERROR),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ("elements", "tensors"), [(1, 1), (100_003, 1), (1 << 24, 1), (100_003, 77), (1 << 25, 3)]
)
def test_optimizer_is_right(
    gpu: Any,
    prepare: Callable[..., Any],
    step: tuple[str, str, float],
    elements: int,
    tensors: int,
) -> None:
    kernel, dtype, tolerance = step
    fields: dict[str, object] = {
        "kernel": kernel,
        "elements": elements,
        "tensors": tensors,
        "dtype": dtype,
        "impl": "native",
    }
    assert gpu.check(prepare("optimizer", fields), seed=1) < tolerance


@pytest.mark.parametrize("bytes_", [1, 1000, 1 << 20, 100_000_001])
@pytest.mark.parametrize(
    ("direction", "pinned"),
    [("h2d", True), ("h2d", False), ("d2h", True), ("d2h", False), ("d2d", True)],
)
def test_copy_is_right(
    gpu: Any, prepare: Callable[..., Any], direction: str, bytes_: int, *, pinned: bool
) -> None:
    fields: dict[str, object] = {"direction": direction, "bytes": bytes_, "pinned": pinned}
    assert gpu.check(prepare("memcpy", fields, bytes_=float(bytes_)), seed=1) == 0.0


@pytest.mark.multigpu
def test_copy_to_the_next_device_is_right(gpu: Any, prepare: Callable[..., Any]) -> None:
    fields: dict[str, object] = {"direction": "peer", "bytes": 1 << 24, "pinned": True}
    assert gpu.check(prepare("memcpy", fields), seed=1) == 0.0


def test_a_copy_of_pageable_memory_is_timed_without_a_gate(
    native: ModuleType, gpu: Any, prepare: Callable[..., Any]
) -> None:
    fields: dict[str, object] = {"direction": "h2d", "bytes": 1 << 24, "pinned": False}
    found = gpu.sample(prepare("memcpy", fields), native.SamplingPolicy())
    assert found.timer == "events"
    assert found.median_seconds > 0


def test_the_runtimes_calls_take_microseconds(gpu: Any) -> None:
    costs = gpu.host_costs(samples=5)
    assert set(costs) == set(RUNTIME_QUANTITIES)
    assert 1e-7 < costs["launch"] < 1e-4
    assert costs["graph_node"] < costs["launch"] * 10
    assert costs["event_record"] > 0
