"""Launches of one layer of Megatron-LM and its forks, counted by hand from their code.

Layer: h 4096, 32 heads of 128, ffn 16384, micro-batch 2 of 1024 tokens (n = 2048).
"""

import pytest
from launched import first_layer, kernels, operators

from predictor.case import Case, resolve
from predictor.iteration import estimate
from predictor.iteration.implementations import load
from predictor.iteration.launches import BARE_LAUNCH, Launch, Section, Sync
from predictor.iteration.shape import stages_of, step_shape
from predictor.operators import (
    AllGather,
    AllReduce,
    Attention,
    Gemm,
    MemoryBound,
    ReduceScatter,
)

N, H, F, S, B, A = 2048, 4096, 16384, 1024, 2, 32
MODEL = {"num_layers": 4, "hidden_size": H, "num_attention_heads": A, "vocab_size": 51200}
STACKS = (
    "megatron-lm-2021",
    "megatron-lm-2022",
    "megatron-deepspeed",
    "bigscience-megatron-deepspeed",
    "zero-bubble",
)


def case(stack, *, tensor=1, position="learned", precision=None, **training):
    model = MODEL | {"position_embedding": position}
    wanted = {"seq_length": S, "micro_batch_size": B, "global_batch_size": 8} | training
    return Case.from_dict(
        {
            "model": model,
            "training": wanted | ({"precision": precision} if precision else {}),
            "plan": {"tensor_parallel": tensor},
            "cluster": {"gpu": "a100-sxm4-80gb", "num_gpus": tensor},
            "implementation": stack,
        }
    )


def part(stack, **asked):
    return first_layer(case(stack, **asked))[0]


def flops(steps):
    return sum(gemm.flops for gemm in operators(steps, Gemm))


@pytest.mark.parametrize("stack", STACKS)
def test_products_do_the_flops_of_a_full_square_of_scores(stack):
    found = part(stack, recompute="none")
    forward = 2 * N * (4 * H * H + 2 * H * F) + 4 * B * S * S * H
    assert flops(found.forward) == forward
    assert flops(found.backward) == 2 * forward


def test_forward_kernels_beside_the_products():
    assert kernels(part("megatron-lm-2021").forward) == [
        "layer_norm",
        "mul_weight",
        "softmax_causal",
        "dropout",
        "copy",
        "bias_dropout_add",
        "layer_norm",
        "bias_gelu",
        "bias_dropout_add",
    ]


def test_scores_are_walked_by_softmax_and_dropout():
    scores = B * A * S * S
    moved = {op.kernel: op.bytes for op in operators(part("zero-bubble").forward, MemoryBound)}
    assert moved["softmax_causal"] == 3 * scores
    assert moved["dropout"] == 5 * scores


def test_a_long_sequence_has_no_fused_softmax():
    found = kernels(part("megatron-lm-2021", seq_length=4096, micro_batch_size=1).forward)
    assert "softmax_causal" not in found
    assert found.count("softmax_fp32") == 1


@pytest.mark.parametrize(
    ("stack", "adds"), [("megatron-lm-2021", 4), ("megatron-lm-2022", 0), ("megatron-deepspeed", 0)]
)
def test_only_2021_adds_each_weight_gradient_by_a_kernel(stack, adds):
    assert kernels(part(stack).backward).count("add") == adds


def test_2022_adds_weight_gradients_inside_the_product():
    products = operators(part("megatron-lm-2022").backward, Gemm)
    assert [p.accumulate for p in products if p.kind == "wgrad"] == [True] * 4


def test_2021_sums_over_tensor_ranks_twice_each_way():
    found = part("megatron-lm-2021", tensor=8)
    for steps in (found.forward, found.backward):
        assert [op.bytes for op in operators(steps, AllReduce)] == [2 * N * H] * 2


@pytest.mark.parametrize(
    ("stack", "beside"), [("megatron-lm-2022", True), ("megatron-deepspeed", False)]
)
def test_deepspeed_never_sums_beside_weight_gradients(stack, beside):
    """The sum of an input gradient is queued before its wgrad where it may run beside it."""
    found = part(stack, tensor=8, recompute="none")
    steps = [step for step in found.backward if isinstance(step, Launch)]
    kinds = AllReduce | ReduceScatter
    sums = [at for at, step in enumerate(steps) if isinstance(step.operator, kinds)]
    assert len(sums) == 2
    for at in sums:
        after = steps[at + 1].operator
        assert (isinstance(after, Gemm) and after.kind == "wgrad") is beside


