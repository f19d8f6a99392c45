"""Skips what this machine cannot run: no extension, no GPU, no PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from predictor._native import Device


@pytest.fixture(scope="session")
def native() -> ModuleType:
    """Return the extension module, or skip the test."""
    return pytest.importorskip("predictor._native", reason="the native extension is not built")


@pytest.fixture(scope="session")
def gpu(native: ModuleType) -> Device:
    """Return the first GPU, shared by all tests, or skip the test."""
    if not native.build["cuda"]:
        pytest.skip("the extension was built without CUDA")
    if native.cuda_device_count() == 0:
        pytest.skip("no GPU")
    return native.Device("cuda", 0)


@pytest.fixture(scope="session")
def prepare(gpu: Device) -> Callable[..., Any]:
    """Return a function that prepares an operator on the GPU."""

    def make(
        operator: str, fields: dict[str, object], *, bytes_: float = 1e8, cache: str = "warm"
    ) -> Any:
        return gpu.prepare(
            operator, fields, flops=0.0, bytes=bytes_, working_set_bytes=bytes_, cache=cache
        )

    return make
