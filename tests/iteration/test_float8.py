"""torchao's float8 layers in torchtitan's blocks, counted by hand from their code."""

import pytest
from launched import first_layer, kernels, operators, titan

from predictor.errors import NotPredictable
from predictor.iteration import estimate
from predictor.operators import AllGather, AllReduce, Gemm

HIDDEN, TOKENS = 4096, 2 * 8192


def case_of(tensor=1, gpus=8, model="llama3.1-8b", **training):
    wanted = {"precision": "fp8"} | training
    return titan(gpus=gpus, model=model, training=wanted, tensor_parallel=tensor)


def part_of(**asked):
    return first_layer(case_of(**asked))[0]


def test_every_product_of_a_block_is_in_8_bits():
    part = part_of()
    assert [op.dtype for op in operators(part.forward, Gemm)] == ["fp8"] * 7
    assert [op.dtype for op in operators(part.backward, Gemm)] == ["fp8"] * 14


def test_inputs_are_cast_once_for_all_products_that_read_them():
    """Four inputs forward; backward seven gradients both ways, four inputs and seven weights."""
    part = part_of()
    assert kernels(part.forward).count("amax") == kernels(part.forward).count("cast_fp8") == 4
    assert kernels(part.backward).count("amax") == 7
    assert kernels(part.backward).count("cast_transpose_fp8") == 7 + 4
    assert kernels(part.backward).count("transpose_fp8") == 7


def test_selective_recomputation_keeps_magnitudes_but_no_product():
    plain, again = part_of(), part_of(recompute="selective")
    more = len(operators(again.backward, Gemm)) - len(operators(plain.backward, Gemm))
    assert more == 6
    assert kernels(again.backward).count("amax") == kernels(plain.backward).count("amax")
    bf16 = [part_of(precision="bf16", recompute=how) for how in ("none", "selective")]
    assert len(operators(bf16[1].backward, Gemm)) - len(operators(bf16[0].backward, Gemm)) == 3


def test_weights_are_gathered_in_8_bits():
    small, wide = part_of(), part_of(precision="bf16")
    sizes = [sum(op.bytes for op in operators(p.forward, AllGather)) for p in (small, wide)]
    assert sizes[0] == sizes[1] / 2


def test_tensor_ranks_gather_8_bits_and_agree_on_magnitudes():
    """Two inputs forward; two outputs' gradients backward; row products agree too."""
    part = part_of(tensor=8)
    gathered = [op.bytes for op in operators(part.forward, AllGather)]
    assert gathered == [TOKENS * HIDDEN] * 2
    assert len(operators(part.forward, AllReduce)) == 4


def test_8_bits_are_faster_and_scales_follow_the_step():
    small, wide = (estimate(case_of(precision=p)) for p in ("fp8", "bf16"))
    assert small.iteration_seconds < wide.iteration_seconds
    assert small.case.training.fp8_recipe == "tensorwise"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"fp8_recipe": "rowwise"}, "rowwise"),
        ({"fp8_recipe": "delayed"}, "tensorwise scales only"),
        ({"model": "deepseek-v2-lite"}, "experts|latent"),
    ],
)
def test_other_recipes_and_experts_are_refused(asked, words):
    with pytest.raises(NotPredictable, match=words):
        estimate(case_of(**asked))
