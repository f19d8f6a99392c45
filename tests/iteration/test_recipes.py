"""Casts, turns and gathers around 8-bit products, counted by hand for one Llama 3 8B layer."""

from collections import Counter

import pytest

from predictor.case import Case, resolve
from predictor.costs import Origin, load_costs
from predictor.errors import NotPredictable
from predictor.iteration import estimate
from predictor.iteration.implementations.megatron_core_te import STACK
from predictor.iteration.launches import Launch
from predictor.iteration.shape import stages_of, step_shape
from predictor.operators import (
    AllGather,
    Gemm,
    GroupedGemm,
    MemoryBound,
    Optimizer,
    ReduceScatter,
    SendRecv,
)

TOKENS = 4096
CASTS = ("amax", "cast_fp8", "cast_transpose_fp8", "transpose_fp8")


def case(precision, gpu="h100-sxm5-80gb", tensor=1, model="llama3-8b", rings=None, **training):
    return Case.from_dict(
        {
            "model": {"preset": model},
            "training": {"seq_length": TOKENS, "precision": precision} | training,
            "plan": {"tensor_parallel": tensor} | ({} if rings is None else {"tp_overlap": rings}),
            "cluster": {"gpu": gpu, "num_gpus": 8},
            "implementation": "megatron-core-te",
        }
    )


def operators(asked, of="layer"):
    shape = step_shape(resolve(asked).case)
    part = STACK.head(shape) if of == "head" else STACK.layer(shape, shape.layer)
    return tuple(
        [step.operator for step in steps if isinstance(step, Launch)]
        for steps in (part.forward, part.backward)
    )


def casts(launched):
    found = Counter(op.kernel for op in launched if isinstance(op, MemoryBound))
    return tuple(found[name] for name in CASTS)


@pytest.mark.parametrize(
    ("precision", "recipe", "gpu", "tensor", "forward", "backward"),
    [
        # two norm outputs need only be turned; attention's and the activation's are cast
        ("fp8", "delayed", "h100-sxm5-80gb", 1, (0, 0, 2, 2), (0, 0, 4, 0)),
        # sharded operands are turned once gathered: two gradients, two norm outputs
        ("fp8", "delayed", "h100-sxm5-80gb", 2, (0, 0, 2, 0), (0, 2, 2, 4)),
        # norms know their magnitude; a pass finds those of the others
        ("fp8", "current", "h100-sxm5-80gb", 1, (2, 0, 4, 0), (4, 0, 4, 0)),
        # nothing needs turning
        ("fp8", "delayed", "b200-sxm", 1, (0, 2, 0, 0), (0, 4, 0, 0)),
        ("fp8", "blockwise", "h100-sxm5-80gb", 2, (0, 0, 4, 0), (0, 0, 4, 0)),
        ("mxfp8", "mxfp8", "b200-sxm", 2, (0, 0, 4, 0), (0, 0, 4, 0)),
        # every operand is sought, behind norms too, and cast both ways
        ("nvfp4", "nvfp4", "b200-sxm", 1, (4, 0, 4, 0), (4, 0, 4, 0)),
        ("bf16", None, "h100-sxm5-80gb", 2, (0, 0, 0, 0), (0, 0, 0, 0)),
    ],
)
def test_casts_of_a_layer(precision, recipe, gpu, tensor, forward, backward):
    training = {"fp8_recipe": recipe} if recipe else {}
    found = operators(case(precision, gpu, tensor, **training))
    assert (casts(found[0]), casts(found[1])) == (forward, backward)


@pytest.mark.parametrize(
    ("precision", "gpu", "forward", "gradient", "again"),
    [
        ("bf16", "b200-sxm", 2, 2, 2),
        ("fp8", "b200-sxm", 1, 1, 1),
        ("mxfp8", "b200-sxm", 33 / 32, 66 / 32, 33 / 32),  # gradients in both directions
    ],
)
def test_gathers_carry_small_numbers_and_their_scales(precision, gpu, forward, gradient, again):
    ahead, back = operators(case(precision, gpu, tensor=2))
    stream = TOKENS * 4096
    assert [op.bytes for op in ahead if isinstance(op, AllGather)] == [forward * stream] * 2
    expected = [gradient * stream, again * stream] * 2
    assert [op.bytes for op in back if isinstance(op, AllGather)] == expected


def test_products_of_layers_are_small_and_those_of_the_head_are_not():
    for found, dtype in ((operators(case("fp8")), "fp8"), (operators(case("fp8"), "head"), "bf16")):
        products = [op for part in found for op in part if isinstance(op, Gemm)]
        assert {op.dtype for op in products} == {dtype}
        assert all(op.accumulate == (op.kind == "wgrad") for op in products)


def test_weights_are_cast_once_a_step_and_gathered_small():
    asked = resolve(case("fp8")).case
    (stage,) = stages_of(asked, step_shape(asked))
    ((segment, _),) = STACK.optimizer(stage)
    clipped, update, cleared, cast = (launch.operator for launch in segment.launches)
    assert (clipped.kernel, type(update)) == ("scale_fp32", Optimizer)
    assert cleared.bytes == pytest.approx(4.0 * stage.parameters, rel=1e-3)
    matrices = 32 * (4096 * (4096 + 2 * 1024 + 4096) + 3 * 4096 * 14336)
    assert (cast.kernel, cast.rows * cast.cols) == ("cast_transpose_fp8", matrices)
    assert STACK.replicas(stage).gather_bytes == 1.0
    wide = resolve(case("mxfp8", "b200-sxm")).case
    assert STACK.replicas(stages_of(wide, step_shape(wide))[0]).gather_bytes == 2.0


