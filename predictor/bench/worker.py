"""The worker process: holds one device, prepares workloads and samples them on request.

The parent sends ``(request, arguments)`` through a pipe and gets an :class:`Answer` or a
:class:`Failure` for each. A sticky fault is answered, then ends this process, because a CUDA
context does not recover from it.
"""

import gc
import importlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Final

from predictor.bench.host_rounds import Group, HostWorkload, Quantities
from predictor.bench.messages import STATUS_OF_ERROR, Answer, Failure, Hello, Start, describe
from predictor.bench.points import Point
from predictor.bench.rounds import RoundResult
from predictor.operators import Host

_RUNTIME_SAMPLES: Final = 15
_PARENT_SECONDS: Final = 1.0


class Bench:
    """The device and the workloads prepared on it."""

    def __init__(self, start: Start) -> None:
        """Open the device."""
        self._native = importlib.import_module(start.native_module)
        self._kind = start.device
        self._device = self._native.Device(start.device, start.index, seed=start.seed)
        self._workloads: dict[int, Any] = {}
        self._torch: Any = None
        self._importing: threading.Thread | None = None
        self._runtime: Group | None = None

    def hello(self) -> Hello:
        """Describe device and libraries."""
        return Hello(
            properties=dict(self._device.properties),
            libraries={name: dict(library) for name, library in self._device.libraries.items()},
            build={**self._native.build, "file": getattr(self._native, "__file__", None)},
        )

    def foresee(self, points: Sequence[Point]) -> None:
        """Begin what of these points' preparation needs no device, beside whatever is measured."""
        native = [point for point in points if point.is_native]
        self._device.foresee([(point.operator.name, point.arguments) for point in native])
        if len(native) < len(points) and self._kind != "mock" and self._importing is None:
            self._importing = threading.Thread(target=_try_to_import_torch, daemon=True)
            self._importing.start()

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

    def requests(self) -> dict[str, Callable[..., Any]]:
        """What the parent may ask for."""
        return {
            "foresee": self.foresee,
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
            if self._importing is not None:
                self._importing.join()
            self._torch = _import_torch().TorchBench(self._device)
            gc.freeze()  # what an import leaves is no garbage: collecting need not walk it again
        return self._torch

    def _failure(self, error: Exception) -> Failure:
        status, sticky = STATUS_OF_ERROR.get(type(error).__name__, ("crash", False))
        if not sticky and self._kind != "mock":
            sticky = not self._healthy()
        return Failure(status=status, message=describe(error), sticky=sticky)

    def _healthy(self) -> bool:
        try:
            self._device.synchronize()
        except Exception:  # noqa: BLE001 - any error here means that the device is lost
            return False
        return self._torch is None or bool(self._torch.healthy())


def _import_torch() -> Any:  # noqa: ANN401 - a module
    """The bench of PyTorch's kernels; the import takes seconds."""
    # Compile in this process: a pool of compilers would outlive it.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    return importlib.import_module("predictor.bench.torch_bench")


def _try_to_import_torch() -> None:
    with suppress(Exception):  # told by whoever needs it
        _import_torch()


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
