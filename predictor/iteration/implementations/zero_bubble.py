"""``zero-bubble``: sail-sg's fork of Megatron-LM (tag zero-bubble-v0.1.0), arXiv:2401.10241.

Layers are Megatron-Core 0.4's local ones: those of 2022. Weight gradients of products move to their
own passes under the zero-bubble schedules; messages then run beside computation, while the stock
schedules stop for them (``examples/pretrain_zero_bubble.sh``: ``--no-overlap-p2p-communication``).
Their optimizer's step is validated afterwards (``--enable-optimizer-post-validation``,
``optimizer/optimizer.py``), so that no stage waits for another's gradients before it steps.
"""

from functools import partial

from predictor.iteration.implementations import megatron_blocks as blocks
from predictor.iteration.implementations import megatron_steps as steps
from predictor.iteration.implementations.megatron_blocks import Lineage
from predictor.iteration.megatron_memory import unfused_memory
from predictor.iteration.stack import Stack
from predictor.iteration.step import StepShape

LINEAGE = Lineage(fused_wgrad=True)


def overlap_p2p(shape: StepShape) -> bool:
    """Messages of zero-bubble schedules are waited for by the pass that reads them."""
    return shape.schedule.startswith("zb") if shape.overlap_p2p is None else shape.overlap_p2p


def agrees(shape: StepShape) -> bool:
    """Zero-bubble schedules step first and look at the norm of all stages afterwards."""
    return not shape.schedule.startswith("zb")


STACK = Stack(
    name="zero-bubble",
    description="sail-sg/zero-bubble-pipeline-parallelism v0.1.0, local layers of Megatron-LM",
    parallel=True,
    compared=False,
    knows=frozenset({"fp16"}),
    vocab_multiple=blocks.VOCABULARY_MULTIPLE,
    layer=partial(blocks.layer_part, lineage=LINEAGE),
    embedding=partial(blocks.embedding_part, lineage=LINEAGE),
    head=partial(blocks.head_part, lineage=LINEAGE),
    replicas=steps.blocking_replicas,
    reduced=steps.reduced,
    optimizer=steps.optimizer,
    overlap_p2p=overlap_p2p,
    agrees=agrees,
    memory=unfused_memory,
)
