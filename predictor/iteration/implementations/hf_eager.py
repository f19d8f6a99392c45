"""``hf-eager``: Hugging Face transformers on eager PyTorch, SDPA attention, one GPU.

Read from transformers 5.17.0 and torch 2.11.0: bf16 parameters, gradients and Adam states, fused
AdamW, loss in fp32 over the whole sequence, non-reentrant checkpointing of whole layers.
"""

from predictor.iteration.hf_memory import eager_memory
from predictor.iteration.implementations import eager_blocks as eager
from predictor.iteration.implementations import hf_gpt2, hf_moe
from predictor.iteration.launches import HostWork, Program, Segment, Step, Tape
from predictor.iteration.layer import Layer
from predictor.iteration.stack import Part, Stack, module_launches
from predictor.iteration.step import Stage, StepShape
from predictor.operators import Host, Optimizer

NAME = "hf-eager"
OPTIMIZER_ELEMENTS_PER_LAUNCH = 320 * 65_536


def layer_part(shape: StepShape, layer: Layer) -> Part:
    """One layer; checkpointing replays it up to the last tensor that is needed."""
    forward = layer_forward(shape, layer)
    forward_host = _host(layer, "forward", "layer")
    backward_host = _host(layer, "backward", "layer")
    if layer.experts:
        forward_host += module_launches("forward", hf_moe.FORWARD_KERNELS)
        backward_host += module_launches("backward", hf_moe.BACKWARD_KERNELS)
    return Part(
        forward=forward,
        backward=layer_backward(shape, layer),
        replay=forward[:-2],  # no last product, no last add
        forward_host=forward_host,
        backward_host=backward_host,
        replay_host=forward_host,
        parameters=layer.parameters,
    )


def embedding_part(shape: StepShape) -> Part:
    """The input table."""
    return Part(
        forward=embedding_forward(shape),
        backward=embedding_backward(shape),
        forward_host=_host(shape.layer, "forward", "fixed"),
        backward_host=(),
        parameters=shape.vocab * shape.hidden,
    )


def head_part(shape: StepShape) -> Part:
    """Final norm, logits and loss."""
    return Part(
        forward=head_forward(shape),
        backward=head_backward(shape),
        forward_host=(),
        backward_host=_host(shape.layer, "backward", "fixed"),
        parameters=0 if shape.tied_embeddings else shape.vocab * shape.hidden,
    )


def _host(layer: Layer, phase: str, quantity: str) -> HostWork:
    return ((_activity(layer, phase, quantity), 1),)


def _activity(layer: Layer, phase: str, quantity: str) -> Host:
    return Host(stack=NAME, block=layer.block, phase=phase, quantity=quantity)


def layer_forward(shape: StepShape, layer: Layer) -> tuple[Step, ...]:
    """One layer: 38 launches for Llama, 54 for Qwen3, 17 for GPT-2."""
    n = shape.tokens
    tape = Tape()
    if layer.block == "gpt2":
        hf_gpt2.forward(tape, shape, layer)
        return tape.steps()
    eager.rms_norm_forward(tape, n, layer.hidden)
    _attention_forward(tape, shape, layer)
    eager.linear_forward(tape, n, layer.hidden, layer.q)
    tape.fresh(eager.kernel("add", n, layer.hidden))
    eager.rms_norm_forward(tape, n, layer.hidden)
    if layer.experts:
        hf_moe.forward(tape, shape.routed(layer))
    else:
        _mlp_forward(tape, n, layer)
    tape.fresh(eager.kernel("add", n, layer.hidden))
    return tape.steps()


def _mlp_forward(tape: Tape, n: int, layer: Layer) -> None:
    eager.linear_forward(tape, n, layer.ffn, layer.hidden)
    tape.fresh(eager.kernel("silu", n, layer.ffn))
    eager.linear_forward(tape, n, layer.ffn, layer.hidden)
    tape.fresh(eager.kernel("mul", n, layer.ffn))
    eager.linear_forward(tape, n, layer.hidden, layer.ffn)


def _mlp_backward(tape: Tape, n: int, layer: Layer) -> None:
    eager.linear_backward(tape, n, layer.hidden, layer.ffn)
    tape.fresh(eager.kernel("mul", n, layer.ffn))
    tape.run(eager.kernel("mul", n, layer.ffn))
    eager.linear_backward(tape, n, layer.ffn, layer.hidden)
    tape.run(eager.kernel("silu_backward", n, layer.ffn))
    eager.linear_backward(tape, n, layer.ffn, layer.hidden)
    tape.fresh(eager.kernel("add", n, layer.hidden))


