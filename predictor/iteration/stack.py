"""What a training stack tells about itself: the launches of its parts, and what it overlaps.

One file a stack under ``implementations`` makes one :class:`Stack`. Its functions name launches for
one layer, the embedding and the head; chunks, stages, schedules, gradient buckets, pricing and the
timeline are the same for all stacks and live elsewhere.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Literal

from predictor.case import Model, Plan
from predictor.iteration.launches import HostWork, Launch, Program, Step
from predictor.iteration.layer import Layer
from predictor.iteration.memory import Memory
from predictor.iteration.placement import layers_of_chunks
from predictor.iteration.step import Stage, StepShape
from predictor.operators import Attention, Collective, Host
from predictor.values import frozen

COLLECTIVE_CALL: Final = Host(stack="torch.distributed", quantity="collective")
"""A collective that the compute stream waits for: PyTorch's side and NCCL's."""

Sizes = tuple[float, ...]

MODULE_LAUNCHES: Final = {"forward": 38, "backward": 79}
"""Kernels that the measured eager Llama layer launches (grouped queries; transformers 5.17)."""


def module_host(phase: str, steps: Sequence[Step]) -> HostWork:
    """Host work of a stack built of PyTorch modules and autograd functions."""
    return module_launches(phase, sum(s.kernels for s in steps if isinstance(s, Launch)))


def module_launches(phase: str, kernels: float) -> HostWork:
    """Host work of kernels that modules launch.

    Queueing a kernel from a module costs two to three times what a bare call does: Python, the
    dispatcher, autograd. What it costs here is the measured eager Llama layer's host time a launch.
    """
    layer = Host(stack="hf-eager", block="llama", phase=phase, quantity="layer")
    return ((layer, kernels / MODULE_LAUNCHES[phase]),)


def called(steps: Sequence[Step]) -> HostWork:
    """Host work of the collectives among some steps, where a layer's own was measured without."""
    calls = sum(
        isinstance(step, Launch) and isinstance(step.operator, Collective) for step in steps
    )
    return ((COLLECTIVE_CALL, calls),) if calls else ()


def flash(call: Attention) -> Attention:
    """The same attention call by FlashAttention-2, which stacks before 2025 and A100s use."""
    return replace(call, impl="flash")


