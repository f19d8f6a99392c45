"""Parts of a model launch the same however passes, messages and buckets are ordered."""

from dataclasses import replace

import pytest

from predictor.case import Case, resolve
from predictor.iteration.implementations import load
from predictor.iteration.parts import Parts, parts_of
from predictor.iteration.shape import step_shape

PIPELINED = [
    ("mixtral-8x7b", "megatron-core-te"),
    ("deepseek-v2-lite", "megatron-core-te"),
    ("mixtral-8x7b", "megatron-core-local"),
    ("gpt3-6.7b", "megatron-lm-2021"),
    ("gpt3-6.7b", "megatron-lm-2022"),
    ("gpt3-6.7b", "megatron-deepspeed"),
    ("gpt3-6.7b", "bigscience-megatron-deepspeed"),
    ("gpt3-6.7b", "zero-bubble"),
    ("llama2-7b", "nanotron"),
    ("llama2-7b", "internevo"),
    ("qwen3-30b-a3b", "nemo-automodel"),
]
OTHERWISE = {
    "overlap_grad_reduce": True,
    "overlap_param_gather": True,
    "overlap_p2p": True,
    "schedule": "interleaved",
    "chunks": 4,
}


def shape_of(model, implementation):
    asked = Case.from_dict(
        {
            "model": {"preset": model},
            "training": {"seq_length": 2048, "global_batch_size": 16},
            "plan": {"tensor_parallel": 1, "pipeline_parallel": 2},
            "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 8},
            "implementation": implementation,
        }
    )
    return step_shape(resolve(asked).case)


def launched(parts, layer):
    pieces = [parts.piece("embedding"), parts.piece("head and loss")]
    pieces += [parts.piece("layer", layer, replayed=again) for again in (False, True)]
    segments = [each for piece in pieces for each in (piece.forward, piece.backward)]
    return [(segment.steps, segment.host, segment.parameters) for segment in segments]


@pytest.mark.parametrize(("model", "implementation"), PIPELINED)
def test_parts_do_not_mind_what_their_shape_leaves_out(model, implementation):
    stack, shape = load(implementation), shape_of(model, implementation)
    told = [
        launched(Parts(stack, each, split_backward=False), shape.layer)
        for each in (shape, replace(shape, **OTHERWISE), shape.of_parts())
    ]
    assert told[0] == told[1] == told[2]


def test_plans_that_order_passes_otherwise_share_their_parts():
    stack, shape = load("megatron-core-te"), shape_of("llama2-7b", "megatron-core-te")
    other = replace(shape, **OTHERWISE)
    one, same = (parts_of(stack, each.of_parts(), split_backward=False) for each in (shape, other))
    assert one.piece("layer", shape.layer).forward is same.piece("layer", shape.layer).forward
    wider = parts_of(stack, replace(shape, batch=2).of_parts(), split_backward=False)
    assert wider.piece("layer", shape.layer).forward is not one.piece("layer", shape.layer).forward
