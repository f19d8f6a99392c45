"""``jax-xla``: MaxText and Paxml, the whole step one compiled program.

Read in MaxText e591f30cb and JAX-Toolbox's GPU notes. The kernels are those of fused layers with
cuDNN attention; weight gradients are bf16 and join the fp32 state in the step. XLA gathers each
layer's bf16 weights in the loop over layers, forward and backward, and reduces their gradients in
bf16, beside computation (latency-hiding scheduler); without sharding one all-reduce a bucket. The
host queues one program.

A policy of recomputation names the products that are kept; all else of a layer runs again, up to
the last tensor that a gradient needs: ``recompute_modules`` with ``mlp`` is a policy that keeps all
but the feed-forward's (MaxText ``save_dot_except_mlp``, Praxis ``SAVE_QKV_OUT_PROJ``), without it
one that keeps every product. Weights of 8-bit products are gathered in bf16 and cast where they are
used (flax ``fp8_ops``: delayed scaling).
"""

from dataclasses import replace

from predictor.iteration.implementations import fsdp, te_steps
from predictor.iteration.implementations import megatron_core_te as fused
from predictor.iteration.implementations import te_blocks as te
from predictor.iteration.launches import Launch, Program, Step, Tape
from predictor.iteration.layer import Layer
from predictor.iteration.megatron_memory import fused_memory
from predictor.iteration.memory import Memory
from predictor.iteration.stack import Part, Replicas
from predictor.iteration.step import Stage, StepShape
from predictor.operators import Gemm

SHARDED = fsdp.Fsdp(copies=False, gradient_bytes=2)


def _queued(part: Part) -> Part:
    return replace(part, forward_host=(), backward_host=(), replay_host=())


def layer_part(shape: StepShape, layer: Layer) -> Part:
    """One fused layer; what its policy does not keep runs again before its gradient."""
    again, shape = shape.recomputed, _as_compiled(shape)
    part = _queued(fused.layer_part(shape, layer))
    if again:
        replay = _not_kept(part.forward, mlp="mlp" in again)
        part = replace(part, backward=(*replay, *part.backward))
    part = _weights_cast(part, shape, layer)
    return SHARDED.layer(shape, layer, replace(part, parameters=0)) if _sharded(shape) else part


def _as_compiled(shape: StepShape) -> StepShape:
    """Weights are gathered as they are, and recomputation is the policy's alone."""
    recipe = shape.recipe and replace(shape.recipe, gathers_parameters=False)
    return replace(shape, recipe=recipe, recomputed=frozenset())


def _not_kept(steps: tuple[Step, ...], *, mlp: bool) -> tuple[Step, ...]:
    """A forward pass without its kept products, up to its last one."""
    products = [
        place
        for place, step in enumerate(steps)
        if isinstance(step, Launch) and isinstance(step.operator, Gemm)
    ]
    *_, up, down = products
    return tuple(
        step
        for place, step in enumerate(steps[:down])
        if place not in products or (mlp and place == up)
    )


def _weights_cast(part: Part, shape: StepShape, layer: Layer) -> Part:
    """Both passes cast a layer's weights, where products are small."""
    if shape.recipe is None:
        return part
    tape = Tape()
    rows = layer.matrix_parameters // shape.hidden
    te.operand(tape, shape.recipe, rows, shape.hidden, turned=True)
    return replace(
        part,
        forward=(*tape.steps(), *part.forward),
        backward=(*tape.steps(), *part.backward),
        replay=(*tape.steps(), *part.replay),
    )


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
    whole = te_steps.replicas(stage)
    return replace(whole, gradient_bytes=2.0, bucket_parameters=te_steps.LEAST_BUCKET_PARAMETERS)


def optimizer(stage: Stage) -> Program:
    """The fused step over fp32 shards; weights are cast in the passes."""
    return te_steps.optimizer(replace(stage, shape=replace(stage.shape, recipe=None)))


def memory(stage: Stage, in_flight: tuple[int, ...]) -> Memory:
    """Live bytes; XLA itself takes a fixed share of the device."""
    return fused_memory(stage, in_flight)


STACK = replace(
    fused.STACK,
    name="jax-xla",
    description="MaxText and Paxml: one XLA program a step, cuDNN attention",
    knows=frozenset({"fp8", "modules"}),
    layer=layer_part,
    embedding=embedding_part,
    head=head_part,
    replicas=replicas,
    optimizer=optimizer,
    memory=memory,
)
