"""The kernels that Megatron-LM launched before Transformer Engine, and that its forks still launch.

Source: NVIDIA/Megatron-LM v2.6 (2021-08) and main of 2022-09: ``model/transformer.py``,
``model/fused_bias_gelu.py``, ``mpu/layers.py``,
``mpu/cross_entropy.py``. Attention keeps its scores
(:mod:`predictor.iteration.implementations.unfused_attention`); bias and GELU, and bias, dropout and
residual, are one TorchScript kernel each; the loss is taken from fp32 logits, split over the
vocabulary.

fp16 and bf16 move the same bytes and run at the same rate, so both are priced as bf16.
"""

from predictor.iteration.implementations import eager_blocks as eager
from predictor.iteration.implementations import unfused_attention as scores
from predictor.iteration.implementations.te_blocks import fused
from predictor.iteration.launches import Step, Tape
from predictor.iteration.layer import Layer
from predictor.iteration.stack import Part
from predictor.iteration.step import StepShape
from predictor.operators import Gemm
from predictor.operators.gemm import GemmKind
from predictor.values import frozen

VOCABULARY_MULTIPLE = 128
"""``--make-vocab-size-divisible-by``: the table of each tensor rank."""

LAUNCH_SECONDS = 50e-6
"""Host seconds of a launch from modules and autograd functions on the hosts of A100 machines, with
what checkpointing and random states cost spread over launches. Set by vTrain's launch-bound steps
(docs/implementations.md); 35 to 60 µs are plausible, 26 to 32 µs are measured on an H100's host."""


@frozen(kw_only=True)
class Lineage:
    """Where descendants of Megatron-LM differ in what a layer launches.

    Attributes:
        fused_wgrad: Weight gradients accumulate into the main gradient inside the product.
        main_gradients: Otherwise every micro-batch adds its gradient to a main one.
        overlap_dgrad: The sum of a column-split product's input gradient runs beside wgrad.
        dropout: Scores, residual branches and embeddings are dropped out.
        alibi: Position is a bias of the scores, copied into the product's output first.
        duplicated: Tensors of ``hidden`` numbers, equal on all tensor ranks, that each layer's
            forward pass averages over them.
    """

    fused_wgrad: bool
    main_gradients: bool = True
    overlap_dgrad: bool = True
    dropout: bool = True
    alibi: bool = False
    duplicated: int = 0


def layer_part(shape: StepShape, layer: Layer, lineage: Lineage) -> Part:
    """One layer of one rank."""
    forward, backward = Tape(), Tape()
    layer_forward(forward, shape, layer, lineage)
    layer_backward(backward, shape, layer, lineage)
    return part(forward.steps(), backward.steps(), layer.parameters, replay=True)


def part(
    forward: tuple[Step, ...], backward: tuple[Step, ...], parameters: int, *, replay: bool = False
) -> Part:
    """Launches queued by PyTorch modules and autograd."""
    return Part(
        forward=forward,
        backward=backward,
        replay=forward if replay else (),
        launch_seconds=LAUNCH_SECONDS,
        parameters=parameters,
    )


def layer_forward(tape: Tape, shape: StepShape, layer: Layer, lineage: Lineage) -> None:
    """Norms, dropouts and adds run on the rank's share of the sequence."""
    n, shard, h = shape.tokens, shape.shard_tokens, layer.hidden
    for _ in range(lineage.duplicated):
        tape.collective(shape.tensor.all_reduce(2.0 * h))
    tape.fresh(fused("layer_norm", shard, h))
    _column_forward(tape, shape, layer.q + 2 * layer.kv, h)
    if layer.biases:
        tape.fresh(eager.kernel("mul_weight", n, layer.q + 2 * layer.kv))
    scores.forward(tape, shape, layer, alibi=lineage.alibi, dropout=lineage.dropout)
    tape.fresh(fused("copy", n, layer.q))
    _row_forward(tape, shape, h, layer.q)
    _add_forward(tape, shard, h, lineage)
    tape.fresh(fused("layer_norm", shard, h))
    _column_forward(tape, shape, layer.ffn, h)
    tape.fresh(fused("bias_gelu", n, layer.ffn))
    _row_forward(tape, shape, h, layer.ffn)
    _add_forward(tape, shard, h, lineage)


