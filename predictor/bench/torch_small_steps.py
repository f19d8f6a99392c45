"""Training steps of small random models, on the host's clock.

Small models keep the GPU far ahead, so the time until a phase's calls return is the host's alone.
Two depths give the cost a layer (slope) and a step (intercept); for the optimizer, which walks
tensors, the slope is a tensor's. A round is a median over steps, each ending in a synchronisation;
a phase's own calls end before it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import torch

from predictor.bench.host_rounds import Quantities

STEPS: Final = 15
WARMUP_STEPS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Phases:
    """Median host seconds of a step's phases for one depth.

    Attributes:
        layers: Depth of the model.
        tensors: Parameter tensors.
        forward: With the loss.
        backward: Until the engine has queued everything.
        optimizer: Fused step, and forgetting the gradients.
        waiting: What the GPU needed after that.
    """

    layers: int
    tensors: int
    forward: float
    backward: float
    optimizer: float
    waiting: float


def layer_quantities(measured: list[Phases]) -> Quantities:
    """Slopes and intercepts from two depths.

    Raises:
        RuntimeError: The GPU was the slower one, so the host's time is not what was measured.
    """
    shallow, deep = measured
    for each in measured:
        if each.waiting > 0.5 * (each.forward + each.backward + each.optimizer):
            raise RuntimeError(f"the GPU is the slower one: {each}")
    values: Quantities = {}
    for phase, unit, more in (
        ("forward", "layer", deep.layers - shallow.layers),
        ("backward", "layer", deep.layers - shallow.layers),
        ("optimizer", "tensor", deep.tensors - shallow.tensors),
    ):
        slope = (getattr(deep, phase) - getattr(shallow, phase)) / more
        start = shallow.layers if unit == "layer" else shallow.tensors
        values[phase, unit] = slope
        values[phase, "fixed"] = getattr(shallow, phase) - slope * start
    return values


@dataclass(frozen=True, slots=True)
class Workings:
    """What a step of a small model is made of.

    Attributes:
        layers: Depth of the model.
        tensors: Parameter tensors.
        forward: Returns the loss.
        optimize: Steps the optimizer and forgets the gradients.
    """

    layers: int
    tensors: int
    forward: Callable[[], Any]
    optimize: Callable[[], None]


class Steps:
    """A small model that takes training steps."""

    def __init__(self, workings: Workings, device: str) -> None:
        """Take warm-up steps, which compile what is to be compiled."""
        self._workings = workings
        self._device = device
        for _ in range(WARMUP_STEPS):
            self._step()

    def measured(self) -> Phases:
        """Medians over steps."""
        steps = [self._step() for _ in range(STEPS)]
        forward, backward, optimizer, waiting = (median(part) for part in zip(*steps, strict=True))
        return Phases(
            layers=self._workings.layers,
            tensors=self._workings.tensors,
            forward=forward,
            backward=backward,
            optimizer=optimizer,
            waiting=waiting,
        )

    def _step(self) -> tuple[float, float, float, float]:
        clock = time.perf_counter
        begin = clock()
        loss = self._workings.forward()
        forward = clock()
        loss.backward()
        backward = clock()
        self._workings.optimize()
        optimizer = clock()
        synchronize(self._device)
        return forward - begin, backward - forward, optimizer - backward, clock() - optimizer


def synchronize(device: str) -> None:
    """Wait for the GPU, where there is one."""
    if device == "cuda":
        torch.cuda.synchronize()
