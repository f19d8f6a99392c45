"""Small parts: budget, summary of rounds, screening, telemetry, SKU, provenance."""

import runpy
import sys
import time
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from predictor.bench import telemetry
from predictor.bench.board import nvml_settings
from predictor.bench.budget import Budget, BudgetEnded, parse_duration, process_started
from predictor.bench.chunks import CHUNK_MEMORY_BYTES, CHUNK_POINTS, chunks
from predictor.bench.messages import Hello
from predictor.bench.provenance import describe_run, harness_hash, hashed, run_key
from predictor.bench.rounds import RoundResult
from predictor.bench.screening import Limits, faults, flags, neighbour_faults
from predictor.bench.sku import sku_of
from predictor.bench.summarise import summarise, timed_status
from predictor.bench.sweep import default_points
from predictor.bench.telemetry import Reading, Telemetry
from predictor.errors import BenchError
from predictor.operators import Gemm, MemoryBound, Operator
from predictor.tables import Row

promise = runpy.run_path(str(Path(__file__).with_name("faults.py")))["FAULTS"].__getitem__
LIMITS = Limits(flops_per_second={"bf16": 1e12}, bytes_per_second=1e9, l2_bytes=1e3)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("1.5m", 90)]
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1m", "soon", "10 min", "5m1h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(BenchError, match="must be a duration above zero"):
        parse_duration(text)


def test_a_budget_counts_from_the_process_start_and_keeps_a_reserve() -> None:
    assert process_started() <= time.monotonic()
    budget = Budget(100, started=time.monotonic() - 50)
    assert budget.remaining() == pytest.approx(48, abs=0.5)
    budget.check(30)
    with pytest.raises(BudgetEnded):
        budget.check(60)


def test_what_is_held_for_the_end_is_not_spent_before() -> None:
    budget = Budget(100, started=time.monotonic() - 50)
    budget.hold(30)
    assert budget.remaining() == pytest.approx(18, abs=0.5)
    budget.hold(0)
    assert budget.remaining() == pytest.approx(48, abs=0.5)


def result(seconds: float, **values: float) -> RoundResult:
    return RoundResult(
        seconds=seconds, seconds_low=0.9 * seconds, seconds_high=1.1 * seconds, samples=20, **values
    )


def test_a_row_is_the_median_of_rounds_between_the_lowest_and_the_highest() -> None:
    summary = summarise([result(3.0, watts=100.0), result(1.0, watts=300.0), result(2.0)])
    assert (summary["seconds"], summary["seconds_low"], summary["seconds_high"]) == (2.0, 1.0, 3.0)
    assert (summary["rounds"], summary["samples"]) == (3, 60)
    assert summary["watts"] == 200.0
    assert summary["energy_joules"] == 400.0
    assert summary["sm_clock_hz"] is None


def test_a_lone_round_keeps_its_own_interval() -> None:
    summary = summarise([result(2.0)])
    assert (summary["seconds_low"], summary["seconds_high"]) == pytest.approx((1.8, 2.2))


@pytest.mark.parametrize(
    ("reasons", "status"),
    [
        (0x0, "ok"),
        (0x4, "ok"),
        (0x1, "ok"),
        (0x8, "throttled"),
        (0x20, "throttled"),
        (0x40, "throttled"),
        (0x80, "throttled"),
        (0x84, "throttled"),
    ],
)
def test_only_a_slowdown_by_hardware_or_heat_counts_as_throttled(reasons: int, status: str) -> None:
    assert timed_status([result(1.0), result(1.0, event_reasons=reasons)]) == status


def row(operator: Operator, seconds: float, *, spread: float = 1.0) -> Row:
    return Row(
        operator=operator,
        seconds=seconds,
        seconds_low=seconds,
        seconds_high=seconds * spread,
        rounds=3,
        samples=60,
        run="r",
    )


def test_a_sustained_round_begins_with_its_tail() -> None:
    measured = SimpleNamespace(
        median_seconds=2e-3,
        low_seconds=1e-3,
        high_seconds=3e-3,
        mad_seconds=0.0,
        p10_seconds=1e-3,
        p90_seconds=3e-3,
        lag1_autocorrelation=0.0,
        drift=0.0,
        samples_seconds=[1e-3, 2e-3, 3e-3],
        launches=3,
        timer="event",
        stop_reason="steady",
        wall_begin_seconds=10.0,
        tail_begin_seconds=12.0,
        wall_end_seconds=13.0,
    )
    assert RoundResult.from_native(measured, sustained=True).begin_seconds == 12.0
    assert RoundResult.from_native(measured, sustained=False).begin_seconds == 10.0