def test_a_stage_of_zero_bubble_does_not_wait_for_the_others_to_step():
    """Two stages of equal layers: what the last waits for its first message is no time of its own.

    With so many micro-batches in flight no stage idles between, so an iteration takes what one
    stage's own passes and step do; a stack that agrees first adds the forward pass before.
    """
    asked = case("zero-bubble", micro_batch_size=1).to_dict()
    asked |= {"cluster": {"gpu": "a100-sxm4-80gb", "num_gpus": 2}}
    seconds = {}
    for schedule in ("zb-2p", "1f1b"):
        asked |= {"plan": {"pipeline_parallel": 2, "schedule": schedule}}
        wanted = resolve(Case.from_dict(asked)).case
        assert load("zero-bubble").agrees(step_shape(wanted)) is (schedule == "1f1b")
        seconds[schedule] = estimate(wanted)
    assert seconds["zb-2p"].bubble_seconds < 0.3 * seconds["1f1b"].bubble_seconds


def test_sequence_parallel_gathers_and_scatters():
    found = part("megatron-lm-2022", tensor=8)
    assert len(operators(found.forward, AllGather)) == 2
    assert len(operators(found.forward, ReduceScatter)) == 2
    assert len(operators(found.backward, AllGather)) == 4
    assert len(operators(found.backward, ReduceScatter)) == 2


def test_selective_recompute_repeats_core_attention_alone():
    plain, replayed = (
        part("megatron-lm-2022", recompute="none"),
        part("megatron-lm-2022", recompute="selective"),
    )
    assert flops(replayed.backward) - flops(plain.backward) == 4 * B * S * S * H
    assert kernels(replayed.backward).count("softmax_causal") == 1


def test_bigscience_waits_for_every_launch_and_averages_what_ranks_share():
    found = part("bigscience-megatron-deepspeed", tensor=4, position="alibi", precision="bf16")
    local = [s for s in found.forward if isinstance(s, Launch) and s.stream == "compute"]
    assert sum(isinstance(step, Sync) for step in found.forward) == len(local)
    small = [op for op in operators(found.forward, AllReduce) if op.bytes == 2 * H]
    assert len(small) == 6
    assert kernels(found.forward).count("fill") == 1


@pytest.mark.parametrize("stack", STACKS)
def test_fp16_is_the_default_but_of_bloom(stack):
    training = resolve(case(stack)).case.training
    bf16 = stack == "bigscience-megatron-deepspeed"
    assert training.precision == ("bf16" if bf16 else "fp16")
    assert training.gradient_dtype == ("fp32" if bf16 else "fp16")


@pytest.mark.parametrize(
    ("precision", "added", "sharding"),
    [("fp16", ["add"], "none"), ("bf16", ["cast_up", "add_fp32"], "optimizer")],
)
def test_deepspeed_adds_bf16_gradients_to_fp32_ones_and_splits_its_states(
    precision, added, sharding
):
    """``get_data_types`` and ``BF16_Optimizer`` of DeepSpeed 0.9.5."""
    raw = case("megatron-deepspeed", precision=precision).to_dict()
    raw |= {"cluster": {"gpu": "a100-sxm4-80gb", "num_gpus": 2}}
    wanted = resolve(Case.from_dict(raw)).case
    assert wanted.plan.sharding == sharding
    stack = load("megatron-deepspeed")
    (stage,) = stages_of(wanted, step_shape(wanted))
    ((segment, times),) = stack.accumulate(stage)
    assert kernels(segment.steps) == added
    assert times == stage.tensors
    sent = stack.replicas(stage)
    assert sent.gradient_bytes == (2 if precision == "fp16" else 4)
    assert sent.reduce == "all_reduce"


def test_scores_are_kept_unless_core_attention_is_replayed():
    kept = [
        estimate(case("megatron-lm-2022", recompute=how)).memory_parts["activations"]
        for how in ("none", "selective")
    ]
    layers = 4 - 1  # one layer's are there while it is replayed
    assert kept[0] - kept[1] == layers * 5 * B * A * S * S


def test_launches_bind_small_micro_batches():
    narrow = estimate(case("megatron-deepspeed", tensor=8, micro_batch_size=1, global_batch_size=8))
    assert narrow.breakdown["host"] > 0.4 * narrow.iteration_seconds


def test_a_rank_s_share_of_the_vocabulary_is_padded():
    wanted = resolve(case("megatron-lm-2021", tensor=2)).case
    assert step_shape(wanted, vocab_multiple=128).vocab == 51200 // 2
    odd = resolve(Case.from_dict(wanted.to_dict() | {"model": {**MODEL, "vocab_size": 50257}})).case
    assert step_shape(odd, vocab_multiple=128).vocab == 197 * 128
    assert step_shape(odd).vocab == 25129


