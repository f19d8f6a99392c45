"""``hf-eager``: Hugging Face transformers on eager PyTorch, SDPA attention, one GPU.

Read from transformers 5.17.0 and torch 2.11.0: bf16 parameters, gradients and Adam states, fused
AdamW, loss in fp32 over the whole sequence, non-reentrant checkpointing of whole layers.
"""

from collections.abc import Callable

from predictor.iteration.dimensions import Layer
from predictor.iteration.implementations import eager_blocks as eager
from predictor.iteration.launches import Launch, Segment, Tape
from predictor.iteration.step import Step, StepShape
from predictor.operators import Host, Optimizer

NAME = "hf-eager"
DESCRIPTION = "Hugging Face transformers 5.17 on eager torch 2.11, one GPU"
PARALLEL = False
COMPARED = True
OPTIMIZER_ELEMENTS_PER_LAUNCH = 320 * 65_536


def build(shape: StepShape) -> Step:
    """Every launch of one step."""
    layer, blocks = shape.layer, shape.num_layers
    host = _host(layer)
    forward = Segment(
        label="layer forward",
        phase="forward",
        launches=layer_forward(shape),
        repeats=blocks,
        host=((host("forward", "layer"), 1),),
    )
    backward_launches = layer_backward(shape)
    backward_host: tuple[tuple[Host, int], ...] = ((host("backward", "layer"), 1),)
    if shape.recompute_layers:
        backward_launches = _replay(shape) + backward_launches
        backward_host = ((host("forward", "layer"), 1), *backward_host)
    plain = Segment(
        label="layer backward",
        phase="backward",
        launches=layer_backward(shape),
        repeats=blocks - shape.recompute_layers,
        host=((host("backward", "layer"), 1),),
    )
    replayed = Segment(
        label="layer replay and backward",
        phase="backward",
        launches=backward_launches,
        repeats=shape.recompute_layers,
        host=backward_host,
    )
    return Step(
        micro_batch=(
            Segment(
                label="embedding forward",
                phase="forward",
                launches=embedding_forward(shape),
                host=((host("forward", "fixed"), 1),),
            ),
            forward,
            Segment(label="head and loss", phase="forward", launches=head_forward(shape)),
            Segment(
                label="loss and head backward",
                phase="backward",
                launches=head_backward(shape),
                host=((host("backward", "fixed"), 1),),
            ),
            *(s for s in (plain, replayed) if s.repeats),
            Segment(
                label="embedding backward", phase="backward", launches=embedding_backward(shape)
            ),
        ),
        accumulate=accumulation(shape),
        optimizer=optimizer(shape),
    )


def _host(layer: Layer) -> Callable[[str, str], Host]:
    """A constructor of this stack's host activities from a phase and a quantity."""

    def of(phase: str, quantity: str) -> Host:
        return Host(stack=NAME, block=layer.block, phase=phase, quantity=quantity)

    return of


def layer_forward(shape: StepShape) -> tuple[Launch, ...]:
    """One layer: 38 launches for Llama, 54 for Qwen3, 17 for GPT-2."""
    layer, n = shape.layer, shape.tokens
    tape = Tape()
    if layer.block == "gpt2":
        tape.fresh(eager.kernel("layer_norm", n, layer.hidden))
        eager.linear_forward(tape, n, layer.q + 2 * layer.kv, layer.hidden, bias=True)
        tape.run(shape.attention("forward"))
        eager.linear_forward(tape, n, layer.hidden, layer.q, bias=True)
        tape.fresh(eager.kernel("add", n, layer.hidden))
        tape.fresh(eager.kernel("layer_norm", n, layer.hidden))
        eager.linear_forward(tape, n, layer.ffn, layer.hidden, bias=True)
        eager.gelu_forward(tape, n, layer.ffn)
        eager.linear_forward(tape, n, layer.hidden, layer.ffn, bias=True)
        tape.fresh(eager.kernel("add", n, layer.hidden))
        return tape.launches()
    eager.rms_norm_forward(tape, n, layer.hidden)
    _attention_forward(tape, shape)
    eager.linear_forward(tape, n, layer.hidden, layer.q)
    tape.fresh(eager.kernel("add", n, layer.hidden))
    eager.rms_norm_forward(tape, n, layer.hidden)
    eager.linear_forward(tape, n, layer.ffn, layer.hidden)
    tape.fresh(eager.kernel("silu", n, layer.ffn))
    eager.linear_forward(tape, n, layer.ffn, layer.hidden)
    tape.fresh(eager.kernel("mul", n, layer.ffn))
    eager.linear_forward(tape, n, layer.hidden, layer.ffn)
    tape.fresh(eager.kernel("add", n, layer.hidden))
    return tape.launches()