def flashed(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Steps with all attention by FlashAttention-2."""
    return tuple(
        replace(step, operator=flash(step.operator))
        if isinstance(step, Launch) and isinstance(step.operator, Attention)
        else step
        for step in steps
    )


@frozen(kw_only=True)
class Part:
    """One piece of the model: a layer, the embedding or the head with the loss.

    Attributes:
        forward: What its forward pass launches.
        backward: What its backward pass launches.
        entry: What the backward pass begins with, before a replay: parameters that arrive.
        replay: What full recomputation launches before the backward pass.
        forward_host: Host work of the forward pass; None: a bare launch for every kernel.
        backward_host: Host work of the backward pass.
        replay_host: Host work of the replay.
        launch_seconds: Host seconds of a launch, where the stack's host cannot be measured.
        call_seconds: Host seconds that a collective waits beyond being queued.
        parameters: Parameters whose gradients the backward pass makes, routed experts apart.
        expert_parameters: Parameters of routed experts.
    """

    forward: tuple[Step, ...]
    backward: tuple[Step, ...]
    entry: tuple[Step, ...] = ()
    replay: tuple[Step, ...] = ()
    forward_host: HostWork | None = None
    backward_host: HostWork | None = None
    replay_host: HostWork | None = None
    launch_seconds: float = 0.0
    call_seconds: float = 0.0
    parameters: int = 0
    expert_parameters: int = 0


@frozen(kw_only=True)
class Replicas:
    """How a stage's replicas agree on gradients and share parameters.

    A stack that names gathers and reductions layer by layer (FSDP) leaves this at its defaults.

    Attributes:
        reduce: Collective of the gradients; None: the replicas send nothing here.
        gradient_bytes: Bytes a parameter that the reduction sends.
        bucket_parameters: A reduction leaves as soon as so many gradients are ready; None: one
            reduction when the last backward pass of the chunk has ended.
        overlap_reduce: Reductions run beside the backward pass of the last micro-batch, else
            after all of it.
        gather_bytes: Bytes a parameter that ranks gather after the step; 0: nothing.
        owner_parameters: A rank owns tensors of so many parameters and sends them to all others,
            owner after owner; None: each owns a share of all, and one gather makes them whole.
        overlap_gather: Gathers run beside the first forward pass, one bucket ahead.
        aligned_gather: A chunk's gather leaves one chunk ahead, the first chunk's on all stages
            together once they have stepped; else when the chunk's first micro-batch has come.
    """

    reduce: Literal["all_reduce", "reduce_scatter"] | None = None
    gradient_bytes: float = 4.0
    bucket_parameters: int | None = None
    overlap_reduce: bool = False
    gather_bytes: float = 0.0
    owner_parameters: int | None = None
    overlap_gather: bool = False
    aligned_gather: bool = False


def no_replicas(stage: Stage) -> Replicas:
    """Nothing to agree on."""
    del stage
    return Replicas()


def no_program(stage: Stage) -> Program:
    """Nothing to run."""
    del stage
    return ()


def residual_bytes(shape: StepShape) -> float:
    """The message between stages: the residual stream, or a tensor rank's share of it."""
    return shape.activation_bytes / shape.sequence_shard


def no_announcements(shape: StepShape) -> tuple[Sizes, Sizes]:
    """Shapes are known to both ends."""
    del shape
    return (), ()


@frozen(kw_only=True)
class Stack:
    """A training stack.

    Attributes:
        name: What a case says in ``implementation``.
        description: One line, with the versions that were read.
        parallel: Whether it runs on more than one GPU.
        compared: Steps measured for this project stand behind the model; its interval is narrower.
        knows: Of ``adapters``, ``experts``, ``latent`` attention, ``windows``, ``context``
            parallelism, ``alibi``, ``fp16`` and several ``backends`` of attention, what its layers
            may have.
        vocab_multiple: A rank's share of the vocabulary is padded to a multiple of this.
        layers: Layers of every chunk, in the order in which a micro-batch visits them.
        layer: The launches of one layer.
        embedding: Those of the input table.
        head: Those of the final norm, the logits and the loss.
        accumulate: What every micro-batch after the first adds to the backward pass.
        replicas: How replicas agree.
        reduced: What runs once gradients are summed and before the ranks agree on their norm.
        optimizer: The step.
        message_bytes: What a stage sends to the next for one micro-batch.
        announcements: Bytes of the messages that go before it, down the pipeline and up.
        message_wait: Seconds that sending in one direction takes beyond its messages.
        overlap_p2p: Whether transfers between stages run beside computation; else both ends stop
            for them, and the host waits for their end.
        selective_blocks: Share of a chunk's layers that selective recomputation runs again whole;
            elsewhere the word stands for a part of every layer.
        agrees: Whether all stages wait for the gradients' norm before they step; a stack that
            checks it afterwards (zero bubble's post-validation) lets a stage go on alone.
        memory: Peak memory of a rank of a stage that keeps so many micro-batches in flight, one
            number for each of its chunks.
    """

    name: str
    description: str
    parallel: bool
    compared: bool
    knows: frozenset[str] = frozenset()
    layers: Callable[[Model, Plan], tuple[int, ...]] = layers_of_chunks
    layer: Callable[[StepShape, Layer], Part]
    embedding: Callable[[StepShape], Part]
    head: Callable[[StepShape], Part]
    accumulate: Callable[[Stage], Program] = no_program
    replicas: Callable[[Stage], Replicas] = no_replicas
    reduced: Callable[[Stage], Program] = no_program
    optimizer: Callable[[Stage], Program]
    message_bytes: Callable[[StepShape], float] = residual_bytes
    announcements: Callable[[StepShape], tuple[Sizes, Sizes]] = no_announcements
    message_wait: Callable[[StepShape], float] = lambda _: 0.0
    overlap_p2p: Callable[[StepShape], bool] = lambda shape: bool(shape.overlap_p2p)
    selective_blocks: float = 0.0
    agrees: Callable[[StepShape], bool] = lambda _: True
    memory: Callable[[Stage, tuple[int, ...]], Memory]
    vocab_multiple: int = 1
