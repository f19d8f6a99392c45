"""Kernels whose time is the bytes they move: norms, activations, rotary, loss, casts, copies.

``rows`` and ``cols`` are the logical shape that the kernel walks, and ``KERNELS`` holds the bytes
that each kernel must move for one element of it, reads plus writes. ``impl`` says whose code it is:

* ``native``: this project's fused kernels, one a transformer operation (what fused stacks launch);
* ``torch``: PyTorch's eager kernels, one an aten operator (what eager stacks launch, operator list
  of Hugging Face transformers 5.17 traced with a dispatch mode);
* ``inductor``: the Triton kernels that ``torch.compile`` generates for the same layers.
"""

from typing import ClassVar, Final

from predictor.values import frozen


@frozen
class Kernel:
    """Traffic of one kernel.

    Attributes:
        read_bytes: Bytes read for each element of ``rows × cols``.
        written_bytes: Bytes written for each element.
        does: What it computes, with the types in and out.
    """

    read_bytes: float
    written_bytes: float
    does: str


NATIVE: Final[dict[str, Kernel]] = {
    "rms_norm": Kernel(2, 2, "y = x·rstd(x)·weight, bf16"),
    "rms_norm_backward": Kernel(4, 2, "dx and dweight from dy, x"),
    "layer_norm": Kernel(2, 2, "y = (x - mean)·rstd·weight + bias, bf16"),
    "layer_norm_backward": Kernel(4, 2, "dx, dweight and dbias from dy, x"),
    "residual_add": Kernel(4, 2, "y = x + residual, bf16"),
    "silu_mul": Kernel(4, 2, "y[r, c] = silu(gate[r, c])·up[r, c]; cols is the output's"),
    "silu_mul_backward": Kernel(6, 4, "dgate and dup from dy, gate, up"),
    "gelu": Kernel(2, 2, "tanh form, bf16"),
    "gelu_backward": Kernel(4, 2, "dx from dy, x"),
    "rotary": Kernel(2, 2, "rows = tokens·heads, cols = head_dim, cos and sin from a table"),
    "cross_entropy": Kernel(2, 0, "loss and logsumexp of bf16 logits, one online pass"),
    "cross_entropy_backward": Kernel(2, 2, "bf16 gradient of the logits"),
    "embedding": Kernel(2, 2, "gather rows of a bf16 table"),
    "embedding_backward": Kernel(6, 4, "scatter-add rows into an fp32 table"),
    "cast_up": Kernel(2, 4, "bf16 to fp32"),
    "cast_down": Kernel(4, 2, "fp32 to bf16"),
    "copy": Kernel(2, 2, "bf16"),
    "add_fp32": Kernel(6, 4, "fp32 += bf16: gradient accumulation"),
    "zero": Kernel(0, 2, "memset"),
    "scale": Kernel(2, 2, "bf16 x·constant"),
    "scale_fp32": Kernel(4, 4, "fp32 x·constant in place: gradients averaged or clipped"),
    "dropout": Kernel(2, 3, "bf16, and a mask of bytes"),
    "dropout_backward": Kernel(3, 2, "dx = dy·mask/(1 - p); also of bias_dropout_add"),
    "bias_dropout_add": Kernel(4, 3, "y = residual + dropout(x + bias), and a mask of bytes"),
    "bias_gelu": Kernel(2, 2, "gelu(x + bias), tanh form"),
    "bias_gelu_backward": Kernel(4, 2, "dx from dy, x and bias"),
    "silu_mul_probs": Kernel(4, 2, "silu_mul times a probability a row, as experts end"),
    "silu_mul_probs_backward": Kernel(6, 4, "dgate, dup and the probabilities' gradients"),
    "transpose": Kernel(2, 2, "bf16 [rows, cols] to [cols, rows]"),
    "transpose_fp8": Kernel(1, 1, "bytes, [rows, cols] to [cols, rows]"),
    "amax": Kernel(2, 0, "largest magnitude of a bf16 tensor"),
    "cast_fp8": Kernel(2, 1, "bf16 to scaled e4m3, and the largest magnitude"),
    "cast_transpose_fp8": Kernel(2, 2, "bf16 to scaled e4m3, as it is and transposed, with amax"),
    "softmax": Kernel(2, 2, "bf16 softmax of scaled scores over cols"),
    "softmax_backward": Kernel(4, 2, "dx from dy, y"),
    "softmax_causal": Kernel(1, 2, "rows = batch·heads·cols; the upper triangle is not read"),
    "softmax_causal_backward": Kernel(2, 2, "dx from the lower triangles of dy, y"),
    "cross_entropy_fp32": Kernel(4, 0, "as cross_entropy, fp32 logits"),
    "cross_entropy_backward_fp32": Kernel(4, 4, "fp32 gradient of fp32 logits"),
    "vocab_max": Kernel(4, 0, "fp32 maximum a row: before the first all-reduce of a split loss"),
    "vocab_exp": Kernel(4, 4, "fp32 exp(x - max) in place, its sum and the label's logit a row"),
    "vocab_gradient": Kernel(4, 4, "fp32 (exp·rsum - [label])·upstream in place"),
    "square_sum": Kernel(2, 0, "bf16 sum of squares: gradient norm"),
    "square_sum_fp32": Kernel(4, 0, "fp32 sum of squares: gradient norm"),
    "router_top_k": Kernel(
        4, 5, "cols = experts: fp32 softmax, the highest 8 kept; probabilities and a mask of bytes"
    ),
    "permute_top2": Kernel(1, 2, "each of rows/2 bf16 tokens copied to its 2 places"),
    "permute_top8": Kernel(0.25, 2, "each of rows/8 bf16 tokens copied to its 8 places"),
    "unpermute_top2": Kernel(2, 1, "rows/2 tokens, each the weighted sum of its 2 rows"),
    "unpermute_top8": Kernel(2, 0.25, "rows/8 tokens, each the weighted sum of its 8 rows"),
}

