"""What attention launches in a layer of Transformer Engine, made once for layers that are alike."""

from dataclasses import replace
from functools import lru_cache

from predictor.iteration import context
from predictor.iteration.implementations import te_adapters as thin
from predictor.iteration.implementations import te_blocks as te
from predictor.iteration.implementations import te_latent
from predictor.iteration.launches import Tape
from predictor.iteration.layer import Layer
from predictor.iteration.step import ALONE, StepShape


def without_experts(shape: StepShape, layer: Layer) -> tuple[StepShape, Layer]:
    """All that attention knows of a layer: those whose experts alone differ have the same."""
    layer = replace(layer, ffn=0, experts=None, predicts=False)
    shape = replace(
        shape,
        experts=None,
        layer=layer,
        data=ALONE,
        replicas=ALONE,
        world=ALONE,
        sharding="none",
        stages=1,
        stages_apart=False,
        micro_batches=1,
    )
    return shape, layer


@lru_cache(maxsize=1024)
def attention(kind: str, shape: StepShape, layer: Layer) -> Tape:
    """What attention launches; once for all layers that it is the same in."""
    tape = Tape()
    if layer.latent:
        latent = te_latent.forward if kind == "forward" else te_latent.backward
        latent(tape, shape, layer, layer.latent)
    else:
        plain = _forward if kind == "forward" else _backward
        plain(tape, shape, layer)
    return tape


def _forward(tape: Tape, shape: StepShape, layer: Layer) -> None:
    n = shape.tokens
    thin.column_forward(tape, shape, layer.linear("linear_qkv"))
    if layer.qk_norm:
        tape.fresh(te.fused("rms_norm", n * layer.heads, layer.head_dim))
        tape.fresh(te.fused("rms_norm", n * layer.groups, layer.head_dim))
    if layer.rope:
        tape.fresh(te.fused("rotary", n * layer.heads, layer.head_dim))
        tape.fresh(te.fused("rotary", n * layer.groups, layer.head_dim))
        tape.fresh(te.fused("copy", n, layer.kv))  # values, a slice beside new queries and keys
    context.forward(tape, shape, layer)
    thin.row_forward(tape, shape, layer.linear("linear_proj"))


def _backward(tape: Tape, shape: StepShape, layer: Layer) -> None:
    n = shape.tokens
    thin.row_backward(tape, shape, layer.linear("linear_proj"))
    if shape.selective_recompute:
        context.forward(tape, shape, layer)
    kernels = 3 if layer.heads == layer.groups else 5
    context.backward(tape, shape, layer, kernels=kernels)
    if layer.rope:
        tape.fresh(te.fused("rotary", n * layer.heads, layer.head_dim))
        tape.fresh(te.fused("rotary", n * layer.groups, layer.head_dim))
    if layer.qk_norm:
        tape.run(te.fused("rms_norm_backward", n * layer.heads, layer.head_dim), kernels=2)
        tape.run(te.fused("rms_norm_backward", n * layer.groups, layer.head_dim), kernels=2)
    if layer.rope:  # their gradients lie apart and are put together
        tape.fresh(te.fused("copy", n, layer.q + 2 * layer.kv))
    thin.column_backward(tape, shape, layer.linear("linear_qkv"))
