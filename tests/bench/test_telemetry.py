"""NVML's readings beside a round, and what is left where a call fails or lies."""

import runpy
import sys
import time
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from predictor.bench import telemetry
from predictor.bench.board import nvml_settings
from predictor.bench.telemetry import Reading, Telemetry

promise = runpy.run_path(str(Path(__file__).with_name("faults.py")))["FAULTS"].__getitem__


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