@pytest.mark.parametrize("low", [0.0, -1e-6, float("nan"), float("inf")])
def test_a_round_whose_time_is_none_is_not_sound(low: float) -> None:
    assert result(1e-3).is_sound
    assert not replace(result(1e-3), seconds_low=low).is_sound


def test_faster_than_physics_is_noticed() -> None:
    product = Gemm(m=1000, n=1000, k=1000)  # 2e9 flops at 1e12 a second: 2 ms; 6 MB: 6 ms
    assert faults(row(product, 7e-3), LIMITS) == []
    assert "bytes take" in faults(row(product, 5e-3), LIMITS)[0]
    assert "flops take" in faults(row(product, 1e-3), LIMITS)[0]
    assert faults(row(product, 1e-9), Limits()) == [], "nothing is known of this GPU"


def test_warm_data_may_stream_faster_than_memory() -> None:
    copy = MemoryBound(kernel="copy", rows=1000, cols=1000)
    warm = Row(
        operator=copy,
        seconds=1e-3,
        seconds_low=1e-3,
        seconds_high=1e-3,
        rounds=3,
        samples=9,
        cache="warm",
        run="r",
    )
    assert faults(warm, LIMITS) == []


def test_cold_data_that_nearly_fit_the_cache_may_stream_faster_than_memory() -> None:
    # 4 MB moved in 1 ms is 4 GB/s, four times this memory's rate; LIMITS has a cache of 1 kB.
    copy = row(MemoryBound(kernel="copy", rows=1000, cols=1000), 1e-3)
    assert "bytes take" in faults(copy, LIMITS)[0]
    assert faults(copy, replace(LIMITS, l2_bytes=1e6)) == []


def test_rounds_that_disagree_are_noticed() -> None:
    assert faults(row(Gemm(m=8, n=8, k=8), 1.0, spread=1.05), LIMITS) == []
    assert "differ by 20%" in faults(row(Gemm(m=8, n=8, k=8), 1.0, spread=1.2), LIMITS)[0]


def test_a_smaller_shape_that_takes_longer_is_noticed_within_its_alignment_class() -> None:
    small, large = row(Gemm(m=64, n=64, k=64), 2e-3), row(Gemm(m=128, n=64, k=64), 1e-3)
    odd = row(Gemm(m=63, n=64, k=64), 5e-3)
    rows = [small, large, odd]
    assert [found for found, _ in neighbour_faults(rows, rows)] == [small]
    assert len(flags(rows, Limits())) == 1


def test_a_sustained_row_is_not_held_against_a_burst_of_a_larger_shape() -> None:
    hot = replace(row(Gemm(m=64, n=64, k=64), 2e-3), regime="sustained")
    rows = [hot, row(Gemm(m=128, n=64, k=64), 1e-3)]
    assert neighbour_faults(rows, rows) == []


def test_short_launches_may_take_alike() -> None:
    rows = [row(Gemm(m=64, n=64, k=64), 6e-6), row(Gemm(m=128, n=64, k=64), 5e-6)]
    assert neighbour_faults(rows, rows) == []


def test_readings_are_those_of_the_rounds_window() -> None:
    readings = iter(
        [
            Reading(at_seconds=1.0, sm_clock_hz=1e9, watts=100.0, event_reasons=4),
            Reading(at_seconds=2.0, sm_clock_hz=2e9, watts=300.0, event_reasons=8),
            Reading(at_seconds=3.0, sm_clock_hz=3e9, watts=900.0),
        ]
    )
    with Telemetry(lambda: next(readings), period_seconds=0.001) as seen:
        deadline = time.monotonic() + 5
        while len(seen._readings) < 3 and time.monotonic() < deadline:
            time.sleep(0.005)
    window = seen.window(0.5, 2.5)
    assert (window.sm_clock_hz, window.watts, window.event_reasons) == (1.5e9, 200.0, 12)
    assert seen.window(10.0, 11.0).watts is None


