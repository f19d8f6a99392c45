"""The segments of a model's parts as a stack has them: named once, shared by all that run them.

Nothing runs beside the first forward and the last backward pass of a step, where other passes run
beside one of another micro-batch, which hides their experts' exchanges (Megatron-Core 0.18,
``combined_1f1b.py``).
"""

from dataclasses import replace
from functools import lru_cache

from predictor.iteration.launches import Launch, Segment
from predictor.iteration.layer import Layer
from predictor.iteration.stack import Part, Stack
from predictor.iteration.step import StepShape
from predictor.values import frozen


@frozen
class Piece:
    """The segments of one part; ``weight`` matters where the backward pass is split."""

    forward: Segment
    backward: Segment
    weight: Segment


class Parts:
    """Segments of the parts of one shape."""

    def __init__(self, stack: Stack, shape: StepShape, *, split_backward: bool) -> None:
        """Name the stack, the sizes, and whether weight gradients are deferred."""
        self._stack, self._shape, self._split = stack, shape, split_backward
        self._lone = _apart(shape)
        self._pieces: dict[tuple[object, ...], Piece] = {}
        self._layers: dict[tuple[Layer, bool], Part] = {}

    @property
    def apart(self) -> bool:
        """Whether the first forward and the last backward pass launch something else."""
        return self._lone is not None

    def piece(
        self,
        label: str,
        layer: Layer | None = None,
        *,
        replayed: bool = False,
        lone: bool = False,
    ) -> Piece:
        """The segments of one part: ``layer``, ``embedding`` or ``head and loss``.

        ``lone``: as the first forward and the last backward pass of a step have them.
        """
        key = label, layer, replayed, lone
        if key not in self._pieces:
            part = self._part(label, layer, lone=lone)
            self._pieces[key] = self._segments(label, part, replayed=replayed)
        return self._pieces[key]

    def _segments(self, label: str, part: Part, *, replayed: bool) -> Piece:
        steps, host = part.backward, part.backward_host
        name = f"{label} backward"
        if replayed:
            steps = (*part.replay, *steps)
            name = f"{label} replay and backward"
            if host is not None:
                host = (*(part.replay_host or ()), *host)
        steps = (*part.entry, *steps)
        forward = Segment(
            label=f"{label} forward" if label == "layer" else label,
            phase="forward",
            steps=part.forward,
            host=part.forward_host,
            launch_seconds=part.launch_seconds,
            call_seconds=part.call_seconds,
            parameters=part.parameters,
            expert_parameters=part.expert_parameters,
        )
        backward = replace(forward, label=name, phase="backward", steps=steps, host=host)
        if not self._split:
            return Piece(forward, backward, backward)
        deferred = tuple(s for s in steps if isinstance(s, Launch) and s.deferrable)
        kept = tuple(s for s in steps if not (isinstance(s, Launch) and s.deferrable))
        weight = replace(backward, label=f"{label} weight", steps=deferred, host=None)
        return Piece(forward, replace(backward, steps=kept), weight)

    def _part(self, label: str, layer: Layer | None, *, lone: bool) -> Part:
        stack = self._stack
        if layer is None:
            return (stack.embedding if label == "embedding" else stack.head)(self._shape)
        apart = self._lone if lone and layer.experts is not None else None
        key = layer, apart is not None
        if key not in self._layers:
            self._layers[key] = stack.layer(apart or self._shape, layer)
        return self._layers[key]


@lru_cache(maxsize=32)
def parts_of(stack: Stack, shape: StepShape, *, split_backward: bool) -> Parts:
    """Those that any plan of this shape shares (:meth:`StepShape.of_parts`)."""
    return Parts(stack, shape, split_backward=split_backward)


def _apart(shape: StepShape) -> StepShape | None:
    """Sizes of a pass that waits for its experts' exchanges, where others hide them; else None."""
    experts = shape.experts
    if experts is None or experts.overlap is not True:
        return None
    return replace(shape, experts=replace(experts, lone=True))
