"""``deepspeed``: Megatron-LM's layers under ZeRO-3, as PTD-P's authors ran it (2021, table 2).

Source: the first releases with ZeRO-3 (DeepSpeed 0.3.13 to 0.3.16, March to May 2021),
``runtime/zero/stage3.py`` and ``runtime/zero/partition_parameters.py``:

* Before a module computes, in every pass, its weight is fetched and the whole device is waited for
  (``fetch_sub_module``, ``_synchronize_communication``): nothing is queued ahead of it.
* Then the next module's weight may be gathered beside the computation, while fewer than a billion
  parameters are whole (``prefetch_next_sub_modules``, ``stage3_max_live_parameters``). A weight
  that is used again within as many is kept (``stage3_max_reuse_distance``): the last of a layer
  that is replayed. Vectors stay whole (``param_persistence_threshold``).
* A gather fills a list of one slice a rank (``_allgather_param``), a reduction empties one
  (``_reduce_scatter_gradient``). For lists PyTorch's NCCL group copies slice by slice between them
  and one buffer, each a launch (torch 1.7 to 1.9, ``ProcessGroupNCCL.cpp``): the host's work grows
  with the ranks, and the GPU waits for it.

A slice is a view from Python and a copy's launch from C++: what a bare PyTorch call was measured to
cost, on a host of its day. States are those of the rank's own share.
"""

from collections.abc import Iterator, Sequence

from predictor.dtypes import BF16_BYTES
from predictor.iteration.implementations import megatron_blocks as blocks
from predictor.iteration.implementations import megatron_steps as steps
from predictor.iteration.implementations.megatron_blocks import LAUNCH_SECONDS, Lineage
from predictor.iteration.launches import BARE_LAUNCH, Launch, Step, Stream, Tape
from predictor.iteration.layer import Layer
from predictor.iteration.megatron_memory import unfused_memory
from predictor.iteration.memory import Memory, finished
from predictor.iteration.stack import Part, Stack
from predictor.iteration.step import Stage, StepShape
from predictor.operators import Collective, Gemm
from predictor.operators.gemm import GemmKind

LINEAGE = Lineage(fused_wgrad=False, main_gradients=False, overlap_dgrad=False)
LIVE_PARAMETERS = 1_000_000_000
"""Fewer whole parameters than this and the next weight is fetched ahead; a weight that is used
again within as many is kept (defaults of ``runtime/zero/constants.py``)."""

OLDER_HOST = 1.7
"""What a call costs a host beside A100s over what it costs one beside H100s (plausible 1.2 to 2.0):
``megatron_blocks.LAUNCH_SECONDS`` over the 26 to 32 µs of a module's launch there."""

LAYERS_GATHERED = 2
"""The layer at work and the one that is fetched."""


def _sliced(
    tape: Tape, shape: StepShape, size: int, sent: Collective | None, stream: Stream
) -> None:
    """A collective over a list of slices, with the passes over its buffer and the copies."""
    if sent is None:
        return
    ranks = shape.data.ranks
    slices = ((BARE_LAUNCH, OLDER_HOST * ranks),)
    send = Launch(sent, stream=stream)
    copies = Launch(steps.flat("copy", size), kernels=ranks, stream=stream)
    if stream == "gather":
        tape.run(steps.flat("zero", size))
        tape.section(slices, (send, copies))
    else:
        tape.run(steps.flat("scale", size))
        tape.section(slices, (copies, send))


def _gather(tape: Tape, shape: StepShape, size: int) -> None:
    _sliced(tape, shape, size, shape.data.all_gather(BF16_BYTES * size), "gather")


def _fetch(tape: Tape, shape: StepShape, sizes: tuple[int, int, int]) -> None:
    """The module's weight arrives, nothing else is under way, and the next one's leaves.

    Args:
        tape: Of the pass.
        shape: Of the step.
        sizes: Parameters of the module before, of this one, and of the one that is fetched next.
    """
    before, size, following = sizes
    tape.wait("data")
    if before >= LIVE_PARAMETERS:
        tape.wait("gather")
        tape.sync()
        _gather(tape, shape, size)
    tape.wait("gather")
    tape.sync()
    if size < LIVE_PARAMETERS:
        _gather(tape, shape, following)


def _fetched(
    shape: StepShape,
    compute: Sequence[Step],
    kind: GemmKind,
    order: Sequence[tuple[int, int]],
    around: tuple[int, int],
) -> tuple[Step, ...]:
    """A pass that fetches the weights of its products, in the order in which they come.

    Args:
        shape: Of the step.
        compute: The pass without fetches.
        kind: Of the products that come first of their module.
        order: Outputs and inputs of the weights that are fetched.
        around: Parameters of the weight fetched before the first, and behind the last.
    """
    if shape.sharding != "parameters":
        return tuple(compute)
    tape, pending = Tape(), _windows(order, around)
    sought = next(pending, None)
    for step in compute:
        if sought and _is(step, kind, sought[0]):
            _fetch(tape, shape, sought[1])
            sought = next(pending, None)
        tape.extend((step,))
    return tape.steps()


