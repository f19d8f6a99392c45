"""``hf-fsdp2``: Hugging Face transformers on eager PyTorch, each block fully sharded (FSDP2).

The layers are those of ``hf-eager`` with bf16 copies of fp32 shards; gradients are reduced in fp32
after every micro-batch; fused AdamW on fp32 shards; no clipping. Read from transformers 5.17.0 and
torch 2.11.0 and compared with the profiled kernels of one step on two GPUs.
"""

from dataclasses import replace

from predictor.iteration.dimensions import Layer
from predictor.iteration.implementations import fsdp, hf_eager
from predictor.iteration.memory import Memory, eager_saved_bytes
from predictor.iteration.stack import Part, Stack
from predictor.iteration.step import Stage, StepShape

SHARDED = fsdp.Fsdp()


def layer_part(shape: StepShape, layer: Layer) -> Part:
    """The eager layer between its gathers and its reduction."""
    return SHARDED.layer(shape, layer, replace(hf_eager.layer_part(shape, layer), parameters=0))


def embedding_part(shape: StepShape) -> Part:
    """The eager table."""
    return SHARDED.embedding(shape, replace(hf_eager.embedding_part(shape), parameters=0))


def head_part(shape: StepShape) -> Part:
    """The eager head."""
    return SHARDED.head(replace(hf_eager.head_part(shape), parameters=0))


def memory(stage: Stage, in_flight: tuple[int, ...]) -> Memory:
    """Eager activations, 12 bytes a logit at the loss."""
    del in_flight
    return fsdp.sharded_memory(
        stage, lambda shape, layer: shape.tokens * eager_saved_bytes(layer), logit_bytes=12.0
    )


STACK = Stack(
    name="hf-fsdp2",
    description="Hugging Face transformers 5.17 on eager torch 2.11 with FSDP2",
    parallel=True,
    compared=False,
    layer=layer_part,
    embedding=embedding_part,
    head=head_part,
    accumulate=SHARDED.accumulate,
    optimizer=fsdp.fused_optimizer,
    memory=memory,
)