def _attention_forward(tape: Tape, shape: StepShape) -> None:
    layer, n = shape.layer, shape.tokens
    for heads in (layer.heads, layer.groups, layer.groups):
        eager.linear_forward(tape, n, heads * layer.head_dim, layer.hidden)
    for heads in (layer.heads, layer.groups):
        if layer.qk_norm:
            eager.rms_norm_forward(tape, n * heads, layer.head_dim)
        eager.rope_forward(tape, n * heads, layer.head_dim)
    tape.run(shape.attention("forward"))


def layer_backward(shape: StepShape) -> tuple[Launch, ...]:
    """One layer's gradient, in the order of the autograd engine."""
    layer, n = shape.layer, shape.tokens
    tape = Tape()
    if layer.block == "gpt2":
        _gpt2_backward(tape, shape)
        return tape.launches()
    eager.linear_backward(tape, n, layer.hidden, layer.ffn)
    tape.fresh(eager.kernel("mul", n, layer.ffn))
    tape.run(eager.kernel("mul", n, layer.ffn))
    eager.linear_backward(tape, n, layer.ffn, layer.hidden)
    tape.run(eager.kernel("silu_backward", n, layer.ffn))
    eager.linear_backward(tape, n, layer.ffn, layer.hidden)
    tape.fresh(eager.kernel("add", n, layer.hidden))
    eager.rms_norm_backward(tape, n, layer.hidden)
    tape.fresh(eager.kernel("add", n, layer.hidden))
    eager.linear_backward(tape, n, layer.hidden, layer.q)
    tape.run(shape.attention("backward"), kernels=eager.attention_kernels(layer))
    eager.linear_backward(tape, n, layer.kv, layer.hidden)
    for heads in (layer.groups, layer.heads):
        eager.rope_backward(tape, n * heads, layer.head_dim)
        if layer.qk_norm:
            eager.rms_norm_backward(tape, n * heads, layer.head_dim)
        eager.linear_backward(tape, n, heads * layer.head_dim, layer.hidden)
        tape.fresh(eager.kernel("add", n, layer.hidden))
    eager.rms_norm_backward(tape, n, layer.hidden)
    tape.fresh(eager.kernel("add", n, layer.hidden))
    return tape.launches()


def _gpt2_backward(tape: Tape, shape: StepShape) -> None:
    layer, n = shape.layer, shape.tokens
    eager.linear_backward(tape, n, layer.hidden, layer.ffn, bias=True)
    eager.gelu_backward(tape, n, layer.ffn)
    eager.linear_backward(tape, n, layer.ffn, layer.hidden, bias=True)
    tape.fresh(eager.kernel("layer_norm_backward", n, layer.hidden), kernels=2)
    tape.fresh(eager.kernel("add", n, layer.hidden))
    eager.linear_backward(tape, n, layer.hidden, layer.q, bias=True)
    tape.run(shape.attention("backward"), kernels=eager.attention_kernels(layer))
    tape.fresh(eager.kernel("cat", n, layer.q + 2 * layer.kv))
    eager.linear_backward(tape, n, layer.q + 2 * layer.kv, layer.hidden, bias=True)
    tape.fresh(eager.kernel("layer_norm_backward", n, layer.hidden), kernels=2)
    tape.fresh(eager.kernel("add", n, layer.hidden))


