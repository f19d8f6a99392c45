"""``megatron-lm-2021``: Megatron-LM v2.6, as in PTD-P (Narayanan et al., arXiv:2104.04473).

Every tensor-parallel all-reduce blocks, in the backward pass too; weight gradients are added to
main gradients by kernels of their own; replicas sum their gradients once, after the last backward
pass, but with one pipeline stage through PyTorch's DDP, as ``examples/sc21`` runs it.
"""

from functools import partial

from predictor.iteration.implementations import megatron_blocks as blocks
from predictor.iteration.implementations import megatron_steps as steps
from predictor.iteration.implementations.megatron_blocks import Lineage
from predictor.iteration.megatron_memory import unfused_memory
from predictor.iteration.stack import Replicas, Stack
from predictor.iteration.step import Stage

LINEAGE = Lineage(fused_wgrad=False, overlap_dgrad=False)


def replicas(stage: Stage) -> Replicas:
    """PyTorch's DDP where there is no pipeline, unless the case says that nothing overlaps."""
    shape = stage.shape
    if shape.stages == 1 and shape.overlap_grad_reduce is not False:
        return steps.torch_replicas(stage)
    return steps.blocking_replicas(stage)


STACK = Stack(
    name="megatron-lm-2021",
    description="Megatron-LM v2.6: fused softmax, no flash attention, blocking collectives",
    parallel=True,
    compared=False,
    knows=frozenset({"fp16"}),
    vocab_multiple=blocks.VOCABULARY_MULTIPLE,
    layer=partial(blocks.layer_part, lineage=LINEAGE),
    embedding=partial(blocks.embedding_part, lineage=LINEAGE),
    head=partial(blocks.head_part, lineage=LINEAGE),
    replicas=replicas,
    reduced=steps.reduced,
    optimizer=steps.optimizer,
    message_bytes=steps.scattered_bytes,
    overlap_p2p=lambda shape: bool(shape.overlap_p2p),
    memory=unfused_memory,
)