def test_power_of_a_long_window_comes_from_the_energy_counter() -> None:
    long = [Reading(at_seconds=t, watts=1.0, joules=50.0 * t) for t in (0.0, 1.0, 2.0)]
    assert telemetry._energy_watts(long) == 50.0
    assert telemetry._energy_watts(long[:1]) is None


def test_no_nvml_means_no_readings() -> None:
    assert telemetry.nvml_source("0000:00:00.0") is None
    with Telemetry(None) as seen:
        assert seen.window(0.0, 1.0).sm_clock_hz is None
    assert promise("no NVML").exit_codes == (0,), "telemetry ends no run"


ANSWERS: dict[str, Any] = {
    "nvmlInit": None,
    "nvmlDeviceGetHandleByPciBusId": 0,
    "nvmlDeviceGetClockInfo": 1500,
    "nvmlDeviceGetFieldValues": [
        SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=400_000))
    ],
    "nvmlDeviceGetPowerUsage": 300_000,
    "nvmlDeviceGetTotalEnergyConsumption": 5_000,
    "nvmlDeviceGetCurrentClocksThrottleReasons": 4,
    "nvmlDeviceGetEnforcedPowerLimit": 700_000,
    "nvmlDeviceGetEccMode": (1, 1),
    "nvmlDeviceGetMigMode": (0, 0),
    "nvmlDeviceGetPersistenceMode": 1,
    "nvmlDeviceGetVbiosVersion": "96.00",
    "nvmlSystemGetDriverVersion": "580.1",
    "nvmlDeviceGetMaxClockInfo": 1980,
    "nvmlDeviceGetTemperature": 40,
}


