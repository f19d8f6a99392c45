"""Experts in torchtitan: what a layer launches, sends and gathers."""

import pytest
from launched import first_layer, operators, titan

from predictor.errors import NotPredictable
from predictor.iteration import estimate
from predictor.iteration.launches import Sync
from predictor.operators import AllGather, AllToAll, GroupedGemm


def case(gpus=8, **plan):
    training = {"seq_length": 4096, "micro_batch_size": 1, "recompute": None}
    return titan(gpus=gpus, model="qwen3-30b-a3b", training=training, **plan)


def part_of(**plan):
    return first_layer(case(**plan))


def test_three_grouped_products_forward_and_six_backward():
    part, layer = part_of()
    assert len(operators(part.forward, GroupedGemm)) == 3
    assert len(operators(part.backward, GroupedGemm)) == 6
    rows = {call.tokens for call in operators(part.forward, GroupedGemm)}
    assert rows == {4096 * layer.experts.top_k}


def test_expert_parallelism_exchanges_rows_and_shards_experts_over_their_own_ranks():
    alone, _ = part_of()
    part, layer = part_of(expert_parallel=4)
    assert not operators(alone.forward, AllToAll)
    assert not any(isinstance(step, Sync) for step in alone.forward)
    assert sum(isinstance(step, Sync) for step in part.forward) == 1
    assert [call.bytes for call in operators(part.forward, AllToAll)] == [4096 * 8 * 2 * 2048] * 2
    gathered = {(call.ranks, call.bytes) for call in operators(part.forward, AllGather)}
    dense = layer.parameters - layer.expert_parameters
    assert {(8, 2 * dense), (2, 2 * layer.expert_parameters)} <= gathered


def test_a_step_is_estimated_and_tensor_parallel_experts_are_refused():
    shared = estimate(case(expert_parallel=8))
    assert estimate(case()).memory_bytes_per_gpu > shared.memory_bytes_per_gpu
    with pytest.raises(NotPredictable, match="tensor parallelism"):
        estimate(case(tensor_parallel=2, expert_tensor_parallel=1))
