"""PyTorch's kernels are called on the shapes that the tables claim; runs on the CPU."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from predictor.bench import (  # noqa: E402
    torch_attention,
    torch_grouped_gemm,
    torch_inductor,
    torch_kernels,
    torch_optimizer,
)
from predictor.bench.torch_fill import Fill  # noqa: E402
from predictor.operators import KERNELS, Attention, GroupedGemm, MemoryBound, Optimizer  # noqa: E402

FILL = Fill(device="cpu")
ROWS, COLS = 64, 48
SMALL = {"mean_fp32", "sum_fp32", "sum_rows", "cross_entropy", "amax_fp32", "foreach_norm"}
HALVES = {"rope_neg", "rope_half_copy"}
WRITTEN_OVER = {"zero", "scatter_fp32", "nll_loss_backward_fp32"} | {  # inputs not read
    "foreach_copy",
    "foreach_cast_down",
    "split_copy",
    "chunk_cat",
}
NO_CPU_KERNEL = {"rms_norm_backward"}
READ_TWICE = {"embedding_backward", "layer_norm_backward"}  # by their two kernels


def outputs(recipe: Any) -> list[Any]:
    """Tensors that one launch returns."""
    with torch.no_grad():
        result = recipe.call(*recipe.make())
    return [t for t in (result if isinstance(result, tuple) else (result,)) if t is not None]


def test_every_eager_kernel_has_a_recipe() -> None:
    assert torch_kernels.known() == set(KERNELS["torch"])


def test_every_compiled_kernel_has_a_function() -> None:
    assert set(torch_inductor.functions()) == set(KERNELS["inductor"])


@pytest.mark.parametrize("kernel", sorted(KERNELS["torch"].keys() - NO_CPU_KERNEL))
def test_an_eager_kernel_writes_the_bytes_of_its_traffic(kernel: str) -> None:
    operator = MemoryBound(kernel=kernel, rows=ROWS, cols=COLS, impl="torch")
    written = sum(
        t.numel() * t.element_size() for t in outputs(torch_kernels.recipe(FILL, operator))
    )
    claimed = operator.traffic.written_bytes * ROWS * COLS
    if kernel in SMALL:
        assert claimed == 0
        assert written < 8 * (ROWS + COLS)
    elif kernel == "topk_fp32":
        assert written == ROWS * 8 * (4 + 8)
    elif kernel == "embedding_backward":
        assert written == torch_kernels.TABLE_ROWS * COLS * 2
    else:
        assert claimed <= written <= claimed + 16 * (ROWS + COLS)


@pytest.mark.parametrize("kernel", sorted(KERNELS["torch"].keys() - NO_CPU_KERNEL))
def test_an_eager_kernel_reads_the_bytes_of_its_traffic(kernel: str) -> None:
    operator = MemoryBound(kernel=kernel, rows=ROWS, cols=COLS, impl="torch")
    inputs = torch_kernels.recipe(FILL, operator).make()
    read = sum(t.numel() * t.element_size() for t in inputs)
    claimed = operator.traffic.read_bytes * ROWS * COLS
    tables = 2 * torch_kernels.TABLE_ROWS * COLS if kernel == "embedding" else 0
    factor = 2 if kernel in HALVES | READ_TWICE else 1
    assert claimed <= factor * read
    if not tables and kernel not in WRITTEN_OVER:
        assert read <= factor * claimed + 32 * (ROWS + COLS)


def test_rotary_operands_have_the_strides_of_split_heads() -> None:
    q, cosine = torch_kernels.recipe(
        FILL, MemoryBound(kernel="rope_mul", rows=ROWS, cols=COLS, impl="torch")
    ).make()
    assert q.shape == (1, 32, 2, COLS)
    assert not q.is_contiguous()
    assert q.transpose(1, 2).is_contiguous()
    assert cosine.shape == (1, 1, 2, COLS)
    a, b = torch_kernels.recipe(
        FILL, MemoryBound(kernel="rope_add", rows=ROWS, cols=COLS, impl="torch")
    ).make()
    assert a.stride() != b.stride(), "one operand is strided, the other contiguous"


@pytest.mark.parametrize("kernel", sorted(KERNELS["inductor"]))
def test_a_compiled_kernels_arithmetic_writes_the_bytes_of_its_traffic(kernel: str) -> None:
    operator = MemoryBound(kernel=kernel, rows=ROWS, cols=COLS, impl="inductor")
    function, letters = torch_inductor.functions()[kernel]
    with torch.no_grad():
        result = function(*torch_inductor._inputs(FILL, letters, ROWS, COLS))
    tensors = result if isinstance(result, tuple) else (result,)
    written = sum(t.numel() * t.element_size() for t in tensors)
    claimed = operator.traffic.written_bytes * ROWS * COLS
    assert claimed <= written <= claimed + 16 * (ROWS + COLS)


@pytest.mark.parametrize("kind", ["forward", "backward"])
def test_flash_attention_refuses_what_it_cannot_do(kind: str) -> None:
    operator = Attention(
        batch=1, num_heads=4, num_query_groups=2, seq_length=32, head_dim=16, bias=True, kind=kind
    )
    with pytest.raises(NotImplementedError, match="bias"):
        torch_attention.recipe(FILL, operator)


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("kernel", ["adamw", "adamw_foreach"])
def test_the_optimizer_steps_every_tensor(kernel: str, dtype: str) -> None:
    recipe = torch_optimizer.recipe(
        FILL, Optimizer(kernel=kernel, elements=1000, tensors=4, dtype=dtype, impl="torch")
    )
    inputs = recipe.make()
    before = [p.clone() for p in inputs[2]]
    recipe.call(*inputs)
    assert [len(each) for each in inputs] == [4] * 5
    assert all(not torch.equal(a, b) for a, b in zip(before, inputs[2], strict=True))


@pytest.mark.parametrize(
    ("kind", "shape"), [("forward", (48, 32)), ("dgrad", (48, 16)), ("wgrad", (4, 32, 16))]
)
def test_a_grouped_product_is_called_on_its_operands(
    monkeypatch: pytest.MonkeyPatch, kind: Any, shape: tuple[int, ...]
) -> None:
    operator = GroupedGemm(tokens=48, experts=4, n=32, k=16, kind=kind, skew=1.0, impl="torch")

    def by_expert(a: Any, b: Any, *, offs: Any) -> Any:
        ends = offs.tolist()
        assert ends[-1] == operator.tokens
        starts = [0, *ends[:-1]]
        if b.dim() == 3:
            parts = [a[i:j] @ b[e] for e, (i, j) in enumerate(zip(starts, ends, strict=True))]
            return torch.cat(parts)
        return torch.stack([a[:, i:j] @ b[i:j] for i, j in zip(starts, ends, strict=True)])

    monkeypatch.setattr(torch_grouped_gemm, "_grouped_mm", lambda: by_expert)
    (found,) = outputs(torch_grouped_gemm.recipe(FILL, operator))
    assert tuple(found.shape) == shape


def test_a_grouped_product_that_pytorch_lacks_is_refused() -> None:
    operator = GroupedGemm(tokens=48, experts=4, n=32, k=16, dtype="fp8", impl="torch")
    with pytest.raises(NotImplementedError, match="bf16"):
        torch_grouped_gemm.recipe(FILL, operator)
