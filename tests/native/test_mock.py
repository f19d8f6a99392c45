"""The extension as Python sees it, on the mock device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

pytestmark = pytest.mark.native

FIELDS = {"m": 1024, "n": 1024, "k": 1024, "dtype": "bf16", "accumulate": False}


@pytest.fixture
def prepare(native: ModuleType) -> Callable[..., Any]:
    """Return a function that prepares a GEMM on a new mock device and gives both."""

    def make(*, seed: int = 0, flops: float = 1e10, **fields: object) -> Any:
        device = native.Device("mock", seed=seed)
        workload = device.prepare(
            "gemm",
            FIELDS | fields,
            flops=flops,
            bytes=1e6,
            working_set_bytes=1e6,
            cache="cold",
        )
        return device, workload

    return make


def test_toy_gpu_takes_the_launch_and_the_longer_of_flops_and_bytes(
    native: ModuleType, prepare: Callable[..., Any]
) -> None:
    device, workload = prepare(flops=1e10)  # 100 µs at 100 TFLOP/s, 1 µs at 1 TB/s
    assert workload.timer == ""
    found = device.sample(workload, native.SamplingPolicy())
    assert found.median_seconds == pytest.approx(105e-6, rel=0.015)  # noise of three sigmas
    assert (found.timer, found.stop_reason) == ("gated", "converged")
    assert workload.timer == "gated"
    assert found.low_seconds <= found.median_seconds <= found.high_seconds
    assert found.wall_begin_seconds < found.wall_end_seconds
    assert "m=1024" in workload.description


def test_same_seed_gives_the_same_samples(native: ModuleType, prepare: Callable[..., Any]) -> None:
    def samples(seed: int) -> list[float]:
        device, workload = prepare(seed=seed)
        return device.sample(workload, native.SamplingPolicy()).samples_seconds

    assert samples(3) == samples(3)
    assert samples(3) != samples(4)


def test_noise_is_of_the_documented_size(native: ModuleType, prepare: Callable[..., Any]) -> None:
    device, workload = prepare()
    policy = native.SamplingPolicy(relative_half_width=1e-9, round_seconds=1.0)
    found = device.sample(workload, policy)
    sigma = (found.p90_seconds - found.p10_seconds) / 2.563 / found.median_seconds
    assert sigma == pytest.approx(0.005, rel=0.15)


def test_callable_is_called_and_its_exception_returned(native: ModuleType) -> None:
    device = native.Device("mock")
    calls: list[int] = []
    workload = device.prepare_callable(
        lambda: calls.append(1), launches_per_call=4, seconds_hint=2e-4
    )
    found = device.sample(workload, native.SamplingPolicy())
    assert found.median_seconds == pytest.approx(5e-5, rel=0.015)
    assert len(calls) * 4 >= found.launches > 0

    def fail() -> None:
        message = "from Python"
        raise KeyError(message)

    broken = device.prepare_callable(fail, launches_per_call=1)
    with pytest.raises(KeyError, match="from Python"):
        device.sample(broken, native.SamplingPolicy())


@pytest.mark.parametrize(
    ("what", "error"),
    [("fault", "DeviceFault"), ("hang", "DeviceTimeout"), ("throw", "NativeError")],
)
def test_injected_failure_is_its_exception(
    native: ModuleType, prepare: Callable[..., Any], what: str, error: str
) -> None:
    device, workload = prepare()
    device.inject(what, 1)
    with pytest.raises(getattr(native, error), match="injected"):
        device.sample(workload, native.SamplingPolicy())
    assert device.sample(workload, native.SamplingPolicy()).median_seconds > 0


def test_out_of_memory_leaves_the_device_usable(
    native: ModuleType, prepare: Callable[..., Any]
) -> None:
    device, workload = prepare()
    with pytest.raises(native.OutOfDeviceMemory, match=r"1e\+12 bytes"):
        device.prepare("copy", {}, flops=0, bytes=1, working_set_bytes=1e12, cache="warm")
    assert device.sample(workload, native.SamplingPolicy()).median_seconds > 0


def test_every_error_is_a_native_error(native: ModuleType) -> None:
    for name in ("OutOfDeviceMemory", "Unsupported", "DeviceFault", "LibraryMissing"):
        assert issubclass(getattr(native, name), native.NativeError)
    assert issubclass(native.NativeError, RuntimeError)


def test_arguments_that_make_no_sense_are_named(native: ModuleType) -> None:
    with pytest.raises(ValueError, match="'tpu'"):
        native.Device("tpu")
    with pytest.raises(native.NativeError, match="min_samples"):
        native.SamplingPolicy(min_samples=0)
    device = native.Device("mock")
    with pytest.raises(ValueError, match="'hot'"):
        device.prepare("gemm", {}, flops=1, bytes=1, working_set_bytes=1, cache="hot")
    with pytest.raises(TypeError, match="field 'm'"):
        device.prepare("gemm", {"m": None}, flops=1, bytes=1, working_set_bytes=1, cache="cold")
    with pytest.raises(ValueError, match="launches_per_call"):
        device.prepare_callable(lambda: None, launches_per_call=0)


def test_workload_of_another_device_is_refused(
    native: ModuleType, prepare: Callable[..., Any]
) -> None:
    _, workload = prepare()
    other = native.Device("mock")
    with pytest.raises(ValueError, match="another device"):
        other.sample(workload, native.SamplingPolicy())


def test_check_and_properties_of_the_mock(prepare: Callable[..., Any]) -> None:
    device, workload = prepare()
    assert device.check(workload, seed=1) == 0.0
    assert device.properties["name"] == "mock"
    assert device.stream_handle == 0
    assert device.libraries == {}
    device.synchronize()


def test_build_says_what_it_holds(native: ModuleType) -> None:
    assert set(native.build) == {"cuda", "gemm", "attention", "version"}
    assert isinstance(native.build["version"], int)
    assert native.cuda_device_count() >= 0
