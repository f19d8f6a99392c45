"""``megatron-lm-2022``: Megatron-LM of 2022-09, as in Korthikanti et al. (arXiv:2205.05198).

Sequence parallelism, selective recomputation of core attention, weight gradients added inside the
product, and the sum of a product's input gradient beside its weight gradient.
"""

from functools import partial

from predictor.iteration.implementations import megatron_blocks as blocks
from predictor.iteration.implementations import megatron_steps as steps
from predictor.iteration.implementations.megatron_blocks import Lineage
from predictor.iteration.megatron_memory import unfused_memory
from predictor.iteration.stack import Stack

LINEAGE = Lineage(fused_wgrad=True)

STACK = Stack(
    name="megatron-lm-2022",
    description="Megatron-LM of 2022-09: as 2021, with sequence parallelism and fused wgrad",
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
    message_bytes=steps.scattered_bytes,
    memory=unfused_memory,
)