def _attention_forward(tape: Tape, shape: StepShape, layer: Layer) -> None:
    n = shape.tokens
    for heads in (layer.heads, layer.groups, layer.groups):
        eager.linear_forward(tape, n, heads * layer.head_dim, layer.hidden)
    for heads in (layer.heads, layer.groups):
        if layer.qk_norm:
            eager.rms_norm_forward(tape, n * heads, layer.head_dim)
        eager.rope_forward(tape, n * heads, layer.head_dim)
    tape.run(shape.attention("forward", layer))


def layer_backward(shape: StepShape, layer: Layer) -> tuple[Step, ...]:
    """One layer's gradient, in the order of the autograd engine."""
    n = shape.tokens
    tape = Tape()
    if layer.block == "gpt2":
        hf_gpt2.backward(tape, shape, layer)
        return tape.steps()
    if layer.experts:
        hf_moe.backward(tape, shape.routed(layer))
    else:
        _mlp_backward(tape, n, layer)
    eager.rms_norm_backward(tape, n, layer.hidden)
    tape.fresh(eager.kernel("add", n, layer.hidden))
    eager.linear_backward(tape, n, layer.hidden, layer.q)
    tape.run(shape.attention("backward", layer), kernels=eager.attention_kernels(layer))
    eager.linear_backward(tape, n, layer.kv, layer.hidden)
    for heads in (layer.groups, layer.heads):
        eager.rope_backward(tape, n * heads, layer.head_dim)
        if layer.qk_norm:
            eager.rms_norm_backward(tape, n * heads, layer.head_dim)
        eager.linear_backward(tape, n, heads * layer.head_dim, layer.hidden)
        tape.fresh(eager.kernel("add", n, layer.hidden))
    eager.rms_norm_backward(tape, n, layer.hidden)
    tape.fresh(eager.kernel("add", n, layer.hidden))
    return tape.steps()


def embedding_forward(shape: StepShape) -> tuple[Step, ...]:
    """Token lookup, and positions added or rotary tables made."""
    layer, n = shape.layer, shape.tokens
    tape = Tape()
    tape.run(eager.kernel("embedding", n, layer.hidden))
    if not layer.rope:
        tape.run(eager.kernel("add", n, layer.hidden))
    eager.tiny(tape, n, 12)
    return tape.steps()


def embedding_backward(shape: StepShape) -> tuple[Step, ...]:
    """Sorted scatter into a zeroed table; a tied table adds the head's gradient to it."""
    layer, n = shape.layer, shape.tokens
    tape = Tape()
    tape.run(eager.kernel("fill", shape.vocab, layer.hidden))
    tape.fresh(eager.kernel("embedding_backward", n, layer.hidden), kernels=12)
    if shape.tied_embeddings:
        tape.run(eager.kernel("add", shape.vocab, layer.hidden))
    if not layer.rope:
        tape.run(eager.kernel("sum_rows", n, layer.hidden))
    return tape.steps()


def head_forward(shape: StepShape) -> tuple[Step, ...]:
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
    return tape.steps()


def head_backward(shape: StepShape) -> tuple[Step, ...]:
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
    return tape.steps()


def accumulation(stage: Stage) -> Program:
    """From the second micro-batch on, every parameter's gradient is added in bf16."""
    tape = Tape()
    tape.run(eager.kernel("add", stage.parameters, 1), kernels=stage.tensors)
    label = "gradient accumulation"
    return ((Segment(label=label, phase="backward", steps=tape.steps(), host=()), 1),)


def optimizer(stage: Stage) -> Program:
    """The fused multi-tensor AdamW kernel, chunk by chunk."""
    tape = Tape()
    tape.run(
        Optimizer(
            elements=stage.parameters,
            tensors=stage.tensors,
            dtype="fp32" if stage.shape.fp32_states else "bf16",
            impl="torch",
        ),
        kernels=1 + stage.parameters // OPTIMIZER_ELEMENTS_PER_LAUNCH,
    )
    layer = stage.shape.layer
    host = (
        (_activity(layer, "optimizer", "fixed"), 1),
        (_activity(layer, "optimizer", "tensor"), stage.tensors),
    )
    return ((Segment(label="optimizer", phase="optimizer", steps=tape.steps(), host=host), 1),)


STACK = Stack(
    name=NAME,
    description="Hugging Face transformers 5.17 on eager torch 2.11, one GPU",
    parallel=False,
    compared=True,
    knows=frozenset({"experts"}),
    layer=layer_part,
    embedding=embedding_part,
    head=head_part,
    accumulate=accumulation,
    optimizer=optimizer,
    memory=eager_memory,
)