def zero_3_layer(hidden=H):
    asked = case("deepspeed").to_dict()
    asked["model"] |= {"hidden_size": hidden, "ffn_hidden_size": 4 * hidden}
    asked |= {"plan": {"tensor_parallel": 1, "sharding": "parameters"}}
    asked |= {"cluster": {"gpu": "a100-sxm4-80gb", "num_gpus": 4}}
    shape = step_shape(resolve(Case.from_dict(asked)).case)
    return load("deepspeed").layer(shape, shape.layer)


def test_zero_3_gathers_the_weight_that_comes_next_and_keeps_the_last_of_a_replay():
    found = zero_3_layer()
    qkv, out, up, down = 2 * H * 3 * H, 2 * H * H, 2 * H * F, 2 * H * F
    gathered = [
        [op.bytes for op in operators(steps, AllGather)]
        for steps in (found.forward, found.replay, found.backward)
    ]
    assert gathered == [[out, up, down, qkv], [out, up, down, up], [out, qkv, qkv]]
    scattered = [op.bytes for op in operators(found.backward, ReduceScatter)]
    assert scattered == [down, up, out, qkv]


def test_zero_3_fetches_no_weight_ahead_beside_a_billion_parameters():
    found = zero_3_layer(hidden=32768)  # the narrowest matrix has 1.07 billion
    qkv, out, up, down = (2 * 32768**2 * times for times in (3, 1, 4, 4))
    assert [op.bytes for op in operators(found.forward, AllGather)] == [qkv, out, up, down]
    assert [op.bytes for op in operators(found.backward, AllGather)] == [down, up, out, qkv]


def test_a_list_of_slices_costs_a_launch_for_every_rank():
    found = zero_3_layer()
    copies = [step for step in found.forward if isinstance(step, Launch) and step.kernels == 4]
    assert [step.stream for step in copies] == ["gather"] * 4
    sections = [step.host for step in found.forward if isinstance(step, Section) and step.host]
    assert sections == [((BARE_LAUNCH, 1.7 * 4),)] * 4
    assert sum(isinstance(step, Sync) for step in found.forward) == 4


def internevo(*, tensor=1):
    model = {"preset": "llama2-7b"}
    asked = case("internevo", tensor=tensor).to_dict() | {"model": model}
    shape = step_shape(resolve(Case.from_dict(asked)).case)
    return shape, load("internevo").layer(shape, shape.layer)


def test_internevo_runs_early_flash_attention_and_plain_weight_gradients():
    shape, found = internevo()
    assert shape.gradient_bytes == 2
    for steps in (found.forward, found.replay, found.backward):
        assert [op.impl for op in operators(steps, Attention)] == ["flash", "flash"]
    assert not any(op.accumulate for op in operators(found.backward, Gemm))


def test_internevo_makes_norms_again_once_with_and_without_a_replay():
    _, found = internevo()
    copies = kernels(found.forward).count("cast_up")
    assert copies == 2  # an fp32 copy before each norm
    assert kernels(found.replay).count("cast_up") == 0
    assert kernels(found.backward).count("cast_up") == 2 * copies  # again, and Apex' fp32 gradients


def test_internevo_sums_input_gradients_of_three_products_beside_their_weight_gradients():
    _, found = internevo(tensor=2)
    kinds = [
        step.operator.kind if isinstance(step.operator, Gemm) else step.operator.name
        for step in found.backward
        if isinstance(step, Launch) and step.operator.name in {"gemm", "all_reduce"}
    ]
    assert kinds == [
        *("dgrad", "wgrad"),  # down
        *2 * ("dgrad", "all_reduce", "wgrad"),  # gate and up, each with a sum of its own
        *("dgrad", "wgrad"),  # output
        *("dgrad", "all_reduce", "wgrad"),  # queries, keys and values
    ]


@pytest.mark.parametrize(
    ("stack", "recompute"),
    [("megatron-lm-2021", "full"), ("megatron-lm-2022", "selective"), ("zero-bubble", "none")],
)
def test_what_is_recomputed_where_a_case_is_silent(stack, recompute):
    assert resolve(case(stack)).case.training.recompute == recompute


def test_2021_without_a_pipeline_takes_a_replica_s_batch_at_once():
    asked = case("megatron-lm-2021", micro_batch_size=None)
    assert resolve(asked).case.training.micro_batch_size == 8


@pytest.mark.parametrize(
    ("micro_batch", "tensor", "fused"), [(1, 8, True), (1, 16, False), (2, 16, True)]
)
def test_the_fused_softmax_takes_whole_fours_of_heads(micro_batch, tensor, fused):
    """32 heads on 16 ranks are two heads a rank: one sequence of them runs five eager kernels."""
    found = kernels(part("megatron-lm-2022", micro_batch_size=micro_batch, tensor=tensor).forward)
    assert ("softmax_causal" in found) is fused
    assert ("softmax_fp32" in found) is not fused
