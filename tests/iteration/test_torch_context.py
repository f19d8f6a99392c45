"""PyTorch's context parallelism: work shared evenly, messages and sums counted from its code."""

import pytest
from launched import operators, titan

from predictor.case import resolve
from predictor.iteration import estimate
from predictor.iteration.implementations import torch_context
from predictor.iteration.shape import step_shape
from predictor.operators import AllGather, AllToAll, Attention, MemoryBound

SEQUENCE = 65536


def case(ranks, sequence=SEQUENCE):
    training = {"seq_length": sequence, "micro_batch_size": 1, "global_batch_size": 8}
    return titan(model="llama3-8b", training=training, context_parallel=ranks)


def shape_of(ranks):
    return step_shape(resolve(case(ranks)).case)


@pytest.mark.parametrize("ranks", [2, 4, 8])
@pytest.mark.parametrize("part", [torch_context.forward, torch_context.backward])
def test_ranks_share_the_work_of_attention_evenly(part, ranks):
    alone, shared = shape_of(1), shape_of(ranks)
    (whole,) = operators(part(alone, alone.layer, repeated=True), Attention)
    calls = operators(part(shared, shared.layer, repeated=True), Attention)
    assert len(calls) == ranks
    assert {call.impl for call in calls} == {"flash"}
    assert sum(call.flops for call in calls) == pytest.approx(whole.flops / ranks, rel=1e-3)


def test_keys_and_values_of_all_heads_are_gathered_and_their_gradients_go_round_in_fp32():
    shape = shape_of(4)
    rows = SEQUENCE // 4
    for repeated, columns in ((True, 2 * 4096), (False, 2 * 1024)):
        gathered = operators(
            torch_context.forward(shape, shape.layer, repeated=repeated), AllGather
        )
        assert [op.bytes for op in gathered] == [2 * SEQUENCE * columns]
        back = torch_context.backward(shape, shape.layer, repeated=repeated)
        assert [op.bytes for op in operators(back, AllToAll)] == [4 * rows * columns] * 4


def test_every_further_step_is_merged_by_four_kernels():
    shape = shape_of(4)
    names = [
        op.kernel
        for op in operators(torch_context.forward(shape, shape.layer, repeated=True), MemoryBound)
    ]
    assert names == (["cast_up", *["mul_fp32"] * 3]) * 3 + ["cast_down"]


def test_a_shared_sequence_takes_the_same_work_and_less_memory():
    alone, shared = estimate(case(1)), estimate(case(4))  # one micro-batch and four of a quarter
    assert shared.breakdown["attention"] == pytest.approx(alone.breakdown["attention"], rel=0.2)
    assert shared.memory_bytes_per_gpu < 0.5 * alone.memory_bytes_per_gpu
