"""``deepspeed``: Megatron-LM's layers under ZeRO-3, as PTD-P's authors ran it (2021, table 2).

Every rank gathers a layer's fp16 weights one layer ahead, matrix by matrix, again in the backward
pass, and scatters its gradients behind it (Rajbhandari et al., arXiv:1910.02054, section 7;
``runtime/zero/stage3.py``: ``overlap_comm``; vectors stay whole, ``param_persistence_threshold``).
States are those of the rank's own share.
"""

from predictor.iteration.dimensions import Layer
from predictor.iteration.implementations import megatron_blocks as blocks
from predictor.iteration.implementations import megatron_steps as steps
from predictor.iteration.implementations.megatron_blocks import LAUNCH_SECONDS, Lineage
from predictor.iteration.launches import Step, Tape
from predictor.iteration.memory import Memory, finished, unfused_memory
from predictor.iteration.stack import Part, Stack
from predictor.iteration.step import Stage, StepShape

LINEAGE = Lineage(fused_wgrad=False, main_gradients=False, overlap_dgrad=False)
HALF_BYTES = 2.0
LAYERS_GATHERED = 2
"""The layer at work and the one that is fetched."""


def _gathered(shape: StepShape, sizes: tuple[int, ...], compute: tuple[Step, ...]) -> Tape:
    """Waits for the weights, fetches as many for the next layer, computes."""
    tape = Tape()
    if shape.sharding == "parameters":
        tape.wait("gather")
        for size in sizes:
            tape.start(shape.data.all_gather(HALF_BYTES * size), "gather")
    tape.extend(compute)
    return tape


def _scattered(shape: StepShape, sizes: tuple[int, ...], compute: tuple[Step, ...]) -> Tape:
    """A gathered backward pass whose gradients leave behind it."""
    tape = _gathered(shape, sizes, compute)
    split = shape.sharding in {"parameters", "gradients"}
    send = shape.data.reduce_scatter if split else shape.data.all_reduce
    for size in sizes:
        tape.start(send(HALF_BYTES * size), "data")
    return tape


def _sharded(shape: StepShape, part: Part, sizes: tuple[int, ...]) -> Part:
    return Part(
        forward=_gathered(shape, sizes, part.forward).steps(),
        backward=_scattered(shape, sizes, part.backward).steps(),
        replay=part.replay,
        launch_seconds=LAUNCH_SECONDS,
        parameters=part.parameters,
    )


def layer_part(shape: StepShape, layer: Layer) -> Part:
    """One layer whose weights come from all ranks."""
    part = blocks.layer_part(shape, layer, LINEAGE)
    h, f, q = layer.hidden, layer.ffn, layer.q
    return _sharded(shape, part, (h * (q + 2 * layer.kv), h * q, h * f, h * f))


def embedding_part(shape: StepShape) -> Part:
    """The input table, gathered whole."""
    part = blocks.embedding_part(shape, LINEAGE)
    return _sharded(shape, part, (shape.vocab * shape.hidden,))


def head_part(shape: StepShape) -> Part:
    """The head, gathered whole; a tied table's gradient leaves with the input's."""
    part = blocks.head_part(shape, LINEAGE)
    return _sharded(shape, part, (part.parameters,) if part.parameters else ())


def memory(stage: Stage, in_flight: tuple[int, ...]) -> Memory:
    """Weights and gradients of the rank's share, and two layers' whole weights."""
    shape = stage.shape
    parts = dict(unfused_memory(stage, in_flight).parts)
    if shape.sharding == "parameters":
        whole = LAYERS_GATHERED * shape.layer.parameters
        parts["parameters"] = HALF_BYTES * (stage.owned_parameters + whole)
    if shape.sharding in {"parameters", "gradients"}:
        parts["gradients"] = HALF_BYTES * (stage.owned_parameters + shape.layer.parameters)
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
