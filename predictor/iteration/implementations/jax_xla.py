"""``jax-xla``: MaxText and Paxml, the whole step one compiled program.

Read in MaxText e591f30cb and JAX-Toolbox's GPU notes. The kernels are those of fused layers with
cuDNN attention; weight gradients are bf16 and join the fp32 state in the step. XLA gathers each
layer's bf16 weights in the loop over layers, forward and backward, and reduces their gradients in
bf16, beside computation (latency-hiding scheduler); without sharding one all-reduce a bucket. The
host queues one program. The policy of recomputation is free text there: what is neither none nor
full is refused.
"""

from dataclasses import replace

from predictor.iteration.dimensions import Layer
from predictor.iteration.implementations import fsdp
from predictor.iteration.implementations import megatron_core_te as fused
from predictor.iteration.memory import Memory, fused_memory
from predictor.iteration.stack import Part, Replicas
from predictor.iteration.step import Stage, StepShape

SHARDED = fsdp.Fsdp(copies=False, gradient_bytes=2)


def _queued(part: Part) -> Part:
    return replace(part, forward_host=(), backward_host=(), replay_host=())


def layer_part(shape: StepShape, layer: Layer) -> Part:
    """One fused layer."""
    part = _queued(fused.layer_part(shape, layer))
    return SHARDED.layer(shape, layer, replace(part, parameters=0)) if _sharded(shape) else part


def embedding_part(shape: StepShape) -> Part:
    """The table."""
    part = _queued(fused.embedding_part(shape, accumulates=False))
    return SHARDED.embedding(shape, replace(part, parameters=0)) if _sharded(shape) else part


def head_part(shape: StepShape) -> Part:
    """Norm, logits, loss in fp32."""
    part = _queued(fused.head_part(shape))
    return SHARDED.head(replace(part, parameters=0)) if _sharded(shape) else part


def _sharded(shape: StepShape) -> bool:
    return shape.sharding == "parameters" and shape.data.ranks > 1


def replicas(stage: Stage) -> Replicas:
    """Without sharded parameters: gradients in bf16, bucket by bucket beside the backward pass."""
    if _sharded(stage.shape):
        return Replicas()
    whole = fused.replicas(stage)
    return replace(whole, gradient_bytes=2.0, bucket_parameters=fused.LEAST_BUCKET_PARAMETERS)


def memory(stage: Stage, in_flight: tuple[int, ...]) -> Memory:
    """Live bytes; XLA itself takes a fixed share of the device."""
    return fused_memory(stage, in_flight)


STACK = replace(
    fused.STACK,
    name="jax-xla",
    description="MaxText and Paxml: one XLA program a step, cuDNN attention",
    knows=frozenset(),
    layer=layer_part,
    embedding=embedding_part,
    head=head_part,
    replicas=replicas,
    memory=memory,
)
