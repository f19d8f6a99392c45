"""NeMo AutoModel: what its replicas send, and published steps."""

import pytest

from predictor.case import Case, resolve
from predictor.iteration import estimate
from predictor.iteration.implementations.nemo_automodel import STACK, replicas
from predictor.iteration.launches import Launch
from predictor.iteration.shape import stages_of, step_shape
from predictor.operators import Attention


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
        calls = [
            step.operator
            for step in (*part.forward, *part.backward, *part.replay)
            if isinstance(step, Launch) and isinstance(step.operator, Attention)
        ]
        assert [call.impl for call in calls] == [impl] * 3
