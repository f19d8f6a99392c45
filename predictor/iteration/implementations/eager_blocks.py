"""The kernels that eager PyTorch launches for the parts of a Hugging Face layer.

Source: transformers 5.17.0 ``models/llama``, ``models/qwen3``, ``models/gpt2`` on torch 2.11,
operators counted by a dispatch mode and compared with profiled kernel counts. Every function
appends to a :class:`~predictor.iteration.launches.Tape` in the order the framework launches.
``n`` is the tokens of the micro-batch.
"""

from predictor.iteration.launches import Tape
from predictor.iteration.layer import Layer
from predictor.operators import Gemm, MemoryBound


def kernel(name: str, rows: int, cols: int) -> MemoryBound:
    """One eager PyTorch kernel over ``rows × cols``."""
    return MemoryBound(kernel=name, rows=rows, cols=cols, impl="torch")


def tiny(tape: Tape, rows: int, times: int) -> None:
    """Launches over one number a row: they cost a launch and nothing else."""
    for _ in range(times):
        tape.fresh(kernel("mul_scalar_fp32", rows, 1))


def accumulated(tape: Tape, parameters: int, tensors: int) -> None:
    """Each parameter's bf16 gradient is added into the fp32 buffer."""
    tape.run(kernel("accumulate_fp32", parameters, 1), kernels=tensors)


def linear_forward(tape: Tape, n: int, out: int, into: int, *, bias: bool = False) -> None:
    """``y[n, out] = x[n, into] · w[out, into]ᵀ``."""
    api = "cublaslt" if bias else "cublas"
    tape.run(Gemm(m=n, n=out, k=into, kind="forward", api=api, bias=bias))


def router_forward(tape: Tape, n: int, experts: int, into: int, *, kernels: int) -> None:
    """Scores in fp32, the best of them, and the small launches that a stack has around them."""
    linear_forward(tape, n, experts, into)
    tape.run(kernel("softmax_fp32", n, experts))
    tape.run(kernel("topk_fp32", n, experts))
    tiny(tape, n, kernels)


def linear_backward(tape: Tape, n: int, out: int, into: int, *, bias: bool = False) -> None:
    """wgrad, then dgrad; a bias gradient is a column sum of its own."""
    wgrad(tape, n, out, into)
    dgrad(tape, n, out, into)
    if bias:
        tape.run(kernel("sum_rows", n, out))


def wgrad(tape: Tape, n: int, out: int, into: int) -> None:
    """``dw[out, into] = dy[n, out]ᵀ · x[n, into]``."""
    tape.run(Gemm(m=n, n=out, k=into, kind="wgrad"))


def dgrad(tape: Tape, n: int, out: int, into: int) -> None:
    """``dx[n, into] = dy[n, out] · w[out, into]``."""
    tape.run(Gemm(m=n, n=out, k=into, kind="dgrad"))


def rms_norm_forward(tape: Tape, rows: int, cols: int) -> None:
    """Eight launches: the norm is written out in fp32 (36 bytes an element)."""
    upcast = tape.fresh(kernel("cast_up", rows, cols))
    tape.fresh(kernel("pow_fp32", rows, cols))
    tape.fresh(kernel("mean_fp32", rows, cols))
    tiny(tape, rows, 2)
    tape.run(kernel("mul_rows_fp32", rows, cols), since=upcast)
    tape.fresh(kernel("cast_down", rows, cols))
    tape.fresh(kernel("mul_weight", rows, cols))


def rms_norm_backward(tape: Tape, rows: int, cols: int) -> None:
    """Sixteen launches, 92 bytes an element; ``x`` in fp32 and ``x̂`` in bf16 were saved."""
    scaled = tape.fresh(kernel("mul_weight", rows, cols))
    tape.run(kernel("mul", rows, cols))
    tape.fresh(kernel("sum_rows", rows, cols))
    upcast = tape.run(kernel("cast_up", rows, cols), since=scaled)
    tape.fresh(kernel("mul_fp32", rows, cols))
    direct = tape.run(kernel("mul_rows_fp32", rows, cols), since=upcast)
    tape.run(kernel("sum_fp32", rows, cols), since=upcast)
    tiny(tape, rows, 3)
    expanded = tape.run(kernel("div_expanded_fp32", rows, cols), since=tape.mark())
    tape.run(kernel("copy_fp32", rows, cols))
    tape.fresh(kernel("mul_scalar_fp32", rows, cols))
    tape.run(kernel("mul_fp32", rows, cols), since=expanded)
    tape.run(kernel("add_fp32", rows, cols), since=direct)
    tape.fresh(kernel("cast_down", rows, cols))


def rope_forward(tape: Tape, rows: int, cols: int) -> None:
    """Rotary embedding of q or k as five launches over ``rows = tokens·heads``."""
    start = tape.mark()
    tape.run(kernel("rope_mul", rows, cols), since=start)
    tape.run(kernel("rope_neg", rows, cols), since=start)
    tape.run(kernel("rope_cat", rows, cols), since=start)
    tape.fresh(kernel("rope_mul", rows, cols))
    tape.fresh(kernel("rope_add", rows, cols))


def rope_backward(tape: Tape, rows: int, cols: int) -> None:
    """Its gradient: slices are scattered into zeroed tensors and added, then made contiguous."""
    start = tape.mark()
    tape.run(kernel("rope_mul", rows, cols), since=start)
    tape.fresh(kernel("rope_neg", rows, cols))
    for _ in range(2):
        tape.fresh(kernel("fill", rows, cols))
        tape.fresh(kernel("rope_half_copy", rows, cols))
    tape.fresh(kernel("add", rows, cols))
    tape.run(kernel("rope_mul", rows, cols), since=start)
    tape.fresh(kernel("add", rows, cols))
    tape.fresh(kernel("rope_clone", rows, cols))


def gelu_forward(tape: Tape, n: int, f: int) -> None:
    """``gelu_new`` written out: eight launches, 36 bytes an element."""
    start = tape.mark()
    for name in ("mul_scalar", "pow", "mul_scalar"):
        tape.run(kernel(name, n, f), since=start)
    for name in ("add", "mul_scalar", "tanh", "add_scalar", "mul"):
        tape.fresh(kernel(name, n, f))


def gelu_backward(tape: Tape, n: int, f: int) -> None:
    """Eleven launches, 56 bytes an element."""
    tape.fresh(kernel("mul", n, f))
    tape.run(kernel("mul", n, f))
    for name in ("tanh_backward", "mul_scalar", "mul_scalar"):
        tape.fresh(kernel(name, n, f))
    tape.run(kernel("pow", n, f))
    for name in ("mul_scalar", "mul", "add", "mul_scalar", "add"):
        tape.fresh(kernel(name, n, f))


def attention_kernels(layer: Layer, *, bias: bool = False) -> int:
    """Kernels of cuDNN's backward: three, and two head reductions with grouped queries."""
    return 3 if bias or layer.groups == layer.heads else 5
