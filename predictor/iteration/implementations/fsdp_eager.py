"""``fsdp-eager``: plain PyTorch FSDP (first generation) around eager Llama blocks.

Read in fms-fsdp at 5a296af with ibm-fms 0.0.6: fp32 parameters, bf16 computation and reduction,
sharding in the node with a sum across nodes (HSDP) or over all ranks, FlashAttention-2 through
SDPA, norms and rotary embedding written out, a loss on bf16 logits, ``foreach`` AdamW, clipping
with its norm read by the host.
"""

from predictor.iteration.hf_memory import eager_saved_bytes
from predictor.iteration.implementations import eager_blocks as eager
from predictor.iteration.implementations import fsdp, hf_eager
from predictor.iteration.launches import Program, Tape
from predictor.iteration.layer import Layer
from predictor.iteration.memory import Memory
from predictor.iteration.stack import Part, Stack, flashed
from predictor.iteration.step import Stage, StepShape

SHARDED = fsdp.Fsdp(copies=False, gradient_bytes=2)
TENSORS_A_LAUNCH = 30
"""Tensors that one launch of a list kernel takes, on average (as ``megatron-core-local``)."""


def layer_part(shape: StepShape, layer: Layer) -> Part:
    """The eager Llama layer with FlashAttention-2; a replay ends before its last product."""
    forward = flashed(hf_eager.layer_forward(shape, layer))
    backward = flashed(hf_eager.layer_backward(shape, layer))
    part = Part(forward=forward, backward=backward, replay=forward[:-2])
    return fsdp.hosted(SHARDED.layer(shape, layer, part))


def embedding_part(shape: StepShape) -> Part:
    """The eager table."""
    part = Part(
        forward=hf_eager.embedding_forward(shape), backward=hf_eager.embedding_backward(shape)
    )
    return fsdp.hosted(SHARDED.embedding(shape, part))


def head_part(shape: StepShape) -> Part:
    """The eager head; the loss reads and writes bf16."""
    n, forward, backward = shape.tokens, Tape(), Tape()
    eager.rms_norm_forward(forward, n, shape.hidden)
    eager.linear_forward(forward, n, shape.vocab, shape.hidden)
    forward.run(eager.kernel("softmax", n, shape.vocab))
    backward.run(eager.kernel("fill", n, shape.vocab))
    backward.run(eager.kernel("softmax_backward", n, shape.vocab))
    eager.linear_backward(backward, n, shape.vocab, shape.hidden)
    eager.rms_norm_backward(backward, n, shape.hidden)
    part = Part(forward=forward.steps(), backward=backward.steps())
    return fsdp.hosted(SHARDED.head(part))


def optimizer(stage: Stage) -> Program:
    """``foreach`` AdamW, list by list."""
    return fsdp.pass_by_pass_optimizer(stage, kernels=1 + stage.tensors // TENSORS_A_LAUNCH)


def memory(stage: Stage, in_flight: tuple[int, ...]) -> Memory:
    """Eager activations, four bf16 buffers of logits at the loss."""
    del in_flight
    return fsdp.sharded_memory(
        stage, lambda shape, layer: shape.tokens * eager_saved_bytes(layer), logit_bytes=8.0
    )


STACK = Stack(
    name="fsdp-eager",
    description="PyTorch FSDP around eager Llama blocks (fms-fsdp), FlashAttention-2",
    parallel=True,
    compared=False,
    layer=layer_part,
    embedding=embedding_part,
    head=head_part,
    accumulate=SHARDED.accumulate,
    reduced=fsdp.clipped,
    optimizer=optimizer,
    memory=memory,
)
