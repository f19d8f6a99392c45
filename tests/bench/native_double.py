"""A double of the native extension's interface on a virtual clock, with faults on demand.

Faults are asked for by a point's ``m``: a GEMM with ``m`` of FAULTS[...] ends the process, hangs
and so on; ``DOUBLE_NativeError=0.01`` has one call in a hundred fail so. It stands for
``predictor._native`` where tests must not depend on a compiler.
"""

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

build: dict[str, object] = {"cuda": False, "attention": False, "version": 1}

FAULTS = {
    "killed": 70001,
    "hangs": 70002,
    "sticky": 70003,
    "wrong": 70004,
    "unsupported": 70005,
    "raises": 70006,
    "hangs_in_prepare": 70007,
    "crowded": 70008,
    "timeless": 70009,
    "blind": 70010,
    "library_oom": 70011,
}
RANDOM_FAULTS = ("NativeError", "DeviceFault", "OutOfDeviceMemory")
MEMORY_BYTES = 80e9
NOISE = 0.003


class NativeError(RuntimeError):
    """Base of the extension's errors."""


class OutOfDeviceMemory(NativeError):  # noqa: N818 - the extension's name
    """A buffer does not fit."""


class Unsupported(NativeError):  # noqa: N818
    """No kernel for that."""


class DeviceFault(NativeError):  # noqa: N818
    """Sticky."""


class LibraryMissing(NativeError):  # noqa: N818
    """A shared library is not there."""


@dataclass
class Trace:
    """What the profiler saw."""

    seconds: float
    activities: int = 1


class SamplingPolicy:
    """Keyword-only values."""

    def __init__(self, **values: float) -> None:
        self.round_seconds = 0.03
        self.min_samples = 20
        self.sustained_seconds = 0.0
        self.__dict__.update(values)


@dataclass
class Round:
    """Result of one round."""

    samples_seconds: list[float]
    wall_begin_seconds: float
    wall_end_seconds: float
    mad_seconds: float = 0.0
    lag1_autocorrelation: float = float("nan")
    drift: float = 0.0
    timer: str = "graph"
    stop_reason: str = "converged"

    @property
    def median_seconds(self) -> float:
        return median(self.samples_seconds)

    @property
    def low_seconds(self) -> float:
        return min(self.samples_seconds)

    @property
    def high_seconds(self) -> float:
        return max(self.samples_seconds)

    p10_seconds = low_seconds
    p90_seconds = high_seconds

    @property
    def launches(self) -> int:
        return len(self.samples_seconds)

    @property
    def tail_begin_seconds(self) -> float:
        return self.wall_begin_seconds


@dataclass
class Workload:
    """A prepared point."""

    description: str
    seconds: float
    fields: dict[str, Any]
    timer: str = "graph"
    buffer_sets: int = 2


class Device:
    """A toy GPU: 100 TFLOP/s, 1 TB/s, 5 µs a launch."""

    def __init__(self, kind: str, index: int = 0, *, seed: int = 0) -> None:
        if kind != "mock":
            raise NativeError("no CUDA device is there")
        self.properties: dict[str, object] = {
            "name": "Mock",
            "l2_bytes": 50 << 20,
            "memory_bytes": int(MEMORY_BYTES),
            "driver_version": os.environ.get("DOUBLE_DRIVER", "0"),
            "runtime_version": "0",
            "pci_bus_id": "",
            "uuid": "mock-uuid",
        }
        self.libraries: dict[str, dict[str, str]] = {
            "cublas": {"version": os.environ.get("DOUBLE_CUBLAS", "1")}
        }
        self.stream_handle = 0
        self._random = random.Random(seed + index)  # noqa: S311 - noise
        self._clock = 0.0
        self._prepared = 0
        self._faults = random.Random(f"{seed} {starts()}")  # noqa: S311 - faults

    def foresee(self, coming: list[tuple[str, dict[str, Any]]]) -> None:
        """Nothing is built here; a test may ask for what was told."""
        self.foreseen = [*getattr(self, "foreseen", []), coming]

    def prepare(self, operator: str, fields: dict[str, Any], **work: Any) -> Workload:
        self._maybe_fail()
        fault = fields.get("m")
        if work["working_set_bytes"] > MEMORY_BYTES:
            raise OutOfDeviceMemory("80 GB are not enough")
        if fault == FAULTS["crowded"] and self._prepared:
            raise OutOfDeviceMemory("not beside others")
        if fault == FAULTS["unsupported"]:
            raise Unsupported("no such kernel")
        if fault == FAULTS["hangs_in_prepare"]:
            if folder := os.environ.get("DOUBLE_FOLDER"):
                (Path(folder) / "hangs").touch()
            time.sleep(60)
        self._prepared += 1
        seconds = 5e-6 + max(work["flops"] / 100e12, work["bytes"] / 1e12)
        return Workload(description=operator, seconds=seconds, fields=fields)

    def prepare_callable(
        self, launch: Callable[[], None], *, launches_per_call: int, seconds_hint: float = 0.0
    ) -> Workload:
        raise NotImplementedError

    def sample(self, workload: Workload, policy: SamplingPolicy) -> Round:
        pause = float(os.environ.get("DOUBLE_ROUND_WALL_SECONDS", "0"))
        time.sleep(pause)
        self._maybe_fail()
        self._fail(workload.fields.get("m"))
        offset = 1 + NOISE * self._random.gauss(0, 1)
        samples = [
            workload.seconds * offset * (1 + 0.005 * self._random.gauss(0, 1)) for _ in range(20)
        ]
        if workload.fields.get("m") == FAULTS["timeless"]:
            samples = [0.0] * 20
        begin = self._clock
        self._clock += max(policy.round_seconds, policy.sustained_seconds)
        return Round(samples, begin, self._clock)

    def check(self, workload: Workload, _seed: int = 0) -> float:
        self._maybe_fail()
        return 1.0 if workload.fields.get("m") == FAULTS["wrong"] else 1e-3

    def trace(self, workload: Workload) -> "Trace":
        if os.environ.get("DOUBLE_NO_CUPTI"):
            raise LibraryMissing("cupti (libcupti.so.13) was not found")
        if workload.fields.get("m") == FAULTS["blind"]:
            raise NativeError("empty trace")
        return Trace(workload.seconds * float(os.environ.get("DOUBLE_TRACE_RATIO", "1")))

    def synchronize(self) -> None:
        return None

    def _maybe_fail(self) -> None:
        for name in RANDOM_FAULTS:
            if self._faults.random() < float(os.environ.get(f"DOUBLE_{name}", "0")):
                raise globals()[name]("asked for")

    @staticmethod
    def _fail(fault: object) -> None:
        if fault == FAULTS["killed"]:
            os._exit(9)
        if fault == FAULTS["hangs"]:
            time.sleep(60)
        if fault == FAULTS["sticky"]:
            raise DeviceFault("illegal address")
        if fault == FAULTS["raises"]:
            raise ValueError("odd")
        if fault == FAULTS["library_oom"]:
            raise OutOfDeviceMemory("cuBLAS: allocation failed")


def starts() -> int:
    """How many workers have started before, as far as a folder counts them."""
    folder = os.environ.get("DOUBLE_FOLDER")
    if folder is None:
        return 0
    with (Path(folder) / "starts").open("a", encoding="utf-8") as counted:
        counted.write(".")
        return counted.tell()


def cuda_device_count() -> int:
    """None."""
    return 0