def test_a_recipe_that_nobody_knows_is_refused():
    with pytest.raises(NotPredictable, match="delayed, current, blockwise, mxfp8 and nvfp4"):
        estimate(case("fp8", fp8_recipe="magic"))


@pytest.mark.parametrize(
    ("precision", "gpu", "recipe", "words"),
    [
        ("fp8", "a100-sxm4-80gb", None, "'fp8': a100-sxm4-80gb has no 8-bit products"),
        ("mxfp8", "h100-sxm5-80gb", None, "Hopper has no products with scales of 1 x 32"),
        ("fp8", "h200-sxm5-141gb", "mxfp8", "delayed, current and blockwise run on both"),
    ],
)
def test_a_format_that_a_gpu_has_no_products_of_is_refused(precision, gpu, recipe, words):
    training = {"fp8_recipe": recipe} if recipe else {}
    with pytest.raises(NotPredictable, match=words):
        estimate(case(precision, gpu, **training))


@pytest.mark.parametrize(
    ("recipe", "forward", "backward"),
    [
        # of 2 x 4096 rows an expert product's input, and of its gradient; attention's half has
        # a turn of what its norm wrote, a cast, and two casts backward
        ("delayed", (0, 0, 3, 1), (0, 0, 4, 0)),
        # a pass for the magnitude of each but of what attention's norm wrote
        ("current", (3, 0, 4, 0), (4, 0, 4, 0)),
    ],
)
def test_rows_of_experts_are_cast_before_their_products(recipe, forward, backward):
    found = operators(case("fp8", model="mixtral-8x7b", fp8_recipe=recipe))
    assert (casts(found[0]), casts(found[1])) == (forward, backward)
    for part, products in zip(found, (2, 4), strict=True):
        grouped = [op for op in part if isinstance(op, GroupedGemm)]
        assert [op.dtype for op in grouped] == ["fp8"] * products
        routers = [op for op in part if isinstance(op, Gemm) and op.n == 8]
        assert {op.dtype for op in routers} == {"bf16"}


def test_experts_in_small_numbers_take_less_time():
    seconds = [
        estimate(case(precision, model="mixtral-8x7b", micro_batch_size=1)).iteration_seconds
        for precision in ("bf16", "fp8")
    ]
    assert seconds[1] < seconds[0]


def test_a_published_fp8_step():
    # dgxc-benchmarking v25.02, llama3/finetuning/README_8b.md: 8 x H100, 4 packed micro-batches
    answer = estimate(case("fp8", micro_batch_size=1, global_batch_size=32))
    assert answer.iteration_seconds == pytest.approx(0.95, rel=0.12)


def test_rings_cut_products_into_shares_and_send_as_much():
    whole, cut = (operators(case("bf16", tensor=4, rings=rings)) for rings in (None, True))
    for before, after in zip(whole, cut, strict=True):
        flops = [sum(op.flops for op in part if isinstance(op, Gemm)) for part in (before, after)]
        assert flops[0] == flops[1]
    assert not any(isinstance(op, AllGather | ReduceScatter) for op in cut[0])
    sent = [op.bytes for op in cut[0] if isinstance(op, SendRecv)]
    assert sent == [2 * TOKENS // 4 * 4096] * (4 * 3)  # two gathers and two scatters, three hops
    shares = [op for op in cut[0] if isinstance(op, Gemm)]
    assert [op.m for op in shares] == [TOKENS // 4] * 16
    backward = [op for op in cut[1] if isinstance(op, SendRecv)]
    assert len(backward) == 2 * 3  # gradients of both outputs; the rest is beside whole products
    assert sum(isinstance(op, AllGather) for op in cut[1]) == 2


def test_rings_pay_where_gathers_are_long():
    plain, ring = (
        estimate(case("bf16", tensor=8, rings=rings, micro_batch_size=4)).iteration_seconds
        for rings in (False, True)
    )
    assert ring < plain


@pytest.mark.parametrize("gpu", ["b200-sxm", "gb300"])  # of 9 and 15 PFLOP/s by the datasheet
def test_nvfp4_products_take_half_of_8_bit_ones(gpu):
    found, _ = operators(case("nvfp4", gpu=gpu))
    assert {op.dtype for op in found if isinstance(op, Gemm)} == {"fp4"}
    costs = load_costs(gpu)
    small, eight = (Gemm(m=8192, n=8192, k=8192, dtype=dtype) for dtype in ("fp4", "fp8"))
    answer = costs.predict([small, eight])
    assert answer.seconds[0] == pytest.approx(answer.seconds[1] / 2.0)
    assert Origin(int(answer.origin[0])) is Origin.EXTRAPOLATED
    assert small.bytes == 2 * 8192**2 * 0.5625 + 8192**2 * 2


@pytest.mark.parametrize(("gpu", "dtype"), [("h100-sxm5-80gb", "fp8_block"), ("b200-sxm", "fp8")])
def test_block_scales_cost_hopper_promotions(gpu, dtype):
    found, _ = operators(case("fp8", gpu=gpu, fp8_recipe="blockwise"))
    assert {op.dtype for op in found if isinstance(op, Gemm)} == {dtype}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"gpu": "h100-sxm5-80gb"}, "no 4-bit products"),
        ({"gpu": "b200-sxm", "model": "mixtral-8x7b"}, "with experts"),
    ],
)
def test_nvfp4_is_refused_where_it_cannot_be(asked, words):
    with pytest.raises(NotPredictable, match=words):
        estimate(case("nvfp4", **asked))
