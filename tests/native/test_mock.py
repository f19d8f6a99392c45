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


@pytest.fixture
def rank(native: ModuleType) -> Any:
    """Return a mock device in a group of two."""
    device = native.Device("mock")
    device.join("pair", device.new_group_id(), ranks=2, rank=1)
    return device


def launch(device: Any, seconds: float, **fields: Any) -> Any:
    """Prepare a collective that takes so long on the toy GPU."""
    size = (seconds - 5e-6) * 1e12
    fields = {"bytes": int(size), "group": "pair"} | fields
    return device.prepare(
        "all_reduce", fields, flops=0.0, bytes=size, working_set_bytes=size, cache="cold"
    )


def test_lockstep_takes_exactly_the_agreed_samples(rank: Any) -> None:
    aligner = launch(rank, 6e-6)
    for seconds, graph, enqueues in ((20e-6, True, 60), (200e-6, False, 3), (8e-3, False, 1)):
        workload = launch(rank, seconds)
        assert rank.probe(workload, aligner, enqueues=4, timeout_seconds=1.0) == pytest.approx(
            seconds, rel=0.05
        )
        found = rank.sample_lockstep(
            workload,
            aligner,
            graph=graph,
            seconds=seconds,
            enqueues_per_sample=enqueues,
            samples=70,
            timeout_seconds=5.0,
        )
        assert len(found.samples_seconds) == 70
        assert found.launches == 70 * enqueues
        assert sorted(found.samples_seconds)[35] == pytest.approx(seconds, rel=0.02)
        assert not found.gate_expired


@pytest.mark.parametrize(("calls", "slowdown"), [((2, 3), (1.1, 1.5)), ((2, 0), (1.0, 0.0))])
def test_sides_slow_each_other_only_where_both_run(
    rank: Any, calls: tuple[int, int], slowdown: tuple[float, float]
) -> None:
    aligner = launch(rank, 6e-6)
    compute, collective = launch(rank, 300e-6), launch(rank, 200e-6)
    found = rank.sample_beside(
        compute,
        collective,
        aligner,
        compute_calls=calls[0],
        collective_calls=calls[1],
        intervals=20,
        timeout_seconds=5.0,
    )
    counted = [seconds for seconds in found.compute_seconds if seconds >= 0]
    assert sorted(counted)[len(counted) // 2] == pytest.approx(300e-6 * slowdown[0], rel=0.02)
    if calls[1] == 0:
        assert found.collective_seconds == []
        assert len(counted) == 20
        return
    beside = [seconds for seconds in found.collective_seconds if seconds >= 0]
    assert sorted(beside)[len(beside) // 2] == pytest.approx(200e-6 * slowdown[1], rel=0.02)
    # 20 · 2 · 330 µs of compute against 20 · 3 · 300 µs of communication: the window ends first.
    assert len(counted) == 20
    assert len(beside) == 14


def test_a_collective_far_longer_than_a_kernel_ends_beside_many(rank: Any) -> None:
    found = rank.sample_beside(
        launch(rank, 20e-6),
        launch(rank, 10e-3),
        launch(rank, 6e-6),
        compute_calls=500,
        collective_calls=1,
        intervals=24,
        timeout_seconds=5.0,
    )
    # 24 · 500 · 22 µs of kernels, and in them 17 collectives of 15 ms.
    beside = [seconds for seconds in found.collective_seconds if seconds >= 0]
    assert len(beside) == 17
    assert sorted(beside)[8] == pytest.approx(15e-3, rel=0.02)
    assert sorted(found.compute_seconds)[12] == pytest.approx(22e-6, rel=0.02)


def test_more_calls_than_the_driver_queues_are_refused(native: ModuleType, rank: Any) -> None:
    sides = (launch(rank, 20e-6), launch(rank, 10e-3), launch(rank, 6e-6))
    counts = {"compute_calls": 513, "collective_calls": 1, "intervals": 2, "timeout_seconds": 1.0}
    with pytest.raises(native.NativeError, match="at most 512 times an interval"):
        rank.sample_beside(*sides, **counts)


def test_a_collective_needs_its_group(native: ModuleType, rank: Any) -> None:
    with pytest.raises(native.NativeError, match="has not joined the group 'other'"):
        launch(rank, 1e-5, group="other")
    rank.leave("pair")
    with pytest.raises(native.NativeError, match="has not joined"):
        launch(rank, 1e-5)
    with pytest.raises(native.NativeError, match="rank 2 of 2"):
        rank.join("pair", b"id", ranks=2, rank=2)


def test_a_peer_that_does_not_answer_is_a_timeout(native: ModuleType, rank: Any) -> None:
    workload, aligner = launch(rank, 1e-4), launch(rank, 6e-6)
    rank.inject("hang", 1)
    with pytest.raises(native.DeviceTimeout):
        rank.probe(workload, aligner, enqueues=1, timeout_seconds=0.1)