def layer_backward(tape: Tape, shape: StepShape, layer: Layer, lineage: Lineage) -> None:
    """One layer's gradient on one rank; bias gradients are column sums of their own."""
    n, shard, h = shape.tokens, shape.shard_tokens, layer.hidden
    _add_backward(tape, shard, h, lineage)
    _row_backward(tape, shape, h, layer.ffn, lineage)
    tape.fresh(fused("bias_gelu_backward", n, layer.ffn))
    tape.fresh(eager.kernel("sum_rows", n, layer.ffn))
    _column_backward(tape, shape, layer.ffn, h, lineage)
    _norm_backward(tape, shard, h)
    _add_backward(tape, shard, h, lineage)
    _row_backward(tape, shape, h, layer.q, lineage)
    if shape.selective_recompute:
        scores.forward(tape, shape, layer, alibi=lineage.alibi, dropout=lineage.dropout)
    scores.backward(tape, shape, layer, dropout=lineage.dropout)
    tape.run(eager.kernel("cat", n, layer.q + 2 * layer.kv))
    if layer.biases:
        tape.fresh(eager.kernel("sum_rows", n, layer.q + 2 * layer.kv))
    _column_backward(tape, shape, layer.q + 2 * layer.kv, h, lineage)
    _norm_backward(tape, shard, h)
    if lineage.main_gradients:
        vectors = 8 if layer.biases else 4
        eager.tiny(tape, h, vectors)


def _add_forward(tape: Tape, rows: int, cols: int, lineage: Lineage) -> None:
    """Bias, dropout and residual in one kernel."""
    tape.fresh(fused("bias_dropout_add" if lineage.dropout else "residual_add", rows, cols))


def _add_backward(tape: Tape, rows: int, cols: int, lineage: Lineage) -> None:
    """The branch's gradient, and its bias's."""
    if lineage.dropout:
        tape.fresh(fused("dropout_backward", rows, cols))
    tape.fresh(eager.kernel("sum_rows", rows, cols))


def _norm_backward(tape: Tape, rows: int, cols: int) -> None:
    """Gradients of the norm, then the residual stream's added to it."""
    tape.fresh(fused("layer_norm_backward", rows, cols), kernels=2)
    tape.fresh(fused("residual_add", rows, cols))


def _product(rows: int, out: int, into: int, kind: GemmKind) -> Gemm:
    return Gemm(m=rows, n=out, k=into, kind=kind)


def _column_forward(tape: Tape, shape: StepShape, out: int, into: int) -> None:
    """A product whose output is split: its input is gathered first under sequence parallelism."""
    if shape.sequence_parallel:
        tape.collective(shape.tensor.all_gather(2.0 * shape.tokens * into))
    tape.run(_product(shape.tokens, out, into, "forward"))


def _row_forward(tape: Tape, shape: StepShape, out: int, into: int) -> None:
    """A product whose output is a partial sum."""
    tape.run(_product(shape.tokens, out, into, "forward"))
    tape.collective(shape.partial_sum(out))


def _column_backward(tape: Tape, shape: StepShape, out: int, into: int, lineage: Lineage) -> None:
    """Gather of the input beside dgrad, sum of its gradient beside wgrad or behind it."""
    beside = shape.sequence_parallel or lineage.overlap_dgrad
    if shape.sequence_parallel:
        tape.start(shape.tensor.all_gather(2.0 * shape.tokens * into), "tensor")
    tape.run(_product(shape.tokens, out, into, "dgrad"))
    if shape.sequence_parallel:
        tape.wait("tensor")
    if beside:
        tape.start(shape.partial_sum(into), "tensor")
    weight_gradient(tape, shape.tokens, out, into, lineage)
    if not beside:
        tape.start(shape.partial_sum(into), "tensor")
    tape.wait("tensor")


