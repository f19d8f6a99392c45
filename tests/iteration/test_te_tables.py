"""What Megatron-Core adds around Transformer Engine's products, counted by hand."""

import pytest

from predictor.case import Case, resolve
from predictor.iteration.implementations import load
from predictor.iteration.launches import Launch
from predictor.iteration.shape import step_shape
from predictor.operators import MemoryBound

HIDDEN, VOCABULARY, KEYS = 2048, 128_256, 512  # keys: 8 groups of 64


def shape_of(stack="megatron-core-te", model=None, **training):
    raw = {
        "model": {"preset": "llama3.2-1b"} | (model or {}),
        "training": {"seq_length": 4096, **training},
        "plan": {"tensor_parallel": 2 if stack == "megatron-core-te" else 1},
        "cluster": {"gpu": "h100-sxm5-80gb", "num_gpus": 2},
        "implementation": stack,
    }
    asked = resolve(Case.from_dict(raw)).case
    return load(stack), step_shape(asked)


def bytes_of(steps, name):
    return [
        step.operator.rows * step.operator.cols
        for step in steps
        if isinstance(step, Launch)
        and isinstance(step.operator, MemoryBound)
        and step.operator.kernel == name
    ]


@pytest.mark.parametrize(
    ("dtype", "added", "other"),
    [("fp32", "add_fp32", "residual_add"), ("bf16", "residual_add", "add_fp32")],
)
def test_the_tables_gradient_is_made_whole_and_added(dtype, added, other):
    stack, shape = shape_of(gradient_dtype=dtype)
    table = VOCABULARY // 2 * HIDDEN
    backward = stack.embedding(shape).backward
    assert bytes_of(backward, "zero") == [table]
    assert bytes_of(backward, added) == [table]
    assert bytes_of(backward, other) == []


def test_one_program_a_step_adds_no_table():
    stack, shape = shape_of("jax-xla")
    backward = stack.embedding(shape).backward
    assert bytes_of(backward, "zero") == [VOCABULARY * HIDDEN]
    assert bytes_of(backward, "add_fp32") == bytes_of(backward, "residual_add") == []


def test_values_are_copied_and_gradients_put_together_where_positions_are_rotated():
    stack, shape = shape_of()
    part = stack.layer(shape, shape.layer)
    assert bytes_of(part.forward, "copy") == [4096 * KEYS // 2]
    assert bytes_of(part.backward, "copy") == [4096 * (HIDDEN + 2 * KEYS) // 2]
    stack, shape = shape_of(model={"position_embedding": "learned"})
    part = stack.layer(shape, shape.layer)
    assert bytes_of(part.forward, "copy") == bytes_of(part.backward, "copy") == []
