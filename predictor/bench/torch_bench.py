"""PyTorch's own kernels as workloads: captured in CUDA graphs on the native device's stream.

What an eager stack launches is PyTorch's kernel of each operator, so it is measured by calling the
operator as the model does, on tensors with the model's shapes and strides, and replaying a graph of
many launches under the same sampler as every native workload.
"""

import gc
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import ceil, inf
from typing import Any, Final

import torch

from predictor.bench import (
    torch_attention,
    torch_grouped_gemm,
    torch_inductor,
    torch_kernels,
    torch_optimizer,
)
from predictor.bench.points import Point
from predictor.bench.torch_fill import Fill, Recipe
from predictor.bench.torch_host import HostCosts
from predictor.operators import Attention, GroupedGemm, Host, MemoryBound, Optimizer

_REPLAY_SECONDS: Final = 1e-3
_LONGEST_REPLAY_SECONDS: Final = 5e-3
_MAX_LAUNCHES: Final = 1024
# One buffer set of this size is cold by itself: a launch streams over it once.
_ALONE_BYTES: Final = 2e9


class TorchBench:
    """Builds workloads from PyTorch operators."""

    def __init__(self, device: Any, *, where: str = "cuda") -> None:  # noqa: ANN401
        """Share the stream of ``device``, the native extension's; tensors live on ``where``."""
        self._device = device
        self._l2_bytes = float(device.properties["l2_bytes"])
        self._stream = torch.cuda.ExternalStream(device.stream_handle)
        self._fill = Fill(device=where)
        self._counter = torch.zeros(1, device=where)
        self._used = False
        self._host = HostCosts(device=where)

    def prepare(self, point: Point) -> Any:  # noqa: ANN401 - a native Workload or a HostWorkload
        """Build a point's workload; errors of PyTorch pass through."""
        self._used = True
        if isinstance(point.operator, Host):
            return self._host.prepare(point.operator)
        with torch.no_grad(), torch.cuda.stream(self._stream):
            captured = self._captured(recipe_of(self._fill, point), point)
        return self._device.prepare_callable(
            captured.launch,
            launches_per_call=captured.launches,
            seconds_hint=captured.launches * point.expected_seconds,
        )

    def release(self) -> None:
        """Give memory back to the device after workloads are forgotten."""
        if self._used:
            gc.collect()
            torch.cuda.empty_cache()
        self._used = False

    def healthy(self) -> bool:
        """Whether graphs can still be captured: a failed capture may leave PyTorch unable to."""
        try:
            with torch.no_grad(), torch.cuda.stream(self._stream):
                self._capture(lambda _: self._counter.add_(1.0), launches=1).replay()
            self._stream.synchronize()
        except Exception:  # noqa: BLE001 - any error means that it is not
            return False
        return True

    def _captured(self, recipe: Recipe, point: Point) -> "Captured":
        sets = buffer_sets(point, self._l2_bytes)
        inputs = [recipe.make() for _ in range(sets)]
        recipe.call(*inputs[0])  # loads the kernel: a capture must not
        self._stream.synchronize()
        launches = launches_of(point, sets, seconds=self._seconds(recipe, inputs[0]))
        # Outputs that stay alive get memory of their own, as cold launches need; when none does,
        # the pool hands the same block to each launch.
        outputs: deque[object] = deque(maxlen=sets if point.cache == "cold" else 0)
        graph = self._capture(
            lambda launch: outputs.append(recipe.call(*inputs[launch % sets])), launches=launches
        )
        return Captured(graph, self._stream, launches, keeps=(recipe, inputs))

    def _seconds(self, recipe: Recipe, inputs: tuple[Any, ...]) -> float:
        """Of a launch, with what the host adds to it."""
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record(self._stream)
        recipe.call(*inputs)
        end.record(self._stream)
        self._stream.synchronize()
        return 1e-3 * float(begin.elapsed_time(end))

    def _capture(self, work: Callable[[int], object], *, launches: int) -> Any:  # noqa: ANN401
        graph = torch.cuda.CUDAGraph()
        graph.capture_begin(capture_error_mode="thread_local")
        try:
            for launch in range(launches):
                work(launch)
        except BaseException:
            with suppress(RuntimeError):
                graph.capture_end()
            raise
        graph.capture_end()
        return graph


@dataclass(frozen=True)
class Captured:
    """A graph of launches with the buffers that it reads.

    Attributes:
        graph: To be replayed.
        stream: Where.
        launches: In one replay.
        keeps: What owns those buffers: inputs, and the recipe, which may hold lengths or offsets.
    """

    graph: Any
    stream: Any
    launches: int
    keeps: object

    def launch(self) -> None:
        """Enqueue one replay."""
        with torch.cuda.stream(self.stream):
            self.graph.replay()


def recipe_of(fill: Fill, point: Point) -> Recipe:
    """How to make one buffer set of a point and launch over it.

    Raises:
        NotImplementedError: PyTorch has no such kernel.
    """
    operator = point.operator
    if isinstance(operator, Attention):
        return torch_attention.recipe(fill, operator)
    if isinstance(operator, GroupedGemm):
        return torch_grouped_gemm.recipe(fill, operator)
    if isinstance(operator, Optimizer):
        return torch_optimizer.recipe(fill, operator)
    if isinstance(operator, MemoryBound):
        if operator.impl == "inductor":
            return torch_inductor.recipe(fill, operator)
        return torch_kernels.recipe(fill, operator)
    raise NotImplementedError(f"PyTorch does not measure {operator}")


def buffer_sets(point: Point, l2_bytes: float) -> int:
    """Buffer sets to rotate over so that no launch finds its data in L2; one if it should."""
    touched = point.operator.working_set_bytes
    if point.cache == "warm" or touched > _ALONE_BYTES:
        return 1
    return max(2, ceil(5 * l2_bytes / touched) + 1)


def launches_of(point: Point, sets: int, *, seconds: float = 0.0) -> int:
    """Launches in one graph: whole rotations, lasting about a millisecond.

    Of a kernel far slower than its bytes, which one launch of ``seconds`` has shown, fewer than a
    rotation: such a kernel waits for something else than its data.
    """
    wanted = ceil(_REPLAY_SECONDS / point.expected_seconds)
    rotations = max(1, ceil(min(wanted, _MAX_LAUNCHES) / sets))
    most = _LONGEST_REPLAY_SECONDS / seconds if seconds > 0 else inf
    return max(1, int(min(rotations * sets, most)))
