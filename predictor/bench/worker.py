"""The worker process: holds one device, prepares workloads and samples them on request.

The parent sends ``(request, arguments)`` through a pipe and gets an :class:`Answer` or a
:class:`Failure` for each. A sticky fault is answered, then ends this process, because a CUDA
context does not recover from it.
"""

import importlib
import multiprocessing
import os
import signal
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Final

from predictor.bench.host_rounds import Group, HostWorkload, Quantities
from predictor.bench.points import Point
from predictor.bench.rounds import RoundResult
from predictor.operators import Host
from predictor.tables import Status

if TYPE_CHECKING:
    from collections.abc import Callable

_RUNTIME_SAMPLES: Final = 15
_PARENT_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a worker needs to begin.

    Attributes:
        device: ``cuda`` or ``mock``.
        index: Of the GPU.
        seed: Of the device's random data.
        native_module: Import name of the native extension.
    """

    device: str
    index: int = 0
    seed: int = 0
    native_module: str = "predictor._native"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What the worker found.

    Attributes:
        properties: Of the device.
        libraries: Opened so far or openable.
        build: Of the native extension.
    """

    properties: dict[str, Any]
    libraries: dict[str, dict[str, str]]
    build: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """A request's result."""

    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A request that failed.

    Attributes:
        status: What becomes of the point.
        message: First line of the error.
        sticky: The device is lost and this process ends.
    """

    status: Status
    message: str
    sticky: bool


_STATUS_OF_ERROR: dict[str, tuple[Status, bool]] = {
    "OutOfDeviceMemory": ("oom", False),
    "OutOfMemoryError": ("oom", False),
    "Unsupported": ("unsupported", False),
    "LibraryMissing": ("unsupported", False),
    "ModuleNotFoundError": ("unsupported", False),
    "NotImplementedError": ("unsupported", False),
    "DeviceFault": ("crash", True),
    "DeviceTimeout": ("timeout", True),
}


class Bench:
    """The device and the workloads prepared on it."""

    def __init__(self, start: Start) -> None:
        """Open the device."""
        self._native = importlib.import_module(start.native_module)
        self._kind = start.device
        self._device = self._native.Device(start.device, start.index, seed=start.seed)
        self._workloads: dict[int, Any] = {}
        self._torch: Any = None
        self._runtime: Group | None = None

    def hello(self) -> Hello:
        """Describe device and libraries."""
        return Hello(
            properties=dict(self._device.properties),
            libraries={name: dict(library) for name, library in self._device.libraries.items()},
            build=dict(self._native.build),
        )

    def prepare(self, key: int, point: Point) -> str:
        """Build a point's workload; its description comes back."""
        operator = point.operator
        if isinstance(operator, Host) and point.is_native and self._kind != "mock":
            quantity = (operator.phase, operator.quantity)
            workload = self._runtime_calls().workload("host cuda", quantity)
        elif self._kind == "mock" or point.is_native:
            workload = self._device.prepare(
                operator.name,
                point.arguments,
                flops=float(operator.flops),
                bytes=float(operator.bytes),
                working_set_bytes=float(operator.working_set_bytes),
                cache=point.cache,
            )
        else:
            workload = self._torch_bench().prepare(point)
        self._workloads[key] = workload
        return str(workload.description)

    def sample(
        self, key: int, policy: dict[str, Any], not_before_seconds: float, *, raw: bool
    ) -> tuple[RoundResult, list[float]]:
        """Measure one round, from a time on; raw samples come back only if asked for."""
        time.sleep(max(0.0, not_before_seconds - time.monotonic()))
        workload = self._workloads[key]
        if isinstance(workload, HostWorkload):
            return workload.round(), []
        measured = self._device.sample(workload, self._native.SamplingPolicy(**policy))
        sustained = float(policy.get("sustained_seconds", 0)) > 0
        result = RoundResult.from_native(measured, sustained=sustained)
        return result, list(measured.samples_seconds) if raw else []

    def check(self, key: int, seed: int) -> float:
        """Relative error of the workload's results against the reference."""
        return float(self._device.check(self._workloads[key], seed))

    def trace(self, key: int) -> tuple[float, int]:
        """Kernel seconds per launch by the profiler, and how many kernels a call runs."""
        traced = self._device.trace(self._workloads[key])
        return float(traced.seconds), int(traced.activities)

    def release(self, keys: list[int]) -> None:
        """Forget workloads and give their memory back."""
        for key in keys:
            self._workloads.pop(key, None)
        if self._torch is not None:
            self._torch.release()

    def libraries(self) -> dict[str, dict[str, str]]:
        """Libraries opened by now."""
        return {name: dict(library) for name, library in self._device.libraries.items()}

    def requests(self) -> dict[str, "Callable[..., Any]"]:
        """What the parent may ask for."""
        return {
            "prepare": self.prepare,
            "sample": self.sample,
            "check": self.check,
            "trace": self.trace,
            "release": self.release,
            "libraries": self.libraries,
        }

    def answer(self, request: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> object:
        """Carry out one request."""
        try:
            return Answer(self.requests()[request](*arguments, **named))
        except Exception as error:  # noqa: BLE001 - whatever a point does, the run goes on
            return self._failure(error)

    def _runtime_calls(self) -> Group:
        """What the CUDA runtime's own calls cost; one group for all quantities."""
        if self._runtime is None:

            def measure() -> Quantities:
                costs = self._device.host_costs(samples=_RUNTIME_SAMPLES)
                return {("forward", quantity): seconds for quantity, seconds in costs.items()}

            self._runtime = Group(measure, samples=_RUNTIME_SAMPLES)
        return self._runtime

    def _torch_bench(self) -> Any:  # noqa: ANN401
        if self._torch is None:
            # Compile in this process: a pool of compilers would outlive it.
            os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
            from predictor.bench.torch_bench import TorchBench  # noqa: PLC0415 - imports torch

            self._torch = TorchBench(self._device)
        return self._torch

    def _failure(self, error: Exception) -> Failure:
        status, sticky = _STATUS_OF_ERROR.get(type(error).__name__, ("crash", False))
        if not sticky and self._kind != "mock":
            sticky = not self._healthy()
        return Failure(status=status, message=describe(error), sticky=sticky)

    def _healthy(self) -> bool:
        try:
            self._device.synchronize()
        except Exception:  # noqa: BLE001 - any error here means that the device is lost
            return False
        return self._torch is None or bool(self._torch.healthy())


def describe(error: BaseException) -> str:
    """Kind and first line of an error."""
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}"[:300]


def serve(connection: Connection, start: Start, bench_class: type[Bench] = Bench) -> None:
    """Answer requests until the parent stops or dies. Entry point of the spawned process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        bench = bench_class(start)
        connection.send(Answer(bench.hello()))
    except Exception as error:  # noqa: BLE001 - the parent decides what it means
        connection.send(Failure(status="crash", message=describe(error), sticky=True))
        return
    try:
        while True:
            request, arguments, named = connection.recv()
            if request == "stop":
                break
            answer = bench.answer(request, arguments, named)
            connection.send(answer)
            if isinstance(answer, Failure) and answer.sticky:
                break
    except (EOFError, BrokenPipeError):
        pass
    # Skip destructors: after a fault they may hang, and the driver frees everything anyway.
    os._exit(0)


def _end_with_parent() -> None:
    """End this process soon after its parent, even while it waits for a device or lost ranks."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    while os.getppid() == parent.pid:
        time.sleep(_PARENT_SECONDS)
    os._exit(1)
