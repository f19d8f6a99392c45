"""DualPipe: two pipelines in opposite directions through the same stages.

DeepSeek-V3, arXiv:2412.19437, section 3.2.1, and github.com/deepseek-ai/DualPipe, ``dualpipe.py``.

Stage s holds the model parts s (chunk 0, micro-batches that go down) and ``p - 1 - s`` (chunk 1,
those that go up). A pass of one direction runs beside one of the other. With ``F&B`` the seconds of
a forward and a backward pass that overlap, the bubble of a stage is ``(p/2 - 1)·(F&B + B - 3W)``,
where B is the whole backward pass; less where B and W differ.

The phases, for stage s and its distance ``r`` from the nearer end (``h = p/2``, m micro-batches);
near is the direction that begins at that end, W always the oldest that is held back:

    1  2(h - r - 1)  F near
    2  r + 1         F near, F far
    3  h - r - 1     B far, W, F far
    4  m/2 - p + r + 1   F near, B far with its W, F far, B near with its W
    5  h - r - 1     B far with its W, F far, B near with its W
    6  r + 1         B far, B near; from the middle on their W are held back
    7  h - r - 1     W, B near
    8  r + 1         W
"""

from dataclasses import replace

import numpy as np

from predictor.costs.prediction import Ints
from predictor.errors import NotPredictable
from predictor.iteration.schedules.order import B, F, Order, Pass, W


def order(stages: int, micro_batches: int, chunks: int) -> Order:
    """Both directions, half of the micro-batches each.

    Raises:
        NotPredictable: An odd number of stages or micro-batches, fewer than two micro-batches a
            stage, or virtual stages.
    """
    if chunks != 1 or stages % 2 or micro_batches % 2 or micro_batches < 2 * stages:
        raise NotPredictable(
            "schedule 'dualpipe' needs an even pipeline_parallel, an even number of micro-batches, "
            f"at least twice as many, and virtual_pipeline 1; here {stages} stages, "
            f"{micro_batches} micro-batches, virtual_pipeline {chunks}"
        )
    written = [_Stage(stage, stages, micro_batches) for stage in range(stages)]
    passes = [stage.run() for stage in written]
    departs = np.concatenate(
        [stage.departs() + number * len(passes[0]) for number, stage in enumerate(written)]
    )
    down = [(stage, 0) for stage in range(stages)]
    up = [(stage, 1) for stage in reversed(range(stages))]
    half = micro_batches // 2
    order_ = Order.of(passes, [down, up], np.repeat([0, 1], half))
    return replace(order_, departs=departs)


class _Stage:
    """Writes the passes of one stage, phase by phase."""

    def __init__(self, stage: int, stages: int, micro_batches: int) -> None:
        self._half = micro_batches // 2
        self._middle = stages // 2
        self._rank = min(stage, stages - 1 - stage)
        self._near = 0 if stage < self._middle else 1
        self._main = self._half - stages + self._rank + 1
        self._next = {F: [0, 0], B: [0, 0]}
        self._held: list[tuple[int, int]] = []
        self._passes: list[Pass] = []
        self._departs: list[int] = []

    def run(self) -> list[Pass]:
        """All passes in order."""
        outer, inner = self._middle - self._rank - 1, self._rank + 1
        for _ in range(2 * outer):
            self._forward(0)
        for _ in range(inner):
            self._forward(0)
            self._forward(1)
        for _ in range(outer):
            self._backward(1, hold=True)
            self._weight()
            self._forward(1)
        for index in range(self._main):
            self._pair(0, together=index > 0 or self._rank + 1 < self._middle)
            self._pair(1)
        for _ in range(outer):
            self._backward(1, hold=False)
            self._pair(1)
        hold = False
        for index in range(inner):
            middle = index == inner // 2
            hold = hold or (middle and self._rank % 2 == 1)
            self._backward(1, hold=hold)
            hold = hold or middle
            self._backward(0, hold=hold)
        for _ in range(outer):
            self._weight()
            self._backward(0, hold=True)
        for _ in range(inner):
            self._weight()
        return self._passes

    def departs(self) -> Ints:
        """Place of the pass at whose end each pass's message leaves."""
        return np.array(self._departs, dtype=np.int64)

    def _pair(self, far: int, *, together: bool = True) -> None:
        """A forward pass of one direction beside a backward pass of the other."""
        begun = len(self._passes)
        self._forward(far)
        self._backward(1 - far, hold=False)
        if together:
            self._departs[begun:] = [len(self._passes) - 1] * (len(self._passes) - begun)

    def _forward(self, far: int) -> None:
        self._add(F, self._take(F, far))

    def _backward(self, far: int, *, hold: bool) -> None:
        taken = self._take(B, far)
        self._add(B, taken)
        self._held.append(taken)
        if not hold:
            self._weight(last=True)

    def _weight(self, *, last: bool = False) -> None:
        self._add(W, self._held.pop(-1 if last else 0))

    def _add(self, kind: int, taken: tuple[int, int]) -> None:
        self._departs.append(len(self._passes))
        self._passes.append((kind, *taken))

    def _take(self, kind: int, far: int) -> tuple[int, int]:
        """Next micro-batch of a direction, and its chunk."""
        chunk = self._near ^ far
        count = self._next[kind][chunk]
        self._next[kind][chunk] += 1
        return count + chunk * self._half, chunk
