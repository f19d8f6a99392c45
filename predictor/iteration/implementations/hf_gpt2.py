"""A layer of GPT-2 as Hugging Face runs it on eager PyTorch: biases, LayerNorm, GELU in one kernel.

Read in transformers 5.17.0 (``models/gpt2``) on torch 2.11; 17 launches forward.
"""

from predictor.iteration.implementations import eager_blocks as eager
from predictor.iteration.launches import Tape
from predictor.iteration.layer import Layer
from predictor.iteration.step import StepShape


def forward(tape: Tape, shape: StepShape, layer: Layer) -> None:
    """Attention and feed-forward, each between a norm and an add."""
    n = shape.tokens
    tape.fresh(eager.kernel("layer_norm", n, layer.hidden))
    eager.linear_forward(tape, n, layer.q + 2 * layer.kv, layer.hidden, bias=True)
    tape.run(shape.attention("forward", layer))
    eager.linear_forward(tape, n, layer.hidden, layer.q, bias=True)
    tape.fresh(eager.kernel("add", n, layer.hidden))
    tape.fresh(eager.kernel("layer_norm", n, layer.hidden))
    eager.linear_forward(tape, n, layer.ffn, layer.hidden, bias=True)
    eager.gelu_forward(tape, n, layer.ffn)
    eager.linear_forward(tape, n, layer.hidden, layer.ffn, bias=True)
    tape.fresh(eager.kernel("add", n, layer.hidden))


def backward(tape: Tape, shape: StepShape, layer: Layer) -> None:
    """The gradient of :func:`forward`, in the order of the autograd engine."""
    n = shape.tokens
    eager.linear_backward(tape, n, layer.hidden, layer.ffn, bias=True)
    eager.gelu_backward(tape, n, layer.ffn)
    eager.linear_backward(tape, n, layer.ffn, layer.hidden, bias=True)
    tape.fresh(eager.kernel("layer_norm_backward", n, layer.hidden), kernels=2)
    tape.fresh(eager.kernel("add", n, layer.hidden))
    eager.linear_backward(tape, n, layer.hidden, layer.q, bias=True)
    tape.run(shape.attention("backward", layer), kernels=eager.attention_kernels(layer))
    tape.fresh(eager.kernel("cat", n, layer.q + 2 * layer.kv))
    eager.linear_backward(tape, n, layer.q + 2 * layer.kv, layer.hidden, bias=True)
    tape.fresh(eager.kernel("layer_norm_backward", n, layer.hidden), kernels=2)
    tape.fresh(eager.kernel("add", n, layer.hidden))
