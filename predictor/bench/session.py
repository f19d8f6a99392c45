"""A worker kept alive: requests about points, restarts after a loss, drift controls."""

import time
from collections.abc import Callable, Sequence
from typing import Final

from predictor.bench.points import IDLE_SECONDS, Point
from predictor.bench.process import RequestFailed, Worker
from predictor.bench.recorder import Recorder
from predictor.bench.rounds import RoundResult
from predictor.bench.telemetry import Telemetry
from predictor.errors import BenchError
from predictor.operators import Gemm, MemoryBound

MAX_RESTARTS: Final = 12
CONTROL_EVERY_ROUNDS: Final = 64
# A load shorter than this warms nothing that an idle time would have to cool.
_SHORT_LOAD_SECONDS: Final = 0.01
# A library may load its kernels first; PyTorch is imported first; a model is compiled first.
_NATIVE_TIMEOUT_SECONDS: Final = 40.0
_TORCH_TIMEOUT_SECONDS: Final = 90.0
_HOST_TIMEOUT_SECONDS: Final = 240.0
_SAMPLE_MARGIN_SECONDS: Final = 10.0

CONTROLS: Final = {
    -1: Point(operator=Gemm(m=4096, n=4096, k=4096)),
    -2: Point(operator=MemoryBound(kernel="copy", rows=32768, cols=2048)),
}


class DeviceLost(Exception):  # noqa: N818 - an ending, not an error of the caller
    """No worker can be kept alive; what was measured is kept."""


class Session:
    """The worker as the runner sees it: it may die, but there is always one."""

    def __init__(
        self,
        spawn: Callable[[], Worker],
        *,
        recorder: Recorder,
        telemetry: Telemetry | None,
        say: Callable[[str], None],
        raw: Callable[[Point, Sequence[float]], None] | None = None,
    ) -> None:
        """Start the first worker.

        Args:
            spawn: Starts a worker; raises BenchError if the device cannot be opened.
            recorder: Keeps the controls' rounds.
            telemetry: None on a virtual clock, where idle time is needless too.
            say: Prints words for the user.
            raw: Takes every sample, if they are wanted.

        Attributes:
            loaded_seconds: Spent inside rounds so far, on the host's clock.
        """
        self._spawn = spawn
        self._recorder = recorder
        self._telemetry = telemetry
        self._say = say
        self._raw = raw
        self._restarts = 0
        self._rounds_to_control = 0
        self._controls: set[int] = set()
        self._idle_until_seconds = 0.0
        self._counted_until_seconds = 0.0
        self.loaded_seconds = 0.0
        self._worker = spawn()

    def close(self) -> None:
        """End the worker."""
        self._worker.close()

    def foresee(self, points: Sequence[Point]) -> None:
        """Begin what can be done ahead of preparing these points; raises RequestFailed."""
        self._worker.ask("foresee", list(points), timeout_seconds=_NATIVE_TIMEOUT_SECONDS)

    def prepare(self, key: int, point: Point) -> None:
        """Build a workload; raises RequestFailed."""
        self._worker.ask("prepare", key, point, timeout_seconds=_prepare_timeout(point))

    def sample(self, key: int, point: Point) -> RoundResult:
        """Measure one round, no sooner than an idle time after the last load."""
        policy = point.policy
        limit = policy["timeout_seconds"] + _SAMPLE_MARGIN_SECONDS
        if point.impl.startswith("host"):
            limit = _HOST_TIMEOUT_SECONDS
        result: RoundResult
        result, raw = self._worker.ask(
            "sample",
            key,
            policy,
            self._idle_until_seconds,
            raw=self._raw is not None,
            timeout_seconds=limit,
        )
        if self._raw is not None and raw:
            self._raw(point, raw)
        if self._telemetry is None:
            return result
        loaded = max(result.end_seconds - result.begin_seconds, point.sustained_seconds, 0.0)
        if result.end_seconds > self._counted_until_seconds:  # quantities may share a round
            self.loaded_seconds += loaded
            self._counted_until_seconds = result.end_seconds
        if loaded >= _SHORT_LOAD_SECONDS:
            # Whatever the worker's clock says: an idle time is never longer than that from now.
            ended = min(result.end_seconds, time.monotonic())
            self._idle_until_seconds = ended + IDLE_SECONDS
        seen = self._telemetry.window(result.begin_seconds, result.end_seconds)
        return result.observed(
            sm_clock_hz=seen.sm_clock_hz, watts=seen.watts, event_reasons=seen.event_reasons
        )

    def check(self, key: int) -> float:
        """Relative error of a workload's result; raises RequestFailed."""
        error = self._worker.ask("check", key, 1, timeout_seconds=_TORCH_TIMEOUT_SECONDS)
        return float(error)

    def release(self, keys: list[int]) -> None:
        """Give workloads' memory back; raises RequestFailed."""
        self._worker.ask("release", keys, timeout_seconds=_TORCH_TIMEOUT_SECONDS)

    def libraries(self) -> dict[str, dict[str, str]]:
        """Libraries that the worker has opened by now; empty if it is gone."""
        try:
            return dict(self._worker.ask("libraries", timeout_seconds=1.0))
        except RequestFailed:
            return {}

    def restart(self) -> None:
        """Replace a lost worker.

        Raises:
            DeviceLost: It was lost too often, or the device cannot be opened again.
        """
        self._replace()
        self.prepare_controls()

    def prepare_controls(self) -> None:
        """Build the reference GEMM and copy; without them there is no drift control."""
        self._controls.clear()
        for key, point in CONTROLS.items():
            try:
                self.prepare(key, point)
                self._controls.add(key)
            except RequestFailed as failure:
                self._say(f"no drift control by {point.operator.name}: {failure}")
                if failure.lost:
                    self._controls.clear()
                    self._replace()
                    return

    def control(self) -> None:
        """Every so many calls, sample the reference GEMM and copy; raises RequestFailed."""
        self._rounds_to_control -= 1
        if self._rounds_to_control > 0:
            return
        self._rounds_to_control = CONTROL_EVERY_ROUNDS
        for key in sorted(self._controls, reverse=True):
            try:
                result = self.sample(key, CONTROLS[key])
            except RequestFailed as failure:
                self._controls.discard(key)
                if failure.lost:
                    raise
                continue
            self._recorder.keep_control(CONTROLS[key].operator.name, result)

    def _replace(self) -> None:
        self._restarts += 1
        if self._restarts > MAX_RESTARTS:
            raise DeviceLost(f"the worker was lost {self._restarts} times")
        try:
            self._worker = self._spawn()
        except BenchError as error:
            raise DeviceLost(f"the device does not come back: {error}") from error


def _prepare_timeout(point: Point) -> float:
    if point.impl.startswith("host"):
        return _HOST_TIMEOUT_SECONDS
    return _NATIVE_TIMEOUT_SECONDS if point.is_native else _TORCH_TIMEOUT_SECONDS
