"""NeMo AutoModel: what its replicas send, and published steps."""

import pytest
from launched import kernels, operators

from predictor.case import Case, resolve
from predictor.iteration import estimate
from predictor.iteration.implementations.nemo_automodel import STACK, replicas
from predictor.iteration.launches import Launch
from predictor.iteration.shape import stages_of, step_shape
from predictor.operators import Attention, Gemm


def case(model="qwen3-30b-a3b", gpus=8, experts=8, **training):
    return Case.from_dict(
        {
            "model": {"preset": model},
            "training": {"seq_length": 4096, "micro_batch_size": 4, "global_batch_size": 512}
            | training,
            "plan": {"tensor_parallel": 1, "expert_parallel": experts},
            "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": gpus},
            "implementation": "nemo-automodel",
        }
    )


def test_experts_stay_whole_and_the_rest_is_sharded():
    asked = resolve(case()).case
    shape = step_shape(asked)
    (stage,) = stages_of(asked, shape)
    dense = stage.parameters - stage.expert_parameters
    assert stage.owned_parameters == -(-dense // 8) + stage.expert_parameters
    assert (asked.plan.moe_dispatcher, asked.model.moe.imbalance) == ("deepep", "consecutive")
    assert shape.experts.data.ranks == 1
    sent = replicas(stage)
    assert (sent.reduce, sent.gradient_bytes, sent.gather_bytes) == ("reduce_scatter", 4.0, 2.0)


def test_a_published_step_of_qwen3_is_within_a_quarter():
    # NeMo AutoModel performance summary, 8 x H100, full recompute: 21.773 s
    answer = estimate(case(recompute="full"))
    assert answer.iteration_seconds == pytest.approx(21.773, rel=0.25)
    assert STACK.parallel


def test_attention_with_sinks_is_flex_attention():
    for model, impl in (("gpt-oss-20b", "flash"), ("qwen3-30b-a3b", "cudnn")):
        shape = step_shape(resolve(case(model)).case)
        part = STACK.layer(shape, shape.layer)
        calls = operators((*part.forward, *part.backward, *part.replay), Attention)
        assert [call.impl for call in calls] == [impl] * 3


def test_rotary_embedding_and_dense_activations_are_written_out():
    # gpt_oss/rope_utils.py: x1·cos - x2·sin and x2·cos + x1·sin of halves, put together; twice
    shape = step_shape(resolve(case()).case)
    part = STACK.layer(shape, shape.layer)
    forward, backward = kernels(part.forward), kernels(part.backward)
    assert "rotary" not in forward + backward
    assert [forward.count(name) for name in ("rope_mul", "add", "cat")] == [8, 4, 2]
    assert [backward.count(name) for name in ("rope_mul", "rope_neg", "cat")] == [8, 2, 2]
    assert backward.count("add") == 4 + 2  # of the three products of one input


def test_latent_attention_rotates_complex_numbers():
    # deepseek_v3/rope_utils.py: cast up, complex product, cast down, of queries and keys
    shape = step_shape(resolve(case("deepseek-v3", 256, 64, micro_batch_size=1)).case)
    part = STACK.layer(shape, shape.layer)
    forward = kernels(part.forward)
    assert forward.count("mul_rows_fp32") == forward.count("cast_down") == 2
    assert "silu_mul" not in forward  # shared experts run SiLU and a product
    assert (forward.count("silu"), kernels(part.backward).count("silu_backward")) == (1, 1)


def test_gradients_of_all_but_experts_are_summed_in_fp32_by_a_kernel_of_their_own():
    # torch _fsdp_param.py: ten bytes a weight where micro-batches follow each other, none for one
    for batch, times in ((512, 1), (256, 0)):
        shape = step_shape(resolve(case("deepseek-v3", 64, 64, global_batch_size=batch)).case)
        part = STACK.layer(shape, shape.layer)
        launches = [step.operator for step in part.backward if isinstance(step, Launch)]
        products = [each for each in launches if isinstance(each, Gemm) and each.kind == "wgrad"]
        added = [each for each in launches if getattr(each, "kernel", "") == "accumulate_fp32"]
        assert not any(each.accumulate for each in products)
        weights = sum(each.n * each.k for each in products)
        assert sum(each.rows * each.cols for each in added) == times * weights
        assert weights == pytest.approx(shape.layer.dense_parameters, rel=1e-3)


def test_one_rotary_key_takes_the_sum_of_all_heads_gradients():
    shape = step_shape(resolve(case("deepseek-v3", 256, 64, micro_batch_size=1)).case)
    part, latent = STACK.layer(shape, shape.layer), shape.layer.latent
    launches = [step.operator for step in part.backward if isinstance(step, Launch)]
    (summed,) = (each for each in launches if getattr(each, "kernel", "") == "sum_rows")
    assert summed.bytes == 2 * 4096 * 128 * latent.rope


def test_a_sink_scales_attentions_output():
    shape = step_shape(resolve(case("gpt-oss-20b")).case)
    part = STACK.layer(shape, shape.layer)
    sinks = kernels(part.forward).count("mul_weight") - 1  # the other adds the experts' first bias
    assert (sinks, kernels(part.backward).count("mul")) == (1, 1)


def test_clamps_are_compiled_and_both_biases_added_apart():
    # moe/layers.py: the sum with a bias and its pieces together; a bias' gradient and its pieces
    shape = step_shape(resolve(case("gpt-oss-20b")).case)
    part = STACK.layer(shape, shape.layer)
    wide = 2 * 2880
    for steps, name in ((part.forward, "mul_weight"), (part.backward, "sum_rows")):
        found = [step.operator for step in steps if isinstance(step, Launch)]
        found = [each for each in found if getattr(each, "cols", 0) == wide]
        assert [each.kernel for each in found] == [name, "cat"]