def _windows(
    order: Sequence[tuple[int, int]], around: tuple[int, int]
) -> Iterator[tuple[tuple[int, int], tuple[int, int, int]]]:
    """Every weight, with the parameters of those before, of itself and of those behind."""
    sizes = [around[0], *(n * k for n, k in order), around[1]]
    for place, weight in enumerate(order):
        yield weight, (sizes[place], sizes[place + 1], sizes[place + 2])


def _is(step: Step, kind: GemmKind, weight: tuple[int, int]) -> bool:
    if not isinstance(step, Launch) or not isinstance(step.operator, Gemm):
        return False
    return step.operator.kind == kind and (step.operator.n, step.operator.k) == weight


def _scattered(
    shape: StepShape, compute: Sequence[Step], weights: Sequence[tuple[int, int]]
) -> tuple[Step, ...]:
    """A backward pass from which each weight's gradient leaves when it is there."""
    tape = Tape()
    for step in compute:
        tape.extend((step,))
        for n, k in weights:
            if _is(step, "wgrad", (n, k)):
                _send(tape, shape, n * k)
    return tape.steps()


def _send(tape: Tape, shape: StepShape, size: int) -> None:
    """Gradients of so many parameters leave."""
    split = shape.sharding in {"parameters", "gradients"}
    sent = (shape.data.reduce_scatter if split else shape.data.all_reduce)(BF16_BYTES * size)
    if shape.sharding == "parameters":
        _sliced(tape, shape, size, sent, "data")
    else:
        tape.start(sent, "data")


def layer_part(shape: StepShape, layer: Layer) -> Part:
    """One layer whose weights come from all ranks."""
    part = blocks.layer_part(shape, layer, LINEAGE)
    h, f, q = layer.hidden, layer.ffn, layer.q
    order = ((q + 2 * layer.kv, h), (h, q), (f, h), (h, f))
    first, last = order[0][0] * order[0][1], h * f
    kept = 1 if last < LIVE_PARAMETERS else 0  # the last, since the layer was replayed
    back = list(reversed(order))[kept:]
    backward = _fetched(shape, part.backward, "dgrad", back, (last, first))
    return Part(
        forward=_fetched(shape, part.forward, "forward", order, (last, first)),
        backward=_scattered(shape, backward, order),
        replay=_fetched(shape, part.replay, "forward", order, (first, back[0][0] * back[0][1])),
        launch_seconds=LAUNCH_SECONDS,
        parameters=part.parameters,
    )


def _whole(shape: StepShape, part: Part, size: int) -> Part:
    """A piece of one weight, fetched by itself."""

    def fetched(compute: tuple[Step, ...]) -> Tape:
        tape = Tape()
        if size and shape.sharding == "parameters":
            tape.sync()
            _gather(tape, shape, size)
            tape.wait("gather")
            tape.sync()
        tape.extend(compute)
        return tape

    backward = fetched(part.backward)
    if size:
        _send(backward, shape, size)
    return Part(
        forward=fetched(part.forward).steps(),
        backward=backward.steps(),
        launch_seconds=LAUNCH_SECONDS,
        parameters=part.parameters,
    )


def embedding_part(shape: StepShape) -> Part:
    """The input table, gathered whole."""
    part = blocks.embedding_part(shape, LINEAGE)
    return _whole(shape, part, shape.vocab * shape.hidden)


def head_part(shape: StepShape) -> Part:
    """The head, gathered whole; a tied table's gradient leaves with the input's."""
    part = blocks.head_part(shape, LINEAGE)
    return _whole(shape, part, part.parameters)


def memory(stage: Stage, in_flight: tuple[int, ...]) -> Memory:
    """Weights and gradients of the rank's share, and two layers' whole weights."""
    shape = stage.shape
    parts = dict(unfused_memory(stage, in_flight).parts)
    if shape.sharding == "parameters":
        whole = LAYERS_GATHERED * shape.layer.parameters
        parts["parameters"] = BF16_BYTES * (stage.owned_parameters + whole)
    if shape.sharding in {"parameters", "gradients"}:
        parts["gradients"] = BF16_BYTES * (stage.owned_parameters + shape.layer.parameters)
    return finished(parts, distributed=shape.world.ranks > 1)


STACK = Stack(
    name="deepspeed",
    description="DeepSpeed ZeRO around Megatron-LM's layers of 2021",
    parallel=True,
    compared=False,
    knows=frozenset({"fp16"}),
    vocab_multiple=blocks.VOCABULARY_MULTIPLE,
    layer=layer_part,
    embedding=embedding_part,
    head=head_part,
    reduced=steps.reduced,
    optimizer=steps.optimizer,
    message_bytes=steps.scattered_bytes,
    memory=memory,
)