TORCH: Final[dict[str, Kernel]] = {
    "add": Kernel(4, 2, "bf16 a + b, contiguous"),
    "mul": Kernel(4, 2, "bf16 a·b, contiguous"),
    "mul_weight": Kernel(2, 2, "bf16 weight[cols]·x[rows, cols], broadcast over rows"),
    "mul_scalar": Kernel(2, 2, "bf16 x·constant"),
    "add_scalar": Kernel(2, 2, "bf16 x + constant"),
    "pow": Kernel(2, 2, "bf16 x³"),
    "tanh": Kernel(2, 2, "bf16"),
    "tanh_backward": Kernel(4, 2, "bf16"),
    "silu": Kernel(2, 2, "bf16"),
    "silu_backward": Kernel(4, 2, "bf16"),
    "cast_up": Kernel(2, 4, "bf16 to fp32"),
    "cast_down": Kernel(4, 2, "fp32 to bf16"),
    "pow_fp32": Kernel(4, 4, "fp32 x²"),
    "mean_fp32": Kernel(4, 0, "fp32 mean over cols"),
    "sum_fp32": Kernel(4, 0, "fp32 sum over cols, keepdim"),
    "mul_rows_fp32": Kernel(4, 4, "fp32 x[rows, cols]·rstd[rows, 1]"),
    "mul_fp32": Kernel(8, 4, "fp32 a·b, contiguous"),
    "add_fp32": Kernel(8, 4, "fp32 a + b, contiguous"),
    "mul_scalar_fp32": Kernel(4, 4, "fp32 x·constant"),
    "div_expanded_fp32": Kernel(0, 4, "fp32 expand([rows, 1])/cols, written in full"),
    "copy_fp32": Kernel(4, 4, "fp32 device-to-device copy"),
    "fill": Kernel(0, 2, "bf16 zeros"),
    "fill_fp32": Kernel(0, 4, "fp32 zeros"),
    "sum_rows": Kernel(2, 0, "bf16 sum over rows: gradient of a weight or bias vector"),
    "cat": Kernel(2, 2, "bf16 concatenation along cols of three parts"),
    "rope_mul": Kernel(2, 2, "bf16 q·cos; q is a transposed view [b, heads, s, d]"),
    "rope_neg": Kernel(1, 1, "bf16 negated half of the head, cols = head_dim"),
    "rope_cat": Kernel(2, 2, "bf16 cat(-x2, x1) along the head"),
    "rope_add": Kernel(4, 2, "bf16 sum of a strided and a contiguous operand"),
    "rope_half_copy": Kernel(1, 1, "bf16 copy of half a head into a zeroed gradient"),
    "rope_clone": Kernel(
        2, 2, "bf16 [b, heads, s, d] gradient made contiguous as [b, s, heads, d]"
    ),
    "layer_norm": Kernel(2, 2, "one kernel, fp32 statistics"),
    "layer_norm_backward": Kernel(6, 2, "two kernels: input, and weight with bias"),
    "log_softmax_fp32": Kernel(4, 4, "fp32 over the vocabulary"),
    "log_softmax_backward_fp32": Kernel(8, 4, "fp32 over the vocabulary"),
    "embedding": Kernel(2, 2, "gather rows of a bf16 table"),
    "embedding_backward": Kernel(4, 2, "sort and sum into a zeroed bf16 table; rows are tokens"),
    "gelu": Kernel(2, 2, "bf16, tanh form, one kernel"),
    "gelu_backward": Kernel(4, 2, "bf16"),
    "rms_norm": Kernel(2, 2, "one kernel (PyTorch 2.9 and later)"),
    "rms_norm_backward": Kernel(4, 2, "input and weight gradients"),
    "dropout": Kernel(2, 3, "bf16, and a mask of bytes"),
    "dropout_backward": Kernel(3, 2, "bf16 dy·mask·scale"),
    "softmax": Kernel(2, 2, "bf16 over cols"),
    "softmax_backward": Kernel(4, 2, "bf16 from dy, y"),
    "softmax_fp32": Kernel(4, 4, "fp32 over cols: router probabilities"),
    "masked_fill": Kernel(3, 2, "bf16 with a mask of bytes"),
    "accumulate_fp32": Kernel(6, 4, "fp32 += bf16 in place: main gradients"),
    "transpose": Kernel(2, 2, "bf16 [rows, cols] to [cols, rows], contiguous"),
    "cast_fp8": Kernel(2, 1, "bf16 to e4m3"),
    "abs": Kernel(2, 2, "bf16"),
    "amax_fp32": Kernel(4, 0, "fp32 maximum over cols: of a loss split over vocabularies"),
    "exp_fp32": Kernel(4, 4, "fp32 in place"),
    "sub_rows_fp32": Kernel(4, 4, "fp32 x[rows, cols] - max[rows, 1] in place"),
    "sigmoid_fp32": Kernel(4, 4, "fp32: router scores"),
    "mul_rows": Kernel(2, 2, "bf16 x[rows, cols]·probability[rows, 1]"),
    "index_select": Kernel(2, 2, "bf16 rows by index, each once"),
    "index_add": Kernel(4, 2, "bf16 rows added into a tensor by index, each once"),
    "gather_fp32": Kernel(12, 4, "fp32 along cols by an int64 index"),
    "scatter_fp32": Kernel(12, 4, "fp32 along cols by an int64 index, in place"),
    "topk_fp32": Kernel(4, 0, "fp32, the highest 8 of cols, with indices"),
    "sort_int64": Kernel(8, 16, "cols = 1: stable sort of expert ids, with indices"),
    "cumsum_int64": Kernel(8, 8, "over rows: places of tokens"),
    "nll_loss_backward_fp32": Kernel(0, 4, "fp32 zeros with the labels' gradients"),
    "foreach_norm": Kernel(2, 0, "bf16 norms of 16 tensors: gradient clipping"),
    "foreach_mul": Kernel(2, 2, "bf16 scaling of 16 tensors in place: gradient clipping"),
    "zero": Kernel(0, 2, "bf16 in place"),
    "foreach_copy": Kernel(2, 2, "bf16, 16 tensors into a flat buffer: a shard before its gather"),
    "foreach_cast_down": Kernel(4, 2, "fp32 to bf16, 16 tensors into a flat buffer"),
    "split_copy": Kernel(2, 2, "bf16 gathered from 8 ranks, laid out as 8 whole tensors"),
    "chunk_cat": Kernel(2, 4, "8 bf16 gradients, cut for 8 ranks, into one fp32 buffer"),
}

