"""``hf-fsdp2``: Hugging Face transformers on eager PyTorch, each block fully sharded (FSDP2).

The layers are those of ``hf-eager`` with bf16 copies of fp32 shards; gradients are reduced in fp32
after every micro-batch; fused AdamW on fp32 shards; no clipping. Read from transformers 5.17.0 and
torch 2.11.0 and compared with the profiled kernels of one step on two GPUs.
"""

from dataclasses import replace

from predictor.iteration.hf_memory import eager_saved_bytes
from predictor.iteration.implementations import fsdp, hf_eager
from predictor.iteration.launches import HostWork, Program
from predictor.iteration.layer import Layer
from predictor.iteration.memory import Memory
from predictor.iteration.stack import Part, Stack, called
from predictor.iteration.step import Stage, StepShape
from predictor.operators import Host

NAME = "hf-fsdp2"
SHARDED = fsdp.Fsdp()


def layer_part(shape: StepShape, layer: Layer) -> Part:
    """The eager layer between its gathers and its reduction."""
    part = SHARDED.layer(shape, layer, replace(hf_eager.layer_part(shape, layer), parameters=0))
    gathered, reduced = called(part.forward), called((*part.entry, *part.backward))
    return replace(
        part,
        forward_host=(*(part.forward_host or ()), *_beyond("forward", "layer"), *gathered),
        backward_host=(*(part.backward_host or ()), *_beyond("backward", "layer"), *reduced),
    )


def _beyond(phase: str, quantity: str) -> HostWork:
    """What sharding adds to the host's work: a measured sharded Llama's less an eager one's."""
    return tuple(
        (Host(stack=stack, block="llama", phase=phase, quantity=quantity), times)
        for stack, times in ((NAME, 1), (hf_eager.NAME, -1))
    )


def embedding_part(shape: StepShape) -> Part:
    """The eager table."""
    part = SHARDED.embedding(shape, replace(hf_eager.embedding_part(shape), parameters=0))
    return replace(part, forward_host=(*(part.forward_host or ()), *_beyond("forward", "fixed")))


def head_part(shape: StepShape) -> Part:
    """The eager head."""
    part = SHARDED.head(replace(hf_eager.head_part(shape), parameters=0))
    return replace(part, backward_host=(*(part.backward_host or ()), *_beyond("backward", "fixed")))


def memory(stage: Stage, in_flight: tuple[int, ...]) -> Memory:
    """Eager activations, 12 bytes a logit at the loss."""
    del in_flight
    return fsdp.sharded_memory(
        stage, lambda shape, layer: shape.tokens * eager_saved_bytes(layer), logit_bytes=12.0
    )


def optimizer(stage: Stage) -> Program:
    """Fused AdamW; its host walks the shards, tensor by tensor."""
    ((segment, times),) = fsdp.fused_optimizer(stage)
    host = tuple(
        (Host(stack=NAME, block="llama", phase="optimizer", quantity=quantity), count)
        for quantity, count in (("fixed", 1), ("tensor", stage.tensors))
    )
    return ((replace(segment, host=host), times),)


STACK = Stack(
    name=NAME,
    description="Hugging Face transformers 5.17 on eager torch 2.11 with FSDP2",
    parallel=True,
    compared=False,
    layer=layer_part,
    embedding=embedding_part,
    head=head_part,
    accumulate=SHARDED.accumulate,
    optimizer=optimizer,
    memory=memory,
)