def _replay(shape: StepShape) -> tuple[Launch, ...]:
    """The checkpointed forward ends at the last tensor needed: no last product, no last add."""
    return layer_forward(shape)[:-2]


def embedding_forward(shape: StepShape) -> tuple[Launch, ...]:
    """Token lookup, and positions added or rotary tables made."""
    layer, n = shape.layer, shape.tokens
    tape = Tape()
    tape.run(eager.kernel("embedding", n, layer.hidden))
    if not layer.rope:
        tape.run(eager.kernel("add", n, layer.hidden))
    eager.tiny(tape, n, 12)
    return tape.launches()


def embedding_backward(shape: StepShape) -> tuple[Launch, ...]:
    """Sorted scatter into a zeroed table; a tied table adds the head's gradient to it."""
    layer, n = shape.layer, shape.tokens
    tape = Tape()
    tape.run(eager.kernel("fill", shape.vocab, layer.hidden))
    tape.fresh(eager.kernel("embedding_backward", n, layer.hidden), kernels=12)
    if shape.tied_embeddings:
        tape.run(eager.kernel("add", shape.vocab, layer.hidden))
    if not layer.rope:
        tape.run(eager.kernel("sum_rows", n, layer.hidden))
    return tape.launches()


def head_forward(shape: StepShape) -> tuple[Launch, ...]:
    """Final norm, logits over the whole sequence, cast to fp32, log-softmax, loss."""
    layer, n = shape.layer, shape.tokens
    tape = Tape()
    if layer.layer_norm:
        tape.fresh(eager.kernel("layer_norm", n, layer.hidden))
    else:
        eager.rms_norm_forward(tape, n, layer.hidden)
    eager.linear_forward(tape, n, shape.vocab, layer.hidden)
    tape.run(eager.kernel("cast_up", n, shape.vocab))
    tape.run(eager.kernel("log_softmax_fp32", n, shape.vocab))
    eager.tiny(tape, n, 6)
    return tape.launches()


def head_backward(shape: StepShape) -> tuple[Launch, ...]:
    """Zeroed fp32 gradient, log-softmax backward, cast, the head's two products, final norm."""
    layer, n = shape.layer, shape.tokens
    tape = Tape()
    tape.run(eager.kernel("fill_fp32", n, shape.vocab))
    eager.tiny(tape, n, 3)
    tape.run(eager.kernel("log_softmax_backward_fp32", n, shape.vocab))
    tape.run(eager.kernel("cast_down", n, shape.vocab))
    eager.linear_backward(tape, n, shape.vocab, layer.hidden)
    if layer.layer_norm:
        tape.fresh(eager.kernel("layer_norm_backward", n, layer.hidden), kernels=2)
    else:
        eager.rms_norm_backward(tape, n, layer.hidden)
    return tape.launches()


def accumulation(shape: StepShape) -> Segment:
    """From the second micro-batch on, every parameter's gradient is added in bf16."""
    tape = Tape()
    tape.run(eager.kernel("add", shape.parameters, 1), kernels=shape.tensors)
    return Segment(label="gradient accumulation", phase="backward", launches=tape.launches())


def optimizer(shape: StepShape) -> Segment:
    """The fused multi-tensor AdamW kernel, chunk by chunk."""
    tape = Tape()
    tape.run(
        Optimizer(
            elements=shape.parameters,
            tensors=shape.tensors,
            dtype="fp32" if shape.fp32_states else "bf16",
            impl="torch",
        ),
        kernels=1 + shape.parameters // OPTIMIZER_ELEMENTS_PER_LAUNCH,
    )
    host = _host(shape.layer)
    return Segment(
        label="optimizer",
        phase="optimizer",
        launches=tape.launches(),
        host=((host("optimizer", "fixed"), 1), (host("optimizer", "tensor"), shape.tensors)),
    )