def _row_backward(tape: Tape, shape: StepShape, out: int, into: int, lineage: Lineage) -> None:
    """The output's gradient is gathered first under sequence parallelism."""
    if shape.sequence_parallel:
        tape.collective(shape.tensor.all_gather(2.0 * shape.tokens * out))
    tape.run(_product(shape.tokens, out, into, "dgrad"))
    weight_gradient(tape, shape.tokens, out, into, lineage)


def weight_gradient(tape: Tape, rows: int, out: int, into: int, lineage: Lineage) -> None:
    """Added to the main gradient inside the product, or by a kernel of its own."""
    if lineage.fused_wgrad:
        tape.run(Gemm(m=rows, n=out, k=into, kind="wgrad", accumulate=True))
        return
    tape.run(_product(rows, out, into, "wgrad"))
    if lineage.main_gradients:
        tape.fresh(eager.kernel("add", out, into))


def embedding_part(shape: StepShape, lineage: Lineage) -> Part:
    """Rows of the rank's table, summed over ranks; positions, dropout; the batch turned inward."""
    n, h = shape.tokens, shape.hidden
    forward, backward = Tape(), Tape()
    forward.sync()
    forward.run(eager.kernel("embedding", n, h))
    if shape.tensor.ranks > 1:
        eager.tiny(forward, n, 5)
        forward.collective(shape.tensor.all_reduce(shape.activation_bytes))
    if not lineage.alibi:
        forward.run(eager.kernel("embedding", shape.seq_length, h))
        forward.fresh(eager.kernel("add", n, h))
    forward.fresh(fused("copy", n, h))
    if lineage.dropout:
        forward.fresh(fused("dropout", shape.shard_tokens, h))
        backward.fresh(fused("dropout_backward", shape.shard_tokens, h))
    if shape.sequence_parallel:
        backward.collective(shape.tensor.all_gather(shape.activation_bytes))
    backward.fresh(fused("copy", n, h))
    backward.run(eager.kernel("embedding_backward", n, h))
    backward.run(eager.kernel("fill", shape.vocab, h))
    backward.run(eager.kernel("add", shape.vocab, h))
    backward.sync()
    return part(forward.steps(), backward.steps(), shape.vocab * shape.hidden)


def head_part(shape: StepShape, lineage: Lineage) -> Part:
    """Final norm, the rank's columns of the logits, and the loss in fp32, kernel by kernel."""
    n, h, v = shape.tokens, shape.hidden, shape.vocab
    forward, backward = Tape(), Tape()
    forward.fresh(fused("layer_norm", shape.shard_tokens, h))
    forward.fresh(fused("copy", shape.shard_tokens, h))
    _column_forward(forward, shape, v, h)
    _loss_forward(forward, shape, n, v)
    forward.collective(shape.data.all_reduce(4.0, "fp32"), "data")
    forward.sync()
    backward.run(eager.kernel("mul_rows_fp32", n, v))
    eager.tiny(backward, n, 3)
    backward.fresh(fused("cast_down", n, v))
    _column_backward(backward, shape, v, h, lineage)
    _norm_backward(backward, shape.shard_tokens, h)
    tied = shape.tied_embeddings and shape.stages == 1
    return part(forward.steps(), backward.steps(), 0 if tied else v * h)


def _loss_forward(tape: Tape, shape: StepShape, n: int, v: int) -> None:
    """Maximum, label's logit and sum of a row are each agreed on by all tensor ranks."""
    agreed = shape.tensor.all_reduce(4.0 * n, "fp32")
    tape.fresh(fused("cast_up", n, v))
    tape.fresh(eager.kernel("amax_fp32", n, v))
    tape.collective(agreed)
    tape.fresh(eager.kernel("sub_rows_fp32", n, v))
    eager.tiny(tape, n, 8)
    tape.collective(agreed)
    tape.fresh(eager.kernel("exp_fp32", n, v))
    tape.fresh(eager.kernel("sum_fp32", n, v))
    tape.collective(agreed)
    eager.tiny(tape, n, 3)
    tape.fresh(eager.kernel("mul_rows_fp32", n, v))