INDUCTOR: Final[dict[str, Kernel]] = {
    "rms_norm": Kernel(2, 2, "norm alone"),
    "add_rms_norm": Kernel(4, 4, "residual add, sum kept, then norm"),
    "rms_norm_backward": Kernel(6, 2, "dx + residual gradient, and dweight"),
    "add_layer_norm": Kernel(4, 4, "residual add, sum kept, then norm"),
    "layer_norm_backward": Kernel(6, 2, "dx + residual gradient, dweight and dbias"),
    "silu_mul": Kernel(4, 2, "y = silu(gate)·up from two tensors"),
    "silu_mul_backward": Kernel(6, 4, "dgate and dup from dy, gate, up"),
    "silu_mul_halves": Kernel(4, 2, "silu(gate)·up of one tensor's halves; cols is the output's"),
    "silu_mul_halves_backward": Kernel(6, 4, "dgate and dup as halves of one tensor"),
    "gelu": Kernel(2, 2, "gelu_new, fused"),
    "gelu_backward": Kernel(4, 2, "dx from dy, x"),
    "rotary": Kernel(2, 2, "cos and sin computed inside, as traced Llama does"),
    "rotary_backward": Kernel(2, 2, "with the transposing copy"),
    "repeat_heads": Kernel(0.5, 2, "k or v repeated four times to all query heads"),
    "sum_heads": Kernel(2, 0.5, "gradient of k or v summed over the repeats"),
    "cross_entropy": Kernel(2, 0, "online softmax of bf16 logits"),
    "cross_entropy_backward": Kernel(2, 2, "bf16 gradient of the logits"),
}

KERNELS: Final[dict[str, dict[str, Kernel]]] = {
    "native": NATIVE,
    "torch": TORCH,
    "inductor": INDUCTOR,
}


@frozen(kw_only=True)
class MemoryBound:
    """One memory-bound kernel launch.

    Attributes:
        kernel: A key of ``KERNELS[impl]``.
        rows: Leading extent, usually tokens.
        cols: Trailing extent, along which norms and softmax reduce.
        dtype: Type of the model's activations.
        impl: Whose kernel.
    """

    name: ClassVar[str] = "memory_bound"

    kernel: str
    rows: int
    cols: int
    dtype: str = "bf16"
    impl: str = "native"

    @property
    def traffic(self) -> Kernel:
        """Bytes an element of this kernel."""
        return KERNELS[self.impl][self.kernel]

    @property
    def flops(self) -> float:
        """Arithmetic is negligible beside the traffic."""
        return 0.0

    @property
    def bytes(self) -> float:
        """HBM bytes if every element is read and written once."""
        traffic = self.traffic
        return 1.0 * self.rows * self.cols * (traffic.read_bytes + traffic.written_bytes)

    @property
    def working_set_bytes(self) -> float:
        """Bytes that one launch touches."""
        return self.bytes