class Nvml(ModuleType):
    """NVML as the driver's library answers, but for the calls that are to fail or lie."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self, **instead: Any) -> None:
        super().__init__("pynvml")
        for name, answer in (ANSWERS | instead).items():
            setattr(self, name, lambda *_, answer=answer: answer() if callable(answer) else answer)

    class NVMLError(Exception):
        """Any of them."""


def refuse() -> None:
    raise Nvml.NVMLError(999)


@pytest.mark.parametrize("failing", ANSWERS)
def test_an_nvml_call_that_fails_costs_what_it_asks_for_alone(
    failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, partial = Nvml(), Nvml(**{failing: refuse})
    monkeypatch.setitem(sys.modules, "pynvml", whole)
    source, settings = telemetry.nvml_source("0"), nvml_settings("0")
    assert source is not None
    expected = replace(source(), at_seconds=0.0)
    assert expected == Reading(
        at_seconds=0.0, sm_clock_hz=1.5e9, watts=400.0, joules=5.0, event_reasons=4
    )
    for name, answer in vars(partial).items():  # at once, and of a source that is open already
        monkeypatch.setattr(whole, name, answer)
    assert set(nvml_settings("0")) <= set(settings)
    later = replace(source(), at_seconds=0.0)
    lost = [f.name for f in fields(Reading) if getattr(later, f.name) != getattr(expected, f.name)]
    assert len(lost) <= 1
    opened = telemetry.nvml_source("0")
    if failing in {"nvmlInit", "nvmlDeviceGetHandleByPciBusId"}:
        assert opened is None
    else:
        assert opened is not None
        assert opened().at_seconds > 0


@pytest.mark.parametrize("lie", [0, float("nan"), -5, float("inf")])
def test_what_nvml_cannot_mean_is_no_reading(lie: float, monkeypatch: pytest.MonkeyPatch) -> None:
    field = [SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=lie))]
    lying = Nvml(
        nvmlDeviceGetClockInfo=lie,
        nvmlDeviceGetFieldValues=field,
        nvmlDeviceGetTotalEnergyConsumption=lie,
    )
    monkeypatch.setitem(sys.modules, "pynvml", lying)
    source = telemetry.nvml_source("0")
    assert source is not None
    reading = source()
    assert (reading.sm_clock_hz, reading.watts, reading.joules) == (None, None, None)
    assert promise("NVML lies").exit_codes == (0,)
    back = [Reading(at_seconds=t, joules=100.0 - t, watts=300.0) for t in (0.0, 1.0)]
    assert telemetry._energy_watts(back) is None


@pytest.mark.parametrize(
    ("name", "sku"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-sxm5-80gb"),
        ("NVIDIA H200", "h200-sxm5-141gb"),
        ("NVIDIA A100-SXM4-80GB", "a100-sxm4-80gb"),
        ("NVIDIA L40S", "l40s"),
    ],
)
def test_a_sku_is_known_by_what_the_driver_reports(name: str, sku: str) -> None:
    assert sku_of({"name": name}, "auto") == sku


def test_a_wanted_sku_must_be_a_folders_name() -> None:
    assert sku_of({"name": "x"}, "my-gpu") == "my-gpu"
    with pytest.raises(BenchError, match="lower-case"):
        sku_of({"name": "x"}, "../../etc")


def test_provenance_tells_code_board_libraries_and_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    board = {"power_cap_watts": 700.0, "ecc": True, "mig": False, "driver": "580", "vbios": "96"}
    monkeypatch.setattr("predictor.bench.provenance.nvml_settings", lambda _: board)
    hanging = {"gpus": 2, "nvlinks": ["X 18", "18 X"]}
    monkeypatch.setattr("predictor.bench.provenance.topology", lambda: hanging)
    monkeypatch.setattr("sys.argv", ["bench-run", "--operators", "gemm"])
    hello = Hello(
        properties={"uuid": "GPU-1234", "name": "Toy", "pci_bus_id": "0000:1B:00.0"},
        libraries={"cublas": {"version": "13.1", "path": "/lib/libcublas.so.13"}, "nccl": {}},
        build={"version": 3},
    )
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    run = describe_run(hello, sku="toy", at=at, arguments={"operators": "gemm"})
    assert run["command"] == "bench-run --operators gemm"
    assert (run["sku"], run["harness"], run["began"]) == ("toy", 3, "2026-01-02T03:04:05+00:00")
    assert run["device"] == {"name": "Toy", "pci_bus_id": "0000:1B:00.0"}
    assert (run["settings"], run["topology"]) == (board, hanging)
    assert run["harness_hash"] == harness_hash(None) != harness_hash(__file__)
    assert run["libraries"] == {"cublas": "13.1", "nccl": "missing"}
    assert run["library_files"] == {"cublas": "libcublas.so.13"}
    assert len(run["host_hash"]) == len(run["gpu_uuid_hash"]) == 16
    assert run["git"] is None or set(run["git"]) == {"commit", "dirty"}


def test_provenance_names_no_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    for name in ("SECRET_TOKEN", "PREDICTOR_BENCH_SECRET", "NCCL_COMM_ID", "NCCL_HOSTID"):
        monkeypatch.setenv(name, "hunter2")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/tmp/torchinductor_someone")  # noqa: S108
    monkeypatch.setenv("NCCL_NET_PLUGIN", "/home/someone/libnccl-net.so")
    monkeypatch.setattr("platform.node", lambda: "secret-host")
    monkeypatch.setattr("sys.argv", ["/home/someone/bin/bench-run", "--out", "/home/someone/x"])
    hello = Hello(
        properties={"uuid": "GPU-1234", "name": "Toy", "l2_bytes": 5},
        libraries={"cublas": {"version": "13", "path": "/home/someone/lib/libcublas.so.13"}},
        build={"version": 3},
    )
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    text = str(run := describe_run(hello, sku="toy", at=at, arguments={}))
    for secret in ("someone", "secret-host", "GPU-1234", "hunter2"):
        assert secret not in text
    assert run["environment"]["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert run["environment"]["NCCL_NET_PLUGIN"] == "libnccl-net.so"
    assert run["library_files"] == {"cublas": "libcublas.so.13"}
    assert run["gpu_uuid_hash"] == hashed("GPU-1234")
    assert run_key("toy", at) == "toy-20260102T030405Z"
    assert run_key("toy", at, {"toy-20260102T030405Z"}) == "toy-20260102T030405Z-2"


def test_chunks_are_bounded_in_points_and_memory() -> None:
    l2_bytes = 50e6
    split = list(chunks(default_points(), l2_bytes))
    assert [p for chunk in split for p in chunk] == default_points()
    for chunk in split:
        held = sum(p.memory_bytes(l2_bytes) for p in chunk)
        assert len(chunk) <= CHUNK_POINTS
        assert len({p.tier for p in chunk}) == 1
        assert held <= CHUNK_MEMORY_BYTES or len(chunk) == 1
