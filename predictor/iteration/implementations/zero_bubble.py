"""``zero-bubble``: sail-sg's fork of Megatron-LM (tag zero-bubble-v0.1.0), arXiv:2401.10241.

Layers are Megatron-Core 0.4's local ones: those of 2022. Weight gradients of products move to their
own passes under the zero-bubble schedules; messages then run beside computation, and the norm is
checked after the step (``--enable-optimizer-post-validation``), so no rank waits for it.
"""

from functools import partial

from predictor.iteration.implementations import megatron_blocks as blocks
from predictor.iteration.implementations import megatron_steps as steps
from predictor.iteration.implementations.megatron_blocks import Lineage
from predictor.iteration.memory import unfused_memory
from predictor.iteration.stack import Stack

LINEAGE = Lineage(fused_wgrad=True)

STACK = Stack(
    name="zero-bubble",
    description="sail-sg/zero-bubble-pipeline-parallelism v0.1.0, local layers of Megatron-LM",
    parallel=True,
    compared=True,
    knows=frozenset({"fp16"}),
    layer=partial(blocks.layer_part, lineage=LINEAGE),
    embedding=partial(blocks.embedding_part, lineage=LINEAGE),
    head=partial(blocks.head_part, lineage=LINEAGE),
    replicas=steps.blocking_replicas,
    reduced=steps.reduced,
    optimizer=steps.optimizer,
    overlap_p2p=lambda shape: shape.overlap_p2p is not False,
    memory=unfused_memory,
)
